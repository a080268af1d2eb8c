"""The statements of the device grant. Each is one conditional write, as in `store.py`; each has a race test.

A row is pending, then authorized or denied by the one person who typed its user code, then used once.
Spec: RFC 8628 §3.2 to §3.5.
"""

import json
from datetime import datetime, timedelta
from uuid import UUID

from .ports import CodeFacts, Context, DeviceAnswer, DeviceRequest, Poll, WaitingDevice
from .protocol.asked import Asked
from .protocol.device import (
    DEVICE_CODE_LIFE,
    EARLY,
    INTERVAL_SECONDS,
    INTERVAL_SECONDS_MAX,
    SLOW_DOWN_SECONDS,
    WAITING_MAX,
    Outcome,
)
from .protocol.messages import ClientFacts, SessionFacts
from .sql import ENABLED_CLIENT, LIVE_SESSION, as_json, as_time, as_uuid, execute, hold, one

# How many wait is counted in the statement: fifty-one that come at once may all be let in, a flood is not.
_INSERT = f"""
    INSERT INTO oauth_devicegrant (device_code, user_code, scope, "interval", expires, status, client_id,
        last_checked, application_id, family_id, created_at, address, acr, amr, asked, next_poll_ms, too_fast)
    SELECT %(device)s, %(user_code)s, %(scope)s, {INTERVAL_SECONDS}, %(expires)s, 'authorization-pending',
        %(client_id)s, %(now)s, %(client)s, %(family)s, %(now)s, %(address)s, '', '[]', %(asked)s, 0, %(no)s
    WHERE EXISTS ({ENABLED_CLIENT})
      AND (SELECT COUNT(*) FROM oauth_devicegrant w
           WHERE w.application_id = %(client)s AND w.address = CAST(%(address)s AS varchar)
           AND w.status = 'authorization-pending' AND w.expires > %(now)s) < {WAITING_MAX}
    ON CONFLICT DO NOTHING
"""

_PENDING = "status = 'authorization-pending' AND expires > %(now)s"

# Slower by five seconds when it came too early, and the next one is early before that time is over.
_SLOWER = f"""CASE WHEN next_poll_ms <= %(now_ms)s THEN "interval"
    WHEN "interval" + {SLOW_DOWN_SECONDS} > {INTERVAL_SECONDS_MAX} THEN {INTERVAL_SECONDS_MAX}
    ELSE "interval" + {SLOW_DOWN_SECONDS} END"""
_POLL = f"""
    UPDATE oauth_devicegrant SET too_fast = (next_poll_ms > %(now_ms)s), "interval" = {_SLOWER},
        next_poll_ms = %(now_ms)s - %(early_ms)s + 1000 * ({_SLOWER}), last_checked = %(now)s
    WHERE device_code = %(device)s AND application_id = %(client)s AND {_PENDING}
    RETURNING too_fast, "interval"
"""

_CLAIM = f"""
    UPDATE oauth_devicegrant SET user_id = %(user)s
    WHERE user_code = %(user_code)s AND {_PENDING} AND (user_id IS NULL OR user_id = %(user)s)
    RETURNING id
"""

_WAITING = f"""
    SELECT d.user_id, c.client_id, d.scope, d.asked, d.address, d.created_at FROM oauth_devicegrant d
    JOIN oauth_client c ON c.id = d.application_id WHERE d.id = %(pk)s AND d.user_id IS NOT NULL AND {_PENDING}
"""

_CONFIRM = f"""
    UPDATE oauth_devicegrant SET status = 'authorized', decided_at = %(now)s, session_id = %(session)s,
        auth_time = %(auth_time)s, acr = %(acr)s, amr = %(amr)s
    WHERE id = %(pk)s AND user_id = %(user)s AND application_id = %(client)s AND {_PENDING}
      AND EXISTS ({LIVE_SESSION.format(session="%(session)s")}
        AND s.generation = %(session_generation)s AND u.generation = %(user_generation)s {{hold}})
      AND EXISTS ({ENABLED_CLIENT})
"""

_DENY = f"""
    UPDATE oauth_devicegrant SET status = 'denied', decided_at = %(now)s
    WHERE id = %(pk)s AND user_id = %(user)s AND {_PENDING}
"""

_CONSUME = f"""
    UPDATE oauth_devicegrant SET used_at = %(now)s
    WHERE device_code = %(device)s AND application_id = %(client)s AND status = 'authorized'
      AND used_at IS NULL AND expires > %(now)s
      AND EXISTS ({LIVE_SESSION.format(session="oauth_devicegrant.session_id")})
      AND EXISTS ({ENABLED_CLIENT})
    RETURNING family_id, session_id, scope, asked, auth_time, acr, amr
"""


class DatabaseDevices:
    """The statements, on Django's connection of this thread, in the transaction of this request."""

    def insert(self, request: DeviceRequest, client: ClientFacts, family_id: UUID, now: datetime) -> bool:
        """Store a request. False when too many wait, the client is switched off, or a code is taken."""
        return (
            execute(
                _INSERT,
                {
                    "device": request.device_digest,
                    "user_code": request.user_code_digest,
                    "scope": " ".join(request.scopes),
                    "asked": json.dumps(request.asked.as_json()),
                    "address": request.address[:45],
                    "expires": now + DEVICE_CODE_LIFE,
                    "client_id": client.client_id,
                    "client": client.pk,
                    "family": family_id,
                    "now": now,
                    "no": False,
                },
            )
            == 1
        )

    def poll(self, device_digest: str, client: ClientFacts, now: datetime) -> Poll | None:
        """Note that a device asked; None when nothing waits under this code for this client. Spec: RFC 8628 §3.5."""
        row = one(
            _POLL,
            {
                "device": device_digest,
                "client": client.pk,
                "now": now,
                "now_ms": _milliseconds(now),
                "early_ms": EARLY // timedelta(milliseconds=1),
            },
        )
        return Poll(bool(row[0]), row[1]) if row else None

    def consume(self, device_digest: str, client: ClientFacts, now: datetime) -> CodeFacts | None:
        """Consume a code that a person confirmed, once."""
        row = one(_CONSUME, {"device": device_digest, "client": client.pk, "now": now})
        if row is None:
            return None
        family_id, session_id, scope, asked, auth_time, acr, amr = row
        context = Context(acr, tuple(as_json(amr)), as_time(auth_time))
        return CodeFacts(
            as_uuid(family_id),
            as_uuid(session_id),
            tuple(scope.split()),
            "",
            context,
            Asked.from_json(as_json(asked)),
        )

    def answer(self, device_digest: str, now: datetime) -> DeviceAnswer | None:
        """Read a row to explain a refusal; decides nothing."""
        row = one(
            "SELECT d.family_id, d.application_id, u.sub, d.status, d.used_at, d.expires FROM oauth_devicegrant d"
            " LEFT JOIN accounts_user u ON u.id = d.user_id WHERE d.device_code = %(device)s",
            {"device": device_digest},
        )
        if row is None:
            return None
        family_id, client_pk, sub, status, used_at, expires = row
        return DeviceAnswer(
            as_uuid(family_id),
            client_pk,
            sub or "",
            used=used_at is not None,
            denied=status == "denied",
            expired=as_time(expires) <= now,
        )

    def claim(self, user_code_digest: str, user_id: UUID, now: datetime) -> int | None:
        """Give a waiting request to the first person who types its code; return its key. None to everybody else."""
        row = one(_CLAIM, {"user_code": user_code_digest, "user": user_id, "now": now})
        return int(row[0]) if row else None

    def waiting(self, pk: int, now: datetime) -> WaitingDevice | None:
        """Return what waits to be confirmed; None when it was answered or its time is over."""
        row = one(_WAITING, {"pk": pk, "now": now})
        if row is None:
            return None
        user_id, client_id, scope, asked, address, created_at = row
        return WaitingDevice(
            pk,
            as_uuid(user_id),
            client_id,
            tuple(scope.split()),
            Asked.from_json(as_json(asked)),
            address,
            as_time(created_at),
        )

    def outcome(self, pk: int, user_id: UUID | None, now: datetime) -> Outcome | None:
        """Return how a request ended for somebody, None while it waits for them (or for whoever is to sign in)."""
        row = one(
            "SELECT user_id, status, expires FROM oauth_devicegrant WHERE id = %(pk)s AND user_id IS NOT NULL",
            {"pk": pk},
        )
        if row is None or (user_id is not None and as_uuid(row[0]) != user_id):
            return Outcome.GONE
        _owner, status, expires = row
        if status == "authorization-pending":
            return None if as_time(expires) > now else Outcome.GONE
        if user_id is None:
            return Outcome.GONE
        return Outcome.CONFIRMED if status == "authorized" else Outcome.REFUSED

    def confirm(
        self, pk: int, client: ClientFacts, session: SessionFacts, context: Context, now: datetime
    ) -> bool:
        """Let a device in, if this person claimed it and session, person and client are good in that very statement."""
        values = {
            "pk": pk,
            "client": client.pk,
            "user": session.user_id,
            "session": session.id,
            "session_generation": session.generation,
            "user_generation": session.user_generation,
            "auth_time": context.auth_time,
            "acr": context.acr,
            "amr": json.dumps(list(context.amr)),
            "now": now,
        }
        return execute(_CONFIRM.format(hold=hold()), values) == 1

    def deny(self, pk: int, user_id: UUID, now: datetime) -> bool:
        """Turn a device away, if this person claimed it."""
        return execute(_DENY, {"pk": pk, "user": user_id, "now": now}) == 1


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
