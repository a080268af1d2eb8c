"""What somebody presents (a cookie, a code, a refresh token): read with all that decides, then used up in one write.

Two statements an operation. The first reads the row, its session and person, the client's name for the session, and
the person's rights. Then the gate decides and the answer is signed, and nobody has it yet. The second is the write
that counts: it holds the session, asks every condition again, consumes, and with it goes all that belongs to it,
the audit's event too (`iam.sql.write`); only if it succeeded the answer leaves. Why: docs/adr/0044.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast
from uuid import UUID

from django.db import connections

from iam import sql
from iam.access.held import HELD, HELD_COLUMNS, Organisation, access_of
from iam.access.policy import EffectiveAccess
from iam.accounts.services import SECRET_LENGTH_MAX, SEEN_EVERY
from iam.audit.record import Event, written

from .ports import CodeFacts, Context, FamilyFacts, Joined, NewFamily, PersonFacts, Presentation
from .protocol.asked import Asked
from .protocol.messages import AuthorizationRequest, ClientFacts, SessionFacts
from .secretbox import derived_key
from .sql import (
    ACTING,
    ENABLED_CLIENT,
    LIVE_SESSION,
    SESSION_END,
    as_json,
    as_time,
    as_uuid,
    execute,
    for_share,
    hold,
)

# The order of `session_facts` and `person_facts`.
SESSION_AND_PERSON = f"""
    s.id, s.generation, u.id, u.sub, u.generation, s.password_at, s.factor_at, s.factor_kind, {SESSION_END},
    u.name_latin, u.name_arabic, u.email, u.language,
    (SELECT l.login FROM accounts_directorylink l WHERE l.user_id = u.id AND l.active ORDER BY l.id LIMIT 1)
"""
# That an application is given tokens is written down so often: a session that nobody uses ends, at most so much early.
USE_NOTED_EVERY = timedelta(seconds=10)
# The order of `_context`.
_CONTEXT = "{of}.auth_time, {of}.acr, {of}.amr, {of}.asked"

# -- read -----------------------------------------------------------------------------------------------------


def _with_rights(head: str, person: str) -> str:
    """Return a statement whose every row is the one row of `head`, and beside it one of what `person` holds.

    Between them stands the version of the organisation. LIMIT keeps PostgreSQL from working out the head again
    for each row.
    """
    return (
        f"SELECT head.*, (SELECT version FROM oauth_installation WHERE id = 1), held.* FROM ({head} LIMIT 1) head"
        f" LEFT JOIN ({HELD.format(person=person)}) held ON 1 = 1"
    )


_BROWSER = _with_rights(
    f"""
    SELECT {SESSION_AND_PERSON}, s.seen_at
    FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
    WHERE s.secret_digest = %(digest)s AND s.ended_at IS NULL AND s.expires_at > %(now)s AND {ACTING}
    """,
    "(SELECT b.user_id FROM accounts_loginsession b WHERE b.secret_digest = %(digest)s)",
)
_REDEEMABLE = f"""
    {{of}}.code = %(digest)s AND {{of}}.application_id = %(client)s AND {{of}}.used_at IS NULL
    AND {{of}}.expires > %(now)s AND {{of}}.redirect_uri = %(redirect_uri)s AND {{of}}.code_challenge = %(challenge)s
    AND COALESCE({{of}}.asked->>'dpop_jkt', %(jkt)s) = %(jkt)s AND EXISTS ({ENABLED_CLIENT})
"""
_CODE = _with_rights(
    f"""
    SELECT g.family_id, g.scope, g.nonce, {_CONTEXT.format(of="g")}, sc.sid, sc.used_at, {SESSION_AND_PERSON}
    FROM oauth_grant g
    JOIN accounts_loginsession s ON s.id = g.session_id AND s.ended_at IS NULL AND s.expires_at > %(now)s
    JOIN accounts_user u ON u.id = s.user_id AND {ACTING}
    LEFT JOIN oauth_sessionclient sc ON sc.session_id = g.session_id AND sc.client_id = g.application_id
    WHERE {_REDEEMABLE.format(of="g")}
    """,
    "(SELECT b.user_id FROM oauth_grant b WHERE b.code = %(digest)s)",
)
_FAMILY = _with_rights(
    f"""
    SELECT f.client_id, f.session_id, f.scope, f.seed, f.position, f.rotated_at, f.expires_at, f.revoked_at,
        {_CONTEXT.format(of="f")}, sc.sid, sc.used_at, {SESSION_AND_PERSON}
    FROM oauth_tokenfamily f
    LEFT JOIN accounts_loginsession s ON s.id = f.session_id AND s.ended_at IS NULL AND s.expires_at > %(now)s
    LEFT JOIN accounts_user u ON u.id = s.user_id AND {ACTING}
    LEFT JOIN oauth_sessionclient sc ON sc.session_id = f.session_id AND sc.client_id = f.client_id
    WHERE f.id = %(family)s
    """,
    "(SELECT b.user_id FROM oauth_tokenfamily b WHERE b.id = %(family)s)",
)

# -- written: the decisive writes, and what follows from them --------------------------------------------------

# Session and person as they were read: what is signed says so.
_AS_READ = f"""
    {LIVE_SESSION.format(session="%(session)s")}
    AND s.generation = %(session_generation)s AND u.generation = %(user_generation)s {{hold}}
"""
_INSERT_CODE = f"""
    INSERT INTO oauth_grant (code, expires, redirect_uri, scope, created, updated, code_challenge,
        code_challenge_method, nonce, claims, resource, family_id, auth_time, acr, amr, asked,
        user_id, application_id, session_id)
    SELECT %(digest)s, %(expires)s, %(redirect_uri)s, %(scope)s, %(now)s, %(now)s, %(challenge)s,
        'S256', %(nonce)s, '', %(resource)s, %(family)s, %(auth_time)s, %(acr)s, %(amr)s,
        %(asked)s, %(user)s, %(client)s, %(session)s
    WHERE EXISTS ({_AS_READ}) AND EXISTS ({ENABLED_CLIENT}) RETURNING 1
"""
_CONSUME = f"""
    UPDATE oauth_grant SET used_at = %(now)s
    WHERE {_REDEEMABLE.format(of="oauth_grant")} AND oauth_grant.session_id = %(session)s AND EXISTS ({_AS_READ})
    RETURNING 1
"""
# What the gate refuses is used up all the same.
_DISCARD = f"UPDATE oauth_grant SET used_at = %(now)s WHERE {_REDEEMABLE.format(of='oauth_grant')}"
_STANDING_FAMILY = f"""
    id = %(family)s AND client_id = %(client)s AND session_id = %(session)s AND position = %(number)s
    AND revoked_at IS NULL AND expires_at > %(now)s AND EXISTS ({_AS_READ}) AND EXISTS ({ENABLED_CLIENT})
"""
_ROTATE = f"""
    UPDATE oauth_tokenfamily SET position = position + 1, rotated_at = %(now)s WHERE {_STANDING_FAMILY} RETURNING 1
"""
_HOLD_FAMILY = f"SELECT 1 FROM oauth_tokenfamily f WHERE {_STANDING_FAMILY} {{hold_family}}"
_HOLD_SESSION = f"{_AS_READ}"
_OPEN_FAMILY = (
    "INSERT INTO oauth_tokenfamily (id, session_id, client_id, user_id, scope, auth_time, acr, amr, asked, seed,"
    " position, created_at, expires_at, revoke_reason) SELECT %(family)s, %(session)s, %(client)s, %(user)s,"
    " %(scope)s, %(auth_time)s, %(acr)s, %(amr)s, %(asked)s, %(seed)s, 0, %(now)s, %(family_expires)s, '' "
    + sql.WON
)
_JOIN = (
    "INSERT INTO oauth_sessionclient (session_id, client_id, sid, created_at, used_at)"
    f" SELECT %(session)s, %(client)s, %(sid)s, %(now)s, %(now)s {sql.WON}"
    " ON CONFLICT (session_id, client_id) DO UPDATE SET used_at = excluded.used_at"
)


def sid_of(session_id: UUID, client: ClientFacts) -> str:
    """Return the client's own name of a session; whoever makes it first, and two at once, make the same one.

    Not to be told from a random one, and different at each client. Spec: OIDC Back-Channel Logout §2.1.
    """
    named = hmac.digest(derived_key("sid"), b"%s %d" % (session_id.bytes, client.pk), hashlib.sha256)
    return urlsafe_b64encode(named[:24]).decode()


class Presented:
    """The reads and the writes, on Django's connection of this thread; a part of `store.DatabaseStore`."""

    def __init__(self, organisation: Organisation | None = None, version: int = -1) -> None:
        """Remember nothing yet. In: the organisation as this request knows it, and of which version that is."""
        self._organisation = organisation, version
        self.people: dict[UUID, PersonFacts] = {}  # whom this request met
        self.rights: dict[UUID, EffectiveAccess] = {}  # and what they hold

    # -- read -------------------------------------------------------------------------------------------------

    def session_of_browser(self, secret: str, now: datetime, idle: timedelta) -> SessionFacts | None:
        """Read the live session of a browser by the secret of its cookie; note now and then that it was seen."""
        if len(secret) > SECRET_LENGTH_MAX:
            return None
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found = sql.rows(_BROWSER, {"digest": digest, "now": now}, 16)
        if not found:
            return None
        row = found[0]
        seen_at = as_time(row[14])
        if now - seen_at > idle:
            return None
        session = self.met(row[:14])
        self._note_rights(session, found, now)
        if now - seen_at > SEEN_EVERY:
            execute(
                "UPDATE accounts_loginsession SET seen_at = %(now)s WHERE id = %(session)s AND seen_at < %(now)s",
                {"session": session.id, "now": now},
            )
        return session

    def presented_code(self, code: Presentation, now: datetime) -> tuple[CodeFacts, Joined] | None:
        """Read a code that can be consumed now, with its live session. Consumes nothing: `redeem_code` does."""
        found = sql.rows(_CODE, _presentation(code, now), 24)
        if not found:
            return None
        family_id, scope, nonce, *worth = found[0][:7]
        joined = self._joined(code.client, found[0][7:23], now)
        if joined is None:
            return None
        self._note_rights(joined.session, found, now)
        context, asked = _context(worth)
        facts = CodeFacts(as_uuid(family_id), joined.session.id, tuple(scope.split()), nonce, context, asked)
        return facts, joined

    def presented_family(
        self, family_id: UUID, client: ClientFacts, now: datetime
    ) -> tuple[FamilyFacts, Joined | None] | None:
        """Read a family, and its session while that is live, of a person who is active."""
        found = sql.rows(_FAMILY, {"family": family_id, "now": now}, 29)
        if not found:
            return None
        client_pk, session_id, scope, seed, position, rotated, expires, revoked, *worth = found[0][:12]
        context, asked = _context(worth)
        joined = self._joined(client, found[0][12:28], now) if client_pk == client.pk else None
        facts = FamilyFacts(
            family_id,
            client_pk,
            as_uuid(session_id),
            joined.session.sub if joined else "",
            tuple(scope.split()),
            bytes(seed),
            position,
            as_time(rotated) if rotated else None,
            as_time(expires),
            revoked is not None,
            context,
            asked,
        )
        if joined is not None:
            self._note_rights(joined.session, found, now)
        return facts, joined

    def met(self, row: Sequence[Any]) -> SessionFacts:  # Any: a row of SESSION_AND_PERSON
        """Return a session, and remember its person for the rest of the request."""
        session = session_facts(row[:9])
        self.people[session.user_id] = person_facts(session, row[9:14])
        return session

    def _joined(
        self, client: ClientFacts, row: Sequence[Any], now: datetime
    ) -> Joined | None:  # Any: sid, when it was used last, then as above
        sid, used_at, session_id, _, user_id = row[:5]
        if session_id is None or user_id is None:
            return None
        session = self.met(row[2:])
        noted = used_at is not None and now - as_time(used_at) < USE_NOTED_EVERY
        return Joined(session, sid or sid_of(session.id, client), noted)

    def _note_rights(self, session: SessionFacts, found: Sequence[sql.Row], now: datetime) -> None:
        """Keep what a person holds, if the organisation that this request knows is the one of the same instant."""
        organisation, version = self._organisation
        if organisation is not None and found[0][-HELD_COLUMNS - 1] == version:
            held = [row[-HELD_COLUMNS:] for row in found]
            self.rights[session.user_id] = access_of(
                [row for row in held if row[0] is not None], organisation, now
            )

    # -- written ----------------------------------------------------------------------------------------------

    def insert_code(
        self,
        digest: str,
        client: ClientFacts,
        session: SessionFacts,
        request: AuthorizationRequest,
        context: Context,
        family_id: UUID,
        expires_at: datetime,
        event: object,
        now: datetime,
    ) -> bool:
        """Store a code's digest. False when the session, the person or the client is not good any more."""
        values = {
            **_as_read(session, client, now),
            **_worth(context, request.asked),
            "digest": digest,
            "expires": expires_at,
            "redirect_uri": request.redirect_uri,
            "scope": " ".join(request.scopes),
            "challenge": request.code_challenge,
            "nonce": request.nonce or "",
            "resource": "[]",
            "family": family_id,
        }
        return _write(_INSERT_CODE, [], values, event)

    def redeem_code(
        self, code: Presentation, joined: Joined, family: NewFamily | None, event: object, now: datetime
    ) -> bool:
        """Consume a code, once, and begin its family. Spec: RFC 6749 §4.1.2, §4.1.3; RFC 7636 §4.6; RFC 9449 §10."""
        values = {**_presentation(code, now), **_as_read(joined.session, code.client, now)}
        following = []
        if family is not None:
            values |= _new_family(family, joined.session)
            following.append(_OPEN_FAMILY)
        return _write(_CONSUME, following, values, event, joined)

    def discard_code(self, code: Presentation, now: datetime) -> None:
        """Consume a code that gives nothing."""
        execute(_DISCARD, _presentation(code, now))

    def open_family(
        self, client: ClientFacts, joined: Joined, family: NewFamily, event: object, now: datetime
    ) -> bool:
        """Begin a family at position 0, if its session is held still; it ends with the session at the latest."""
        values = {**_as_read(joined.session, client, now), **_new_family(family, joined.session)}
        return _write(_HOLD_SESSION, [_OPEN_FAMILY], values, event, joined)

    def rotate_family(
        self, family_id: UUID, client: ClientFacts, joined: Joined, number: int, event: object, now: datetime
    ) -> bool:
        """Move a live family from `number` to the next position. One caller wins. Spec: RFC 9700 §4.14.2."""
        values = {**_as_read(joined.session, client, now), "family": family_id, "number": number}
        return _write(_ROTATE, [], values, event, joined)

    def hold_family(
        self, family_id: UUID, client: ClientFacts, joined: Joined, number: int, event: object, now: datetime
    ) -> bool:
        """Hold a live family where it stands: it is revoked after this, or was before. Spec: RFC 9700 §4.14.2."""
        values = {**_as_read(joined.session, client, now), "family": family_id, "number": number}
        return _write(_HOLD_FAMILY, [], values, event, joined)

    def issue_again(self, client: ClientFacts, joined: Joined, event: object, now: datetime) -> bool:
        """Write what goes with one more answer in a live session: it ends after this, or had ended."""
        return _write(_HOLD_SESSION, [], _as_read(joined.session, client, now), event, joined)


def _write(
    decisive: str, following: list[str], values: dict[str, Any], event: object, joined: Joined | None = None
) -> bool:  # Any: what columns hold
    made = written(cast("Event", event))
    if joined is not None and not joined.noted:
        values["sid"] = joined.sid
        following = [*following, _JOIN]
    return sql.write(
        _locking(decisive, connections["default"].vendor),
        [*following, *made.following],
        {**values, **made.values},
    )


@cache
def _locking(decisive: str, _vendor: str) -> str:
    return decisive.format(hold=hold(), hold_family=for_share("f"))


def _presentation(code: Presentation, now: datetime) -> dict[str, Any]:  # Any: as above
    return {
        "digest": code.digest,
        "client": code.client.pk,
        "redirect_uri": code.redirect_uri,
        "challenge": code.challenge,
        "jkt": code.jkt,
        "now": now,
    }


def _as_read(session: SessionFacts, client: ClientFacts, now: datetime) -> dict[str, Any]:  # Any: as above
    return {
        "session": session.id,
        "session_generation": session.generation,
        "user": session.user_id,
        "user_generation": session.user_generation,
        "client": client.pk,
        "now": now,
    }


def _new_family(family: NewFamily, session: SessionFacts) -> dict[str, Any]:  # Any: as above
    return {
        **_worth(family.context, family.asked),
        "family": family.id,
        "scope": " ".join(family.scopes),
        "seed": family.seed,
        "family_expires": session.expires_at,
    }


def _worth(context: Context, asked: Asked) -> dict[str, Any]:  # Any: as above
    return {
        "auth_time": context.auth_time,
        "acr": context.acr,
        "amr": json.dumps(list(context.amr)),
        "asked": json.dumps(asked.as_json()),
    }


def _context(row: Sequence[Any]) -> tuple[Context, Asked]:  # Any: columns of _CONTEXT
    auth_time, acr, amr, asked = row
    return Context(acr, tuple(as_json(amr)), as_time(auth_time)), Asked.from_json(as_json(asked))


def person_facts(session: SessionFacts, row: Sequence[Any]) -> PersonFacts:  # Any: a database row
    """Turn names and login, as they stand in a row beside a session's columns, into a value."""
    latin, arabic, email, language, login = row
    return PersonFacts(session.user_id, session.sub, latin, arabic, email, language, login or "")


def session_facts(row: Sequence[Any]) -> SessionFacts:  # Any: a database row
    """Turn a session's columns into a value."""
    sid, generation, user_id, sub, user_generation, password_at, factor_at, factor_kind, expires_at = row
    return SessionFacts(
        as_uuid(sid),
        generation,
        as_uuid(user_id),
        sub,
        user_generation,
        as_time(password_at),
        as_time(factor_at) if factor_at else None,
        factor_kind,
        as_time(expires_at),
    )
