"""The few statements that make, consume and rotate one-time values. Each is one conditional write.

Plain SQL, because what counts is what stands in one statement: a condition that is read first and
written later is a race. The text is the same for PostgreSQL and SQLite; the row count, never a
previous read, says who won. Every statement here has a race test.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from iam.accounts.services import SECRET_LENGTH_MAX, SEEN_EVERY

from .ports import Bearer, CodeFacts, Context, EndedSession, FamilyFacts, PersonFacts, UsedCode
from .protocol.asked import Asked
from .protocol.claims import ACCESS_TOKEN_LIFE, parse_generation
from .protocol.messages import AuthorizationRequest, ClientFacts, SessionFacts
from .sql import ACTING as _ACTING
from .sql import ENABLED_CLIENT as _ENABLED_CLIENT
from .sql import LIVE_SESSION as _LIVE_SESSION
from .sql import SESSION_END as _SESSION_END
from .sql import as_json as _json
from .sql import as_time as _time
from .sql import as_uuid as _uuid
from .sql import execute as _execute
from .sql import for_share as _for_share
from .sql import hold as _hold
from .sql import one as _one

# A denylist entry outlives every token that it denies, and a little more for clocks that differ.
_DENYLIST_MARGIN = timedelta(seconds=30)

_INSERT_CODE = f"""
    INSERT INTO oauth_grant (code, expires, redirect_uri, scope, created, updated, code_challenge,
        code_challenge_method, nonce, claims, resource, family_id, auth_time, acr, amr, asked,
        user_id, application_id, session_id)
    SELECT %(digest)s, %(expires)s, %(redirect_uri)s, %(scope)s, %(now)s, %(now)s, %(challenge)s,
        'S256', %(nonce)s, '', %(resource)s, %(family)s, %(auth_time)s, %(acr)s, %(amr)s,
        %(asked)s, %(user)s, %(client)s, %(session)s
    WHERE EXISTS ({_LIVE_SESSION.format(session="%(session)s")}
        AND s.generation = %(session_generation)s AND u.generation = %(user_generation)s {{hold}})
      AND EXISTS ({_ENABLED_CLIENT})
"""

_CONSUME_CODE = f"""
    UPDATE oauth_grant SET used_at = %(now)s
    WHERE code = %(digest)s AND application_id = %(client)s AND used_at IS NULL AND expires > %(now)s
      AND redirect_uri = %(redirect_uri)s AND code_challenge = %(challenge)s
      AND COALESCE(asked->>'dpop_jkt', %(jkt)s) = %(jkt)s
      AND EXISTS ({_LIVE_SESSION.format(session="oauth_grant.session_id")})
      AND EXISTS ({_ENABLED_CLIENT})
    RETURNING family_id, session_id, scope, nonce, auth_time, acr, amr, asked
"""

# Once: of any number of callers one deletes the row. What is deleted needs no memory, for its replay revokes nothing.
_TAKE_PUSHED = f"""
    DELETE FROM oauth_pushedrequest
    WHERE digest = %(digest)s AND client_id = %(client)s AND expires_at > %(now)s AND EXISTS ({_ENABLED_CLIENT})
    RETURNING parameters
"""

_ROTATE_FAMILY = f"""
    UPDATE oauth_tokenfamily SET position = position + 1, rotated_at = %(now)s
    WHERE id = %(family)s AND client_id = %(client)s AND position = %(number)s
      AND revoked_at IS NULL AND expires_at > %(now)s
      AND EXISTS ({_LIVE_SESSION.format(session="oauth_tokenfamily.session_id")})
      AND EXISTS ({_ENABLED_CLIENT})
"""

_HOLD_FAMILY = f"""
    SELECT 1 FROM oauth_tokenfamily f
    WHERE f.id = %(family)s AND f.client_id = %(client)s AND f.position = %(number)s
      AND f.revoked_at IS NULL AND f.expires_at > %(now)s
      AND EXISTS ({_LIVE_SESSION.format(session="f.session_id")})
      AND EXISTS ({_ENABLED_CLIENT}) {{hold}}
"""

# The order of `session_facts` and `person_facts`.
_SESSION_AND_PERSON = f"""
    s.id, s.generation, u.id, u.sub, u.generation, s.password_at, s.factor_at, s.factor_kind, {_SESSION_END},
    u.name_latin, u.name_arabic, u.email, u.language,
    (SELECT l.login FROM accounts_directorylink l WHERE l.user_id = u.id AND l.active ORDER BY l.id LIMIT 1)
"""
_SESSION = f"""
    SELECT {_SESSION_AND_PERSON}
    FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
    WHERE s.id = %(session)s AND s.ended_at IS NULL AND s.expires_at > %(now)s AND {_ACTING} {{hold}}
"""
_SESSION_OF_BROWSER = f"""
    SELECT {_SESSION_AND_PERSON}, s.seen_at
    FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
    WHERE s.secret_digest = %(digest)s AND s.ended_at IS NULL AND s.expires_at > %(now)s AND {_ACTING}
"""
_PERSON = """
    SELECT u.sub, u.name_latin, u.name_arabic, u.email, u.language,
        (SELECT l.login FROM accounts_directorylink l WHERE l.user_id = u.id AND l.active ORDER BY l.id LIMIT 1)
    FROM accounts_user u WHERE u.id = %(user)s
"""

_BEARER_PERSON = f"""
    SELECT {_SESSION_AND_PERSON}
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


class DatabaseStore:
    """The statements, on Django's connection of this thread, in the transaction of this request."""

    def __init__(self) -> None:
        self._people: dict[UUID, PersonFacts] = {}  # whom this request met

    def insert_code(
        self,
        digest: str,
        client: ClientFacts,
        session: SessionFacts,
        request: AuthorizationRequest,
        context: Context,
        family_id: UUID,
        expires_at: datetime,
        now: datetime,
    ) -> bool:
        """Store a code's digest. False when the session, the person or the client is not good any more."""
        written = _execute(
            _INSERT_CODE.format(hold=_hold()),
            {
                "digest": digest,
                "expires": expires_at,
                "redirect_uri": request.redirect_uri,
                "scope": " ".join(request.scopes),
                "now": now,
                "challenge": request.code_challenge,
                "nonce": request.nonce or "",
                "resource": "[]",
                "family": family_id,
                "auth_time": context.auth_time,
                "acr": context.acr,
                "amr": json.dumps(list(context.amr)),
                "asked": json.dumps(request.asked.as_json()),
                "user": session.user_id,
                "client": client.pk,
                "session": session.id,
                "session_generation": session.generation,
                "user_generation": session.user_generation,
            },
        )
        return written == 1

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

    def consume_code(
        self, digest: str, client: ClientFacts, redirect_uri: str, challenge: str, jkt: str, now: datetime
    ) -> CodeFacts | None:
        """Consume a code, once. Spec: RFC 6749 §4.1.2, §4.1.3; RFC 7636 §4.6; RFC 9449 §10."""
        row = _one(
            _CONSUME_CODE,
            {
                "digest": digest,
                "client": client.pk,
                "redirect_uri": redirect_uri,
                "challenge": challenge,
                "jkt": jkt,
                "now": now,
            },
        )
        if row is None:
            return None
        family_id, session_id, scope, nonce, auth_time, acr, amr, asked = row
        context = Context(acr, tuple(_json(amr)), _time(auth_time))
        return CodeFacts(
            _uuid(family_id),
            _uuid(session_id),
            tuple(scope.split()),
            nonce,
            context,
            Asked.from_json(_json(asked)),
        )

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

    def open_family(
        self,
        family_id: UUID,
        client: ClientFacts,
        session: SessionFacts,
        scopes: tuple[str, ...],
        context: Context,
        asked: Asked,
        seed: bytes,
        now: datetime,
    ) -> None:
        """Begin a family at position 0; it ends with the session at the latest."""
        _execute(
            "INSERT INTO oauth_tokenfamily (id, session_id, client_id, user_id, scope, auth_time, acr, amr, asked, seed,"
            " position, created_at, expires_at, revoke_reason) VALUES (%(id)s, %(session)s, %(client)s, %(user)s,"
            " %(scope)s, %(auth_time)s, %(acr)s, %(amr)s, %(asked)s, %(seed)s, 0, %(now)s, %(expires)s, '')",
            {
                "id": family_id,
                "session": session.id,
                "client": client.pk,
                "user": session.user_id,
                "scope": " ".join(scopes),
                "auth_time": context.auth_time,
                "acr": context.acr,
                "amr": json.dumps(list(context.amr)),
                "asked": json.dumps(asked.as_json()),
                "seed": seed,
                "now": now,
                "expires": session.expires_at,
            },
        )

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

    def rotate_family(self, family_id: UUID, client: ClientFacts, number: int, now: datetime) -> bool:
        """Move a live family from `number` to the next position. One caller wins. Spec: RFC 9700 §4.14.2."""
        values = {"family": family_id, "client": client.pk, "number": number, "now": now}
        return _execute(_ROTATE_FAMILY, values) == 1

    def hold_family(self, family_id: UUID, client: ClientFacts, number: int, now: datetime) -> bool:
        """Hold a live family where it stands: it is revoked after this commit, or was before. Spec: RFC 9700 §4.14.2."""
        values = {"family": family_id, "client": client.pk, "number": number, "now": now}
        return _one(_HOLD_FAMILY.format(hold=_for_share("f")), values) is not None

    def revoke_family(self, family_id: UUID, reason: str, now: datetime) -> None:
        """End a family: its refresh tokens by the row, its access tokens by the denylist. Idempotent."""
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
        return self._met(row) if row else None

    def session_of_browser(self, secret: str, now: datetime, idle: timedelta) -> SessionFacts | None:
        """Read the live session of a browser by the secret of its cookie; note now and then that it was seen."""
        if len(secret) > SECRET_LENGTH_MAX:
            return None
        digest = hashlib.sha256(secret.encode()).hexdigest()
        row = _one(_SESSION_OF_BROWSER, {"digest": digest, "now": now})
        if row is None:
            return None
        seen_at, session = _time(row[-1]), self._met(row)
        if now - seen_at > idle:
            return None
        if now - seen_at > SEEN_EVERY:
            _execute(
                "UPDATE accounts_loginsession SET seen_at = %(now)s WHERE id = %(session)s AND seen_at < %(now)s",
                {"session": session.id, "now": now},
            )
        return session

    def person(self, user_id: UUID) -> PersonFacts:
        """Read a person's names, unless they came with a session before. Raises: LookupError, which denies."""
        known = self._people.get(user_id)
        if known is None:
            row = _one(_PERSON, {"user": user_id})
            if row is None:
                raise LookupError("there is no such person")
            sub, latin, arabic, email, language, login = row
            known = PersonFacts(user_id, sub, latin, arabic, email, language, login or "")
            self._people[user_id] = known
        return known

    def _met(self, row: Sequence[Any]) -> SessionFacts:  # Any: a row of `_SESSION_AND_PERSON`
        session = session_facts(row[:9])
        self._people[session.user_id] = person_facts(session, row[9:14])
        return session

    def hold_session(self, session_id: UUID, now: datetime) -> SessionFacts | None:
        """Read a live session and hold it until the commit: its end comes after what is issued, or came before."""
        row = _one(_SESSION.format(hold=_hold()), {"session": session_id, "now": now})
        return self._met(row) if row else None

    def sid(self, session_id: UUID, client: ClientFacts, now: datetime) -> str:
        """Return the client's own stable `sid`; two that ask at once get the same. Spec: OIDC Back-Channel §2.1."""
        row = _one(
            "INSERT INTO oauth_sessionclient (session_id, client_id, sid, created_at, used_at)"
            " VALUES (%(session)s, %(client)s, %(sid)s, %(now)s, %(now)s)"
            # Touches the row it finds, so that its sid comes back in this one statement.
            " ON CONFLICT (session_id, client_id) DO UPDATE SET used_at = excluded.used_at RETURNING sid",
            {"session": session_id, "client": client.pk, "sid": secrets.token_urlsafe(24), "now": now},
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


def person_facts(session: SessionFacts, row: Sequence[Any]) -> PersonFacts:  # Any: a database row
    """Turn names and login, as they stand in a row beside a session's columns, into a value."""
    latin, arabic, email, language, login = row
    return PersonFacts(session.user_id, session.sub, latin, arabic, email, language, login or "")


def session_facts(row: Sequence[Any]) -> SessionFacts:  # Any: a database row
    """Turn a row of `_SESSION`'s columns into a value."""
    sid, generation, user_id, sub, user_generation, password_at, factor_at, factor_kind, expires_at = row
    return SessionFacts(
        _uuid(sid),
        generation,
        _uuid(user_id),
        sub,
        user_generation,
        _time(password_at),
        _time(factor_at) if factor_at else None,
        factor_kind,
        _time(expires_at),
    )
