"""Invitations, and the clients that registered themselves with one.

Like `store.py`: what may happen once is one conditional statement whose row count says who won; each has a race test.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from iam.access.models import Application
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from .clients import describe, write
from .models import Client, ClientRegistration, InitialAccessToken
from .ports import Registered, Registration
from .protocol.claims import PERSON_SCOPES
from .protocol.dynamic_registration import INVITATION_PREFIX, Invitation
from .protocol.fields import MetadataError
from .protocol.metadata import GRANT_TYPES
from .protocol.options import PROFILES
from .protocol.registration import ClientMetadata
from .versions import touch

# An invitation is for somebody who is about to act; a forgotten one is somebody else's find.
INVITATION_LIFE_MAX = timedelta(days=90)
USES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an invitation lets its bearer register."""

    application: str
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...]
    profile: str = "standard"


@transaction.atomic
def invite(label: str, bounds: Bounds, uses: int, life: timedelta, now: datetime, actor: str) -> str:
    """Make an invitation and return its token, which is kept nowhere.

    Raises: MetadataError, which names what cannot be.
    """
    application = Application.objects.filter(code=bounds.application).first()
    if application is None:
        known = ", ".join(Application.objects.order_by("code").values_list("code", flat=True)) or "none yet"
        raise MetadataError(f"application: there is no {bounds.application!r} (known: {known})")
    if not label.strip() or len(label) > 100 or not label.isprintable():
        raise MetadataError("label must be 1 to 100 printable characters: whom it is for")
    _check_known("grant type", bounds.grant_types, GRANT_TYPES)
    _check_known("scope", bounds.scopes, (*PERSON_SCOPES, *sorted(_owned_scopes())))
    _check_known("profile", (bounds.profile,), PROFILES)
    if not bounds.grant_types:
        raise MetadataError("grant type: at least one is needed")
    if not 1 <= uses <= USES_MAX:
        raise MetadataError(f"uses must be 1 to {USES_MAX}")
    if not timedelta(0) < life <= INVITATION_LIFE_MAX:
        raise MetadataError(f"days must be 1 to {INVITATION_LIFE_MAX.days}")
    token = INVITATION_PREFIX + secrets.token_urlsafe(32)
    row = InitialAccessToken.objects.create(
        digest=hashlib.sha256(token.encode()).hexdigest(),
        label=label.strip(),
        application=application,
        grant_types=list(bounds.grant_types),
        scopes=list(bounds.scopes),
        profile=bounds.profile,
        uses_left=uses,
        created_by=actor,
        created_at=now,
        expires_at=now + life,
    )
    _record_invitation(Action.INVITATION_CREATE, row, actor, now)
    return token


@transaction.atomic
def end_invitation(number: int, now: datetime, actor: str) -> bool:
    """Take the uses that are left; what was registered with them stays. False when none was left."""
    ended = InitialAccessToken.objects.filter(pk=number, uses_left__gt=0).update(uses_left=0)
    if ended:
        row = InitialAccessToken.objects.select_related("application").get(pk=number)
        _record_invitation(Action.INVITATION_END, row, actor, now)
    return bool(ended)


def _record_invitation(action: Action, row: InitialAccessToken, actor: str, now: datetime) -> None:
    record(
        Event(
            action,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"invitation:{row.pk}",
            application=row.application.code,
            details={"label": row.label},
        )
    )


def _owned_scopes() -> set[str]:
    servers = Client.objects.filter(is_resource_server=True, enabled=True)
    return {scope for server in servers for scope in server.owned_scopes}


def _check_owned(metadata: ClientMetadata) -> None:
    """Refuse a scope that nobody owns any more since the invitation was made; other clients are not named."""
    for scope in sorted(set(metadata.scopes) - {*PERSON_SCOPES} - _owned_scopes()):
        raise MetadataError(f"scope: {scope} is owned by no resource server now")


def _check_known(what: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    for item in given:
        if item not in known:
            raise MetadataError(f"{what}: {item!r} is not one of {', '.join(known)}")


class DatabaseRegistrar:
    """The engine's Registrar, in the transaction of the request."""

    def invitation(self, digest: str, now: datetime) -> Invitation | None:
        """Read an invitation that has a use left; reading uses nothing."""
        row = (
            InitialAccessToken.objects.select_related("application")
            .filter(digest=digest, uses_left__gt=0, expires_at__gt=now)
            .first()
        )
        return _invitation(row) if row else None

    def register(
        self,
        digest: str,
        invitation: Invitation,
        metadata: ClientMetadata,
        access_digest: str,
        request_id: str,
        source: str,
        now: datetime,
    ) -> Registered | None:
        """Use the invitation up and make the client, both or neither."""
        with transaction.atomic():
            used = InitialAccessToken.objects.filter(
                digest=digest, uses_left__gt=0, expires_at__gt=now
            ).update(uses_left=F("uses_left") - 1)
            if not used:
                return None
            _check_owned(metadata)
            applied = write(metadata)
            if not applied.created:
                raise MetadataError("client_id exists already")  # 96 random bits: it does not happen
            client = Client.objects.select_related("application").get(client_id=applied.client_id)
            ClientRegistration.objects.create(
                client=client, invitation_id=invitation.id, access_digest=access_digest, issued_at=now
            )
            _record(
                Action.CLIENT_REGISTER, client, invitation, applied.changed_names, request_id, source, now
            )
        return Registered(client.client_id, now, describe(client), applied.generated_secret)

    def registration(self, client_id: str, access_digest: str) -> Registration | None:
        """Read a registration by its client and its token together."""
        row = (
            ClientRegistration.objects.select_related("client__application", "invitation__application")
            .filter(client__client_id=client_id, access_digest=access_digest, client__enabled=True)
            .first()
        )
        if row is None:
            return None
        registered = Registered(client_id, row.issued_at, describe(row.client))
        return Registration(registered, _invitation(row.invitation), row.client.secret_digest)

    def change(
        self,
        access_digest: str,
        metadata: ClientMetadata,
        new_access_digest: str,
        request_id: str,
        source: str,
        now: datetime,
    ) -> Registered | None:
        """Replace metadata and token, both or neither."""
        with transaction.atomic():
            held = _hold(str(metadata.client_id), access_digest)
            if held is None or not _swap(held, access_digest, new_access_digest):
                return None
            _check_owned(metadata)
            applied = write(metadata)
            client = Client.objects.select_related("application").get(pk=held.client_id)
            invitation = _invitation(held.invitation)
            _record(
                Action.REGISTRATION_CHANGE, client, invitation, applied.changed_names, request_id, source, now
            )
        return Registered(client.client_id, held.issued_at, describe(client), applied.generated_secret)

    def end(self, client_id: str, access_digest: str, request_id: str, source: str, now: datetime) -> bool:
        """Switch the client off: its counter ends its access tokens, its being off everything else."""
        with transaction.atomic():
            held = _hold(client_id, access_digest)
            if held is None or not _swap(held, access_digest, f"ended-{secrets.token_hex(16)}"):
                return False
            invitation = _invitation(held.invitation)
            held.delete()
            Client.objects.filter(pk=held.client_id).update(enabled=False, generation=F("generation") + 1)
            touch()
            client = Client.objects.select_related("application").get(pk=held.client_id)
            _record(Action.REGISTRATION_END, client, invitation, "enabled", request_id, source, now)
        return True


def _hold(client_id: str, access_digest: str) -> ClientRegistration | None:
    """Lock an enabled client and return its registration: an operator's change comes before or after, never between.

    The client's row first and then the registration's, as `clients.apply_all` does, so that no circle closes.
    """
    client = Client.objects.select_for_update().filter(client_id=client_id, enabled=True).first()
    return (
        ClientRegistration.objects.select_related("invitation__application")
        .filter(client=client, access_digest=access_digest)
        .first()
        if client
        else None
    )


def _swap(held: ClientRegistration, access_digest: str, new_access_digest: str) -> bool:
    """Give a registration another token, if the one presented is still its own. One caller wins.

    Only columns of the row itself stand in the condition: after a wait PostgreSQL judges those again, no others.
    """
    rows = ClientRegistration.objects.filter(pk=held.pk, access_digest=access_digest)
    return rows.update(access_digest=new_access_digest) == 1


def _invitation(row: InitialAccessToken) -> Invitation:
    return Invitation(
        id=row.pk,
        label=row.label,
        created_by=row.created_by,
        application=row.application.code,
        grant_types=frozenset(row.grant_types),
        scopes=frozenset(row.scopes),
        profile=row.profile,
        expires_at=row.expires_at,
    )


def _record(
    action: Action,
    client: Client,
    invitation: Invitation,
    changed: str,
    request_id: str,
    source: str,
    now: datetime,
) -> None:
    record(
        Event(
            action,
            Outcome.SUCCESS,
            actor=f"client:{client.client_id}",
            on_behalf_of=invitation.created_by,
            now=now,
            object=f"client:{client.client_id}",
            application=invitation.application,
            method=f"invitation:{invitation.id}",
            request_id=request_id,
            details={"changed": changed, "address": source},
        )
    )
