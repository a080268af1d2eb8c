"""Create and change clients from metadata: `manage.py client apply`, and registration (registrations.py)."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from iam.access.models import Application
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from . import outbound
from .client_authorities import switched_on_methods
from .facts import client_facts
from .models import AuthorizationDetailType, Client, ClientRegistration
from .protocol.claims import PERSON_SCOPES
from .protocol.client_auth import SECRET_METHODS
from .protocol.delegation import GRANT_TYPE as TOKEN_EXCHANGE
from .protocol.fields import MetadataError
from .protocol.messages import ClientFacts
from .protocol.options import PROFILES
from .protocol.profiles import missing
from .protocol.registration import ClientMetadata, check_metadata, read_metadata
from .secretbox import client_secret_digest
from .sectors import NO_DOCUMENTS, Documents, check_sector, read_documents
from .versions import touch

# What the document of a sector speaks for; it is read again when one of them changes.
_OF_THE_SECTOR = frozenset({"sector_identifier_uri", "redirect_uris"})


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one client: `changes` is (name, before, after), secrets never in it."""

    client_id: str
    created: bool
    changes: tuple[tuple[str, Any, Any], ...]
    generated_secret: str | None

    @property
    def changed_names(self) -> str:
        """Return the names of what changed, for the audit."""
        return ", ".join(name for name, _, _ in self.changes)


def apply_all(items: Any, now: datetime, actor: str) -> list[Applied]:  # Any: JSON from outside
    """Create or change clients; all of them or none.

    Raises: MetadataError that names the client and the field.
    """
    if not isinstance(items, list):
        raise MetadataError("the file must hold a JSON array of clients")
    checked = []
    for number, item in enumerate(items, 1):
        with _named(number, item):
            checked.append(check_metadata(item))
    documents = read_documents(_sectors_to_read(checked))
    with transaction.atomic():
        applied = []
        for number, (item, metadata) in enumerate(zip(items, checked, strict=True), 1):
            with _named(number, item):
                applied.append(_apply(metadata, documents, now, actor))
        _check_scopes()
        _check_resources()
        _check_exchange_pairs()
    return applied


@contextmanager
def _named(number: int, item: Any) -> Iterator[None]:  # Any: as above
    """Let a refusal say which client it is about."""
    label = item.get("client_id", "without client_id") if isinstance(item, dict) else "not an object"
    try:
        yield
    except MetadataError as problem:
        raise MetadataError(f"client {number} ({str(label)[:80]}): {problem}") from None


def _sectors_to_read(items: list[ClientMetadata]) -> Iterator[str]:
    """Return the addresses of sectors whose documents must speak for a client that is new, or changed."""
    for metadata in items:
        uri = metadata.options.sector_identifier_uri
        if not uri:
            continue
        client = Client.objects.filter(client_id=metadata.client_id).first()
        if (
            client is None
            or client.options.get("sector_identifier_uri") != uri
            or list(client.redirect_uri_list) != list(metadata.redirect_uris)
        ):
            yield uri


def _apply(metadata: ClientMetadata, documents: Documents, now: datetime, actor: str) -> Applied:
    applied = write(metadata, documents)
    if applied.created or applied.changes:
        if not applied.created:
            # Who may be trusted by an operator's word is no longer what the client says of itself.
            ClientRegistration.objects.filter(client__client_id=applied.client_id).delete()
        record(
            Event(
                Action.CLIENT_CREATE if applied.created else Action.CLIENT_CHANGE,
                Outcome.SUCCESS,
                actor=actor,
                now=now,
                object=f"client:{applied.client_id}",
                application=metadata.application or "",
                details={"changed": applied.changed_names},
            )
        )
    return applied


def write(metadata: ClientMetadata, documents: Documents = NO_DOCUMENTS) -> Applied:
    """Create or change one client's row, in the caller's transaction; the caller writes the event.

    In: `documents` what was read of sectors, before the transaction. Raises: MetadataError.
    """
    client_id = metadata.client_id or secrets.token_urlsafe(18).replace("_", "-").replace("-", "x")
    before = Client.objects.select_for_update().filter(client_id=client_id).first()
    client = before or Client(client_id=client_id)
    old = describe(client) if before else {}
    old_digest = client.secret_digest
    generated = _set(client, metadata)
    if client.secret_digest != old_digest:
        client.old_secret_digest, client.old_secret_expires_at = "", None
    changes = _difference(
        old, describe(client), secret_changed=before is not None and client.secret_digest != old_digest
    )
    if before is not None and not changes:
        return Applied(client_id, False, (), None)
    if _OF_THE_SECTOR.intersection(name for name, _, _ in changes):
        check_sector(metadata, documents)
    if (before is not None and old_digest and client.secret_digest != old_digest) or (
        before and not client.enabled
    ):
        # A leaked secret is replaced, or an application is switched off, to stop what was issued with it.
        client.generation = F("generation") + 1
    client.save()
    touch()
    return Applied(client_id, before is None, changes, generated)


def _set(client: Client, metadata: ClientMetadata) -> str | None:
    """Write the metadata onto the row; return a secret if one had to be made."""
    public = metadata.token_endpoint_auth_method == "none"
    _check_switched_on(metadata)
    client.name = metadata.client_name or client.client_id
    client.client_type = Client.CLIENT_PUBLIC if public else Client.CLIENT_CONFIDENTIAL
    # The library's own columns mirror ours, so that its tools never see a client that may do more.
    interactive = "authorization_code" in metadata.grant_types
    client.authorization_grant_type = (
        Client.GRANT_AUTHORIZATION_CODE if interactive else Client.GRANT_CLIENT_CREDENTIALS
    )
    client.redirect_uris = " ".join(metadata.redirect_uris)
    client.post_logout_redirect_uris = " ".join(metadata.post_logout_redirect_uris)
    client.skip_authorization = metadata.trusted
    client.token_endpoint_auth_method = metadata.token_endpoint_auth_method
    client.grant_types = list(metadata.grant_types)
    client.redirect_uri_list = list(metadata.redirect_uris)
    client.post_logout_redirect_uri_list = list(metadata.post_logout_redirect_uris)
    client.scope_list = list(metadata.scopes)
    client.is_resource_server = metadata.is_resource_server
    client.owned_scopes = list(metadata.owned_scopes)
    client.id_token_signed_response_alg = metadata.id_token_signed_response_alg
    client.default_max_age_seconds = metadata.default_max_age
    client.require_auth_time = metadata.require_auth_time
    client.default_acr_values = list(metadata.default_acr_values)
    client.initiate_login_uri = metadata.initiate_login_uri
    client.description = dict(metadata.description)
    client.trusted = metadata.trusted
    client.enabled = metadata.enabled
    client.application = _application(metadata.application)
    client.options = metadata.options.as_metadata()
    client.require_pushed_authorization_requests = metadata.options.require_pushed_authorization_requests
    client.client_jwks = {"keys": [dict(key) for key in metadata.jwks]} if metadata.jwks else None
    client.client_jwks_uri = metadata.jwks_uri
    if metadata.token_endpoint_auth_method not in SECRET_METHODS:
        client.secret_digest = ""
        return None
    if metadata.client_secret is not None:
        client.secret_digest = client_secret_digest(metadata.client_secret)
        return None
    if client.secret_digest:
        return None
    secret = secrets.token_urlsafe(32)
    client.secret_digest = client_secret_digest(secret)
    return secret


def _check_switched_on(metadata: ClientMetadata) -> None:
    """Refuse a client that this installation could not serve. Raises: MetadataError."""
    method = metadata.token_endpoint_auth_method
    if method not in switched_on_methods():
        needed = "IAM_TRUSTED_PROXIES and, for tls_client_auth, IAM_CLIENT_CERTIFICATE_CA_FILE"
        raise MetadataError(f"token_endpoint_auth_method {method} is switched off here: set {needed}")
    if metadata.options.tls_client_certificate_bound_access_tokens and not settings.IAM_TRUSTED_PROXIES:
        raise MetadataError(
            "tls_client_certificate_bound_access_tokens is switched off here: set IAM_TRUSTED_PROXIES"
        )
    called = {
        "jwks_uri": metadata.jwks_uri,
        "backchannel_logout_uri": metadata.options.backchannel_logout_uri,
    }
    for name, uri in called.items():
        try:
            if uri:
                outbound.require_allowed(uri)
        except outbound.Refused as problem:
            raise MetadataError(f"{name}: {str(problem).rstrip('.')}") from problem


def _application(code: str | None) -> Application | None:
    if code is None:
        return None
    application = Application.objects.filter(code=code).first()
    if application is None:
        known = ", ".join(Application.objects.order_by("code").values_list("code", flat=True)) or "none yet"
        raise MetadataError(f"application: there is no {code!r} (known: {known})")
    return application


def lacks(client: Client) -> dict[str, list[str]]:
    """Return what a client's registration lacks for each profile, in sentences; [] where it holds it."""
    try:
        metadata = read_metadata(describe(client))
    except MetadataError as problem:  # written by another release, or by hand
        sentence = f"The registration is not right in itself: {problem}."
        return {profile: [sentence] for profile in PROFILES}
    return {profile: missing(metadata, profile) for profile in PROFILES}


def describe(client: Client) -> dict[str, Any]:  # Any: JSON
    """Return a client's metadata in the names that `apply_all` takes, without its secret."""
    described: dict[str, Any] = {
        "client_id": client.client_id,
        "client_name": client.name,
        "redirect_uris": list(client.redirect_uri_list),
        "post_logout_redirect_uris": list(client.post_logout_redirect_uri_list),
        "grant_types": list(client.grant_types),
        "response_types": ["code"] if "authorization_code" in client.grant_types else [],
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
        "scope": " ".join(client.scope_list),
        "id_token_signed_response_alg": client.id_token_signed_response_alg,
        "default_max_age": client.default_max_age_seconds,
        "require_auth_time": client.require_auth_time,
        "default_acr_values": list(client.default_acr_values),
        "initiate_login_uri": client.initiate_login_uri,
        "trusted": client.trusted,
        "application": client.application.code if client.application else None,
        "enabled": client.enabled,
        **client.description,
        **client.options,
    }
    if client.client_jwks:
        described["jwks"] = client.client_jwks
    if client.client_jwks_uri:
        described["jwks_uri"] = client.client_jwks_uri
    if client.is_resource_server:
        described["resource_server"] = list(client.owned_scopes)
    return described


def _difference(
    old: dict[str, Any], new: dict[str, Any], *, secret_changed: bool
) -> tuple[tuple[str, Any, Any], ...]:
    changes = [
        (name, old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if secret_changed:
        changes.append(("client_secret", "(another)", "(new)"))
    return tuple(changes)


def _check_scopes() -> None:
    """Refuse a scope that nobody owns, and one that two resource servers own."""
    owners: dict[str, str] = {}
    clients = list(Client.objects.order_by("client_id"))
    for client in clients:
        for scope in client.owned_scopes if client.is_resource_server else ():
            if scope in owners:
                raise MetadataError(
                    f"scope {scope} is owned by {owners[scope]} and {client.client_id}: one must own it"
                )
            owners[scope] = client.client_id
    for client in clients:
        for scope in client.scope_list:
            if scope not in owners and scope not in PERSON_SCOPES:
                raise MetadataError(
                    f"client {client.client_id}: scope {scope} is owned by no resource server"
                    f" (known: {', '.join([*PERSON_SCOPES, *sorted(owners)])})"
                )


def _check_resources() -> None:
    """Refuse a name that two could answer to, and a list of resources that a client's own scopes contradict."""
    clients = [client_facts(client) for client in Client.objects.order_by("client_id")]
    servers = {client.client_id: client for client in clients if client.is_resource_server}
    taken = {client.client_id: client.client_id for client in clients} | {settings.IAM_ISSUER: "the issuer"}
    for server in servers.values():
        uri = server.options.resource_uri
        if uri and taken.setdefault(uri, server.client_id) != server.client_id:
            raise MetadataError(
                f"client {server.client_id}: resource_uri {uri} is already the name of {taken[uri]}"
            )
    for client in clients:
        listed = client.options.resources
        for name in listed:
            if name not in servers:
                known = ", ".join(servers) or "none"
                raise MetadataError(
                    f"client {client.client_id}: resources: {name!r} is no resource server (known: {known})"
                )
        for server in servers.values() if listed else ():
            needed = client.scopes & server.owned_scopes
            if needed and server.client_id not in listed and server.client_id != client.client_id:
                raise MetadataError(
                    f"client {client.client_id}: scope {min(needed)} belongs to {server.client_id}, which is not"
                    " among its resources"
                )
    _check_detail_types(clients)


def _check_detail_types(clients: list[ClientFacts]) -> None:
    """Refuse a type of authorization details that is not there, or whose owner a client's list of resources leaves out."""
    owners = dict(AuthorizationDetailType.objects.values_list("name", "owner__client_id"))
    for client in clients:
        for name in client.options.authorization_details_types:
            if name not in owners:
                known = ", ".join(sorted(owners)) or "none"
                raise MetadataError(
                    f"client {client.client_id}: authorization_details_types: there is no {name!r} (known: {known})"
                )
            if client.options.resources and owners[name] not in client.options.resources:
                raise MetadataError(
                    f"client {client.client_id}: type {name} belongs to {owners[name]}, which is not among its"
                    " resources"
                )


def _check_exchange_pairs() -> None:
    """Refuse a pair of which one half is missing: who acts for people, and at which resource server (docs/adr/0023)."""
    clients = [client_facts(client) for client in Client.objects.order_by("client_id")]
    servers = {client.client_id for client in clients if client.is_resource_server}
    for client in clients:
        targets = client.options.token_exchange_targets
        if targets and TOKEN_EXCHANGE not in client.grant_types:
            raise MetadataError(
                f"client {client.client_id}: token_exchange_targets needs {TOKEN_EXCHANGE} in grant_types"
            )
        for name in targets:
            if name not in servers or name == client.client_id:
                known = ", ".join(sorted(servers - {client.client_id})) or "none"
                raise MetadataError(
                    f"client {client.client_id}: token_exchange_targets: {name!r} is no other resource server"
                    f" (known: {known})"
                )
