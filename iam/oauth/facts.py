"""Turn rows into the values that the engine knows."""

from .models import Client, TrustedIssuer
from .protocol.messages import ClientFacts
from .protocol.options import stored_options
from .protocol.trusted_issuers import TrustedIssuerFacts


def client_facts(client: Client) -> ClientFacts:
    """Turn a client's row into the value that the engine knows."""
    return ClientFacts(
        pk=client.pk,
        client_id=client.client_id,
        name=client.name,
        application=client.application.code if client.application else None,
        enabled=client.enabled,
        trusted=client.trusted,
        auth_method=client.token_endpoint_auth_method,
        secret_digest=client.secret_digest,
        grant_types=frozenset(client.grant_types),
        redirect_uris=tuple(client.redirect_uri_list),
        post_logout_redirect_uris=tuple(client.post_logout_redirect_uri_list),
        scopes=frozenset(client.scope_list),
        is_resource_server=client.is_resource_server,
        owned_scopes=frozenset(client.owned_scopes),
        id_token_alg=client.id_token_signed_response_alg,
        default_max_age=client.default_max_age_seconds,
        default_acr_values=tuple(client.default_acr_values),
        generation=client.generation,
        options=stored_options(client.options),
        jwks=tuple((client.client_jwks or {}).get("keys", ())),
        jwks_uri=client.client_jwks_uri,
        old_secret_digest=client.old_secret_digest,
        old_secret_expires_at=client.old_secret_expires_at,
    )


def issuer_facts(row: TrustedIssuer) -> TrustedIssuerFacts:
    """Turn a trusted issuer's row into the value that the engine knows."""
    return TrustedIssuerFacts(
        issuer=row.issuer,
        jwks=tuple((row.jwks or {}).get("keys", ())),
        jwks_uri=row.jwks_uri,
        algorithms=tuple(row.algorithms),
        subjects=dict(row.subjects),
        scopes=frozenset(row.scopes),
        max_life_seconds=row.max_life_seconds,
        enabled=row.enabled,
    )
