"""What a request keeps and reads of codes, families, sessions and tokens. What consumes is one conditional write.

Plain SQL, because what counts is what stands in one statement: a condition that is read first and
written later is a race. The text is the same for PostgreSQL and SQLite; the row count, never a
previous read, says who won. Every such statement has a race test. What is presented by a browser or a client, and
used up, is in presented.py.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from .ports import Bearer, Context, EndedSession, FamilyFacts, PersonFacts, UsedCode
from .presented import SESSION_AND_PERSON, Presented, person_facts, session_facts, sid_of
from .protocol.asked import Asked
from .protocol.claims import ACCESS_TOKEN_LIFE, parse_generation
from .protocol.messages import ClientFacts, SessionFacts
from .sql import ACTING as _ACTING
from .sql import ENABLED_CLIENT as _ENABLED_CLIENT
from .sql import as_json as _json
from .sql import as_time as _time
from .sql import as_uuid as _uuid
from .sql import execute as _execute
from .sql import hold as _hold
from .sql import one as _one

# A denylist entry outlives every token that it denies, and a little more for clocks that differ.
_DENYLIST_MARGIN = timedelta(seconds=30)

# Once: of any number of callers one deletes the row. What is deleted needs no memory, for its replay revokes nothing.
_TAKE_PUSHED = f"""
    DELETE FROM oauth_pushedrequest
    WHERE digest = %(digest)s AND client_id = %(client)s AND expires_at > %(now)s AND EXISTS ({_ENABLED_CLIENT})
    RETURNING parameters
"""

_SESSION = f"""
    SELECT {SESSION_AND_PERSON}
    FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
    WHERE s.id = %(session)s AND s.ended_at IS NULL AND s.expires_at > %(now)s AND {_ACTING} {{hold}}
"""
_PERSON = """
    SELECT u.sub, u.name_latin, u.name_arabic, u.email, u.language,
        (SELECT l.login FROM accounts_directorylink l WHERE l.user_id = u.id AND l.active ORDER BY l.id LIMIT 1)
    FROM accounts_user u WHERE u.id = %(user)s
"""

_BEARER_PERSON = f"""
    SELECT {SESSION_AND_PERSON}
    FROM oauth_sessionclient sc
    JOIN accounts_loginsession s ON s.id = sc.session_id
    JOIN accounts_user u ON u.id = s.user_id
    JOIN oauth_client c ON c.id = sc.client_id
    JOIN oauth_installation i ON i.id = 1
    WHERE sc.sid = %(sid)s AND sc.client_id = %(client)s
      AND i.generation = %(g0)s AND u.generation = %(g1)s AND c.generation = %(g2)s AND s.generation = %(g3)s
      AND c.enabled AND {_ACTING} AND s.ended_at IS NULL AND s.expires_at > %(now)s
      AND NOT EXISTS (SELECT 1 FROM oauth_revokedtoken r WHERE r.key IN (%(jti)s, %(family)s))
"""

_BEARER_MACHINE = """
    SELECT 1 FROM oauth_client c JOIN oauth_installation i ON i.id = 1
    WHERE c.id = %(client)s AND c.client_id = %(sub)s AND c.enabled
      AND i.generation = %(g0)s AND c.generation = %(g2)s
      AND NOT EXISTS (SELECT 1 FROM oauth_revokedtoken r WHERE r.key = %(jti)s)
"""


class DatabaseStore(Presented):
    """The statements, on Django's connection of this thread, in the transaction of this request."""

    def push_request(
        self, digest: str, client: ClientFacts, parameters: Mapping[str, Any], expires_at: datetime
    ) -> None:
        """Keep a pushed authorization request. Spec: RFC 9126 §2.2."""
        _execute(
            "INSERT INTO oauth_pushedrequest (digest, client_id, parameters, expires_at)"
            " VALUES (%(digest)s, %(client)s, %(parameters)s, %(expires)s)",
            {
                "digest": digest,
                "client": client.pk,
                "parameters": json.dumps(parameters),
                "expires": expires_at,
            },
        )

    def take_pushed(self, digest: str, client: ClientFacts, now: datetime) -> dict[str, Any] | None:
        """Take a pushed request of this client away, once. Spec: RFC 9126 §4, §7.3."""
        row = _one(_TAKE_PUSHED, {"digest": digest, "client": client.pk, "now": now})
        if row is None:
            return None
        return dict(json.loads(row[0]) if isinstance(row[0], str) else row[0])

    def used_code(self, digest: str, now: datetime) -> UsedCode | None:
        """Read a code's row to explain a refusal; decides nothing."""
        row = _one(
            "SELECT g.family_id, g.application_id, u.sub, g.used_at, g.expires FROM oauth_grant g"
            " JOIN accounts_user u ON u.id = g.user_id WHERE g.code = %(digest)s",
            {"digest": digest},
        )
        if row is None:
            return None
        family_id, client_pk, sub, used_at, expires = row
        return UsedCode(_uuid(family_id), client_pk, sub, used_at is not None, _time(expires) <= now)

    def family(self, family_id: UUID) -> FamilyFacts | None:
        """Read a family."""
        row = _one(
            "SELECT f.client_id, f.session_id, u.sub, f.scope, f.seed, f.position, f.rotated_at, f.expires_at,"
            " f.revoked_at, f.auth_time, f.acr, f.amr, f.asked FROM oauth_tokenfamily f"
            " JOIN accounts_user u ON u.id = f.user_id WHERE f.id = %(id)s",
            {"id": family_id},
        )
        if row is None:
            return None
        client_pk, session_id, sub, scope, seed, position, rotated, expires, revoked, *worth, asked = row
        auth_time, acr, amr = worth
        return FamilyFacts(
            family_id,
            client_pk,
            _uuid(session_id),
            sub,
            tuple(scope.split()),
            bytes(seed),
            position,
            _time(rotated) if rotated else None,
            _time(expires),
            revoked is not None,
            Context(acr, tuple(_json(amr)), _time(auth_time)),
            Asked.from_json(_json(asked)),
        )

    def revoke_family(self, family_id: UUID, reason: str, now: datetime) -> None:
        """End a family: its refresh tokens by the row, its access tokens by the denylist. Idempotent."""
        with transaction.atomic():
            _execute(
                "UPDATE oauth_tokenfamily SET revoked_at = %(now)s, revoke_reason = %(reason)s"
                " WHERE id = %(id)s AND revoked_at IS NULL",
                {"id": family_id, "reason": reason, "now": now},
            )
            self.revoke_token(family_id.hex, now + ACCESS_TOKEN_LIFE + _DENYLIST_MARGIN)

    def insert_opaque(
        self,
        digest: str,
        client: ClientFacts,
        user_id: UUID | None,
        claims: Mapping[str, Any],
        expires_at: datetime,
        now: datetime,
    ) -> None:
        """Store an opaque access token; what ends it is what ends a JWT: counters and denylist, not this row."""
        _execute(
            "INSERT INTO oauth_accesstoken (token, token_checksum, expires, scope, resource, created, updated, claims,"
            " user_id, application_id) VALUES ('', %(digest)s, %(expires)s, %(scope)s, '[]', %(now)s, %(now)s,"
            " %(claims)s, %(user)s, %(client)s)",
            {
                "digest": digest,
                "expires": expires_at,
                "scope": claims["scope"],
                "now": now,
                "claims": json.dumps(claims),
                "user": user_id,
                "client": client.pk,
            },
        )

    def opaque_claims(self, digest: str) -> Mapping[str, Any] | None:
        """Read what an opaque access token stands for."""
        row = _one(
            "SELECT claims FROM oauth_accesstoken WHERE token_checksum = %(digest)s", {"digest": digest}
        )
        return dict(_json(row[0])) if row else None

    def revoke_token(self, jti: str, expires_at: datetime) -> None:
        """Put a token, or a family, on the denylist. Idempotent."""
        _execute(
            "INSERT INTO oauth_revokedtoken (key, expires_at) VALUES (%(key)s, %(expires)s)"
            " ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at",
            {"key": jti[:64], "expires": expires_at},
        )

    def use_once(self, purpose: str, identifier: str, expires_at: datetime) -> bool:
        """Use up a `jti`: True for the first of any number of callers. Spec: RFC 7523 §3, RFC 9449 §11.1."""
        key = hashlib.sha256(f"{purpose}\0{identifier}".encode()).hexdigest()
        return (
            _execute(
                "INSERT INTO oauth_usedidentifier (key, expires_at) VALUES (%(key)s, %(expires)s)"
                " ON CONFLICT (key) DO NOTHING",
                {"key": key, "expires": expires_at},
            )
            == 1
        )

    def session(self, session_id: UUID, now: datetime) -> SessionFacts | None:
        """Read a session that is live, of a person who is active."""
        row = _one(_SESSION.format(hold=""), {"session": session_id, "now": now})
        return self.met(row) if row else None

    def person(self, user_id: UUID) -> PersonFacts:
        """Read a person's names, unless they came with a session before. Raises: LookupError, which denies."""
        known = self.people.get(user_id)
        if known is None:
            row = _one(_PERSON, {"user": user_id})
            if row is None:
                raise LookupError("there is no such person")
            sub, latin, arabic, email, language, login = row
            known = PersonFacts(user_id, sub, latin, arabic, email, language, login or "")
            self.people[user_id] = known
        return known

    def hold_session(self, session_id: UUID, now: datetime) -> SessionFacts | None:
        """Read a live session and hold it until the commit: its end comes after what is issued, or came before."""
        row = _one(_SESSION.format(hold=_hold()), {"session": session_id, "now": now})
        return self.met(row) if row else None

    def sid(self, session_id: UUID, client: ClientFacts, now: datetime) -> str:
        """Return the client's own stable `sid`; two that ask at once get the same. Spec: OIDC Back-Channel §2.1."""
        row = _one(
            "INSERT INTO oauth_sessionclient (session_id, client_id, sid, created_at, used_at)"
            " VALUES (%(session)s, %(client)s, %(sid)s, %(now)s, %(now)s)"
            # Touches the row it finds, so that its sid comes back in this one statement.
            " ON CONFLICT (session_id, client_id) DO UPDATE SET used_at = excluded.used_at RETURNING sid",
            {"session": session_id, "client": client.pk, "sid": sid_of(session_id, client), "now": now},
        )
        if row is None:
            raise LookupError("the session ended while its sid was made")
        return str(row[0])

    def ended_session(self, session_id: UUID, client: ClientFacts) -> EndedSession | None:
        """Read a session that has ended and that the client had joined. Spec: OIDC Back-Channel Logout §2.3."""
        row = _one(
            "SELECT s.user_id, sc.sid FROM oauth_sessionclient sc"
            " JOIN accounts_loginsession s ON s.id = sc.session_id"
            " WHERE sc.session_id = %(session)s AND sc.client_id = %(client)s AND s.ended_at IS NOT NULL",
            {"session": session_id, "client": client.pk},
        )
        return EndedSession(_uuid(row[0]), str(row[1])) if row else None

    def session_of_sid(self, sid: str, client: ClientFacts) -> UUID | None:
        """Return the session that a client knows by `sid`, ended or not."""
        row = _one(
            "SELECT session_id FROM oauth_sessionclient WHERE sid = %(sid)s AND client_id = %(client)s",
            {"sid": sid, "client": client.pk},
        )
        return _uuid(row[0]) if row else None

    def sub_of_sid(self, sid: str, client: ClientFacts) -> str:
        """Return whose session a client knows by `sid`; "" when there is none."""
        row = _one(
            "SELECT u.sub FROM oauth_sessionclient sc JOIN accounts_loginsession s ON s.id = sc.session_id"
            " JOIN accounts_user u ON u.id = s.user_id WHERE sc.sid = %(sid)s AND sc.client_id = %(client)s",
            {"sid": sid, "client": client.pk},
        )
        return str(row[0]) if row else ""

    def bearer(self, claims: Mapping[str, Any], client: ClientFacts, now: datetime) -> Bearer | None:
        """Compare a token's four counters with today's, and look at the denylist, in one statement."""
        counters = parse_generation(claims.get("gen"))
        if counters is None:
            return None
        jti = str(claims.get("jti", ""))[:64]
        values: dict[str, Any] = {f"g{index}": counter for index, counter in enumerate(counters)}
        values |= {
            "client": client.pk,
            "sub": str(claims.get("sub")),
            "jti": jti,
            "family": jti.partition(".")[0],
            "now": now,
        }
        if "sid" not in claims:
            return Bearer(None, None) if _one(_BEARER_MACHINE, values) else None
        row = _one(_BEARER_PERSON, {**values, "sid": str(claims["sid"])})
        if row is None:
            return None
        session = session_facts(row[:9])
        return Bearer(session, person_facts(session, row[9:14]))
