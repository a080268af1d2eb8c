"""Register issuers whose assertions stand for clients of ours: `manage.py issuer apply` (docs/adr/0024)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F

from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from . import outbound
from .models import Client, TrustedIssuer
from .protocol.claims import PERSON_SCOPES
from .protocol.fields import MetadataError
from .protocol.trusted_issuers import GRANT_TYPE, TrustedIssuerFacts, check_issuer
from .versions import touch


@dataclass(frozen=True, slots=True)
class AppliedIssuer:
    """What became of one issuer; `changes` names what differs."""

    issuer: str
    created: bool
    changes: tuple[str, ...]


@transaction.atomic
def apply_issuers(items: Any, now: datetime, actor: str) -> list[AppliedIssuer]:  # Any: JSON from outside
    """Create or change issuers; all of them or none.

    What was issued on an issuer's word ends when less is trusted than before, or its keys were changed.
    Raises: MetadataError that names the issuer and the field.
    """
    if not isinstance(items, list):
        raise MetadataError("the file must hold a JSON array of issuers")
    applied = []
    for number, item in enumerate(items, 1):
        label = item.get("issuer", "without issuer") if isinstance(item, dict) else "not an object"
        try:
            checked = check_issuer(item)
            _check_here(checked)
        except MetadataError as problem:
            raise MetadataError(f"issuer {number} ({str(label)[:80]}): {problem}") from None
        applied.append(_apply(checked, now, actor))
    return applied


def _check_here(issuer: TrustedIssuerFacts) -> None:
    """Refuse what this installation could not serve: an address, a client, a scope. Raises: MetadataError."""
    try:
        if issuer.jwks_uri:
            outbound.require_allowed(issuer.jwks_uri)
    except outbound.Refused as problem:
        raise MetadataError(f"jwks_uri: {str(problem).rstrip('.')}") from problem
    clients = {
        client.client_id: client for client in Client.objects.filter(client_id__in=issuer.subjects.values())
    }
    for client_id in issuer.subjects.values():
        if client_id not in clients:
            raise MetadataError(f"subjects: there is no client {client_id!r}")
        if GRANT_TYPE not in clients[client_id].grant_types:
            raise MetadataError(f"subjects: client {client_id} is not registered for {GRANT_TYPE}")
    owned = {
        scope for client in Client.objects.filter(is_resource_server=True) for scope in client.owned_scopes
    }
    for scope in sorted(issuer.scopes):
        if scope in PERSON_SCOPES:
            raise MetadataError(f"scope: {scope} describes a person, and no issuer speaks for people")
        if scope not in owned:
            raise MetadataError(f"scope: {scope} is owned by no resource server")


def _apply(issuer: TrustedIssuerFacts, now: datetime, actor: str) -> AppliedIssuer:
    row = TrustedIssuer.objects.select_for_update().filter(issuer=issuer.issuer).first()
    created = row is None
    row = row or TrustedIssuer(issuer=issuer.issuer, created_at=now)
    before = {} if created else describe_issuer(row)
    named_before = set((row.subjects or {}).values())
    row.jwks = {"keys": [dict(key) for key in issuer.jwks]} if issuer.jwks else None
    row.jwks_uri = issuer.jwks_uri
    row.algorithms = list(issuer.algorithms)
    row.subjects = dict(issuer.subjects)
    row.scopes = sorted(issuer.scopes)
    row.max_life_seconds = issuer.max_life_seconds
    row.enabled = issuer.enabled
    after = describe_issuer(row)
    changes = tuple(name for name in after if before.get(name) != after[name])
    if not changes:
        return AppliedIssuer(issuer.issuer, created=False, changes=())
    row.save()
    if not created:
        # Whoever takes trust back wants what was given on it to end: five minutes can be long.
        Client.objects.filter(client_id__in=named_before).update(generation=F("generation") + 1)
    touch()
    record(
        Event(
            Action.ISSUER_CHANGE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"issuer:{issuer.issuer}",
            details={"changed": ", ".join(changes)},
        )
    )
    return AppliedIssuer(issuer.issuer, created, changes)


def describe_issuer(row: TrustedIssuer) -> dict[str, Any]:  # Any: JSON
    """Return an issuer in the names that `apply_issuers` takes."""
    keys = {"jwks_uri": row.jwks_uri} if row.jwks_uri else {"jwks": row.jwks}
    return {
        "issuer": row.issuer,
        **keys,
        "algorithms": list(row.algorithms),
        "subjects": dict(row.subjects),
        "scope": " ".join(row.scopes),
        "max_life": row.max_life_seconds,
        "enabled": row.enabled,
    }
