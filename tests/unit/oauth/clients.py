"""A client as the engine sees it, for tests of pure functions."""

from typing import Any

from iam.oauth.protocol.messages import ClientFacts


def client(**changes: Any) -> ClientFacts:
    """Return a confidential client with a few scopes."""
    facts: dict[str, Any] = {
        "pk": 1, "client_id": "app", "name": "App", "application": None, "enabled": True, "trusted": False,
        "auth_method": "client_secret_basic", "secret_digest": "", "grant_types": frozenset({"authorization_code"}),
        "redirect_uris": ("https://app.example/cb",), "post_logout_redirect_uris": (),
        "scopes": frozenset({"openid", "profile", "email"}), "is_resource_server": False, "owned_scopes": frozenset(),
        "id_token_alg": "ES256", "default_max_age": None, "default_acr_values": (), "generation": 0,
    }  # fmt: skip
    return ClientFacts(**{**facts, **changes})
