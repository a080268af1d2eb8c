"""One process of a race over the whole engine, on a database that the test made for it. JSON order in, JSON answer out.

A program of its own, because a race needs committed rows, several processes and its own connections, and the
suite's database must never be flushed. It runs the service's own settings, given by the environment.
"""

import base64
import contextlib
import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import django

ORDER: dict[str, Any] = json.load(sys.stdin)
django.setup()

from django.conf import settings  # noqa: E402
from django.db import close_old_connections, connection, transaction  # noqa: E402

from directory.service import Person, Standing  # noqa: E402
from iam import lifecycle  # noqa: E402
from iam.access.models import Application, Assignment, Office, Posting, Role  # noqa: E402
from iam.accounts import cookies  # noqa: E402
from iam.accounts.models import DirectoryLink, LoginSession, User  # noqa: E402
from iam.accounts.services import end_session, mark_factor, open_session  # noqa: E402
from iam.audit.facts import NO_REQUEST  # noqa: E402
from iam.audit.models import AuditEvent  # noqa: E402
from iam.oauth import engine, interactions, keyring, state  # noqa: E402
from iam.oauth.clients import apply_all  # noqa: E402
from iam.oauth.issuers import apply_issuers  # noqa: E402
from iam.oauth.models import Grant, PushedRequest, RevokedToken, SessionClient, TokenFamily  # noqa: E402
from iam.oauth.protocol import jose  # noqa: E402
from iam.oauth.protocol.client_auth import ASSERTION_TYPE  # noqa: E402
from iam.oauth.protocol.delegation import ACCESS_TOKEN_KIND  # noqa: E402
from iam.oauth.protocol.delegation import GRANT_TYPE as TOKEN_EXCHANGE  # noqa: E402
from iam.oauth.protocol.device import GRANT_TYPE as DEVICE_CODE  # noqa: E402
from iam.oauth.protocol.device import read_user_code  # noqa: E402
from iam.oauth.protocol.jose import load_private, private_bytes  # noqa: E402
from iam.oauth.protocol.messages import Answer, ErrorPage, Interaction, Request, Response  # noqa: E402
from iam.oauth.protocol.trusted_issuers import GRANT_TYPE as JWT_BEARER  # noqa: E402
from iam.oauth.registrations import Bounds, invite  # noqa: E402
from iam.oauth.store import DatabaseStore  # noqa: E402
from tests.proofs import Prover  # noqa: E402

SECRET = "s" * 40
CALLBACK = "https://web.example/cb"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
NAMES = {"name_ar": "ا", "name_fr": "F", "name_en": "E"}
CLIENTS = [
    {
        "client_id": "gate", "client_secret": SECRET, "grant_types": ["client_credentials", TOKEN_EXCHANGE],
        "resource_server": ["gate.use"], "scope": "ledger.read", "token_exchange_targets": ["ledger"],
    },
    {
        "client_id": "ledger", "client_secret": SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["ledger.read"],
    },
    {
        "client_id": "web", "client_secret": SECRET, "redirect_uris": [CALLBACK],
        "scope": "openid roles gate.use ledger.read",
        "grant_types": ["authorization_code", "refresh_token", DEVICE_CODE], "application": "mail", "trusted": True,
    }
]  # fmt: skip
METADATA = {"redirect_uris": [CALLBACK]}
ENTRY = Person(
    source="d", entry_uuid="e-new", dn="uid=new", login="new", name_latin="New Person", name_arabic="جديد",
    email="new@example.org", language="ar", ou_path=("NIM",), office_attribute="", standing=Standing(), groups=(),
)  # fmt: skip


# -- one person, one client ---------------------------------------------------------------------------------------


def handle(request: Request) -> Answer:
    """Ask as a door does: in a transaction where one is needed."""
    with transaction.atomic() if engine.may_write(request) else contextlib.nullcontext():
        return engine.handle(request, state.DatabaseState(), datetime.now(UTC))


def answer_to(request: Request) -> Response:
    answer = handle(request)
    if not isinstance(answer, Response):
        raise SystemExit(f"not an answer for the application: {answer}")
    return answer


WANTED = {
    "client_id": "web", "redirect_uri": CALLBACK, "response_type": "code", "scope": "openid roles",
    "code_challenge": CHALLENGE, "code_challenge_method": "S256",
}  # fmt: skip


def asking(cookie: str, scope: str = "openid roles") -> Request:
    query = urlencode({**WANTED, "scope": scope})
    return Request("GET", "/authorize", query=query, cookies={cookies.SESSION: cookie})


def visit(cookie: str, request_uri: str) -> str:
    """Go to the authorization endpoint with a pushed request; return "code" or the error."""
    query = urlencode({"client_id": "web", "request_uri": request_uri})
    answer = handle(Request("GET", "/authorize", query=query, cookies={cookies.SESSION: cookie}))
    if isinstance(answer, ErrorPage):
        return answer.error
    if not isinstance(answer, Response):
        raise SystemExit(f"not an answer for the application: {answer}")
    return next(iter(parse_qs(urlsplit(dict(answer.headers)["Location"]).query)))


def new_code(cookie: str, scope: str = "openid roles") -> str:
    return parse_qs(urlsplit(dict(answer_to(asking(cookie, scope)).headers)["Location"]).query)["code"][0]


def post(path: str = "/token", dpop: str = "", client: str = "web", **form: str) -> dict[str, Any]:
    basic = base64.b64encode(f"{client}:{SECRET}".encode()).decode()
    answer = answer_to(
        Request(
            "POST", path, body=urlencode(form).encode(), content_type="application/x-www-form-urlencoded",
            authorization=f"Basic {basic}", dpop=dpop,
        )
    )  # fmt: skip
    value: dict[str, Any] = json.loads(answer.body)
    return value


def exchange(code: str, dpop: str = "") -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    return post(dpop=dpop, **form)


def fresh(prover: Prover) -> str:
    """Return a new proof for the token endpoint."""
    return prover.proof("POST", f"{settings.IAM_ISSUER}/token", datetime.now(UTC))


def _prover(key: str) -> Prover:
    return Prover(load_private("", "ES256", base64.b64decode(key)))


def refresh(token: str, dpop: str = "") -> dict[str, Any]:
    return post(grant_type="refresh_token", refresh_token=token, dpop=dpop)


def new_assertion() -> str:
    """Register a client with a key made for it, and return an assertion that proves it once."""
    private = jose.generate("ES256")
    key = jose.Key("race", "ES256", private.public_key(), jose.MemorySigner("ES256", private))
    signer = {
        "client_id": "signer", "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [key.jwk()]},
        "grant_types": ["client_credentials"], "resource_server": ["race.read"], "scope": "race.read",
    }  # fmt: skip
    apply_all([signer], datetime.now(UTC), "system:test")
    claims = {
        "iss": "signer",
        "sub": "signer",
        "aud": settings.IAM_ISSUER,
        "exp": time.time() + 300,
        "jti": "once",
    }
    return key.sign("JWT", claims)


def assert_client(assertion: str) -> str:
    """Ask for a token with an assertion; return "token" or the error."""
    form = {
        "grant_type": "client_credentials",
        "client_assertion": assertion,
        "client_assertion_type": ASSERTION_TYPE,
    }
    answer = answer_to(
        Request(
            "POST", "/token", body=urlencode(form).encode(), content_type="application/x-www-form-urlencoded"
        )
    )
    value: dict[str, Any] = json.loads(answer.body)
    return str(value.get("error") or "token")


def new_grant() -> str:
    """Register a platform that vouches for a workload, and return one of its assertions."""
    now, private = datetime.now(UTC), jose.generate("ES256")
    key = jose.load_private("platform", "ES256", jose.private_bytes(private))
    server = {"client_id": "jobs", "client_secret": SECRET, "grant_types": ["client_credentials"],
              "resource_server": ["jobs.run"]}  # fmt: skip
    workload = {"client_id": "workload", "token_endpoint_auth_method": "none", "grant_types": [JWT_BEARER],
                "scope": "jobs.run"}  # fmt: skip
    apply_all([server, workload], now, "system:test")
    issuer = {"issuer": "https://platform.example", "jwks": {"keys": [key.jwk()]}, "scope": "jobs.run",
              "subjects": {"nightly": "workload"}}  # fmt: skip
    apply_issuers([issuer], now, "system:test")
    claims = {"iss": issuer["issuer"], "sub": "nightly", "aud": settings.IAM_ISSUER, "jti": "once",
              "exp": int(now.timestamp()) + 120}  # fmt: skip
    return key.sign("JWT", claims)


def vouch(assertion: str) -> str:
    """Present a platform's assertion; return "token" or the error."""
    form = {"grant_type": JWT_BEARER, "client_id": "workload", "assertion": assertion}
    answer = answer_to(
        Request(
            "POST", "/token", body=urlencode(form).encode(), content_type="application/x-www-form-urlencoded"
        )
    )
    value: dict[str, Any] = json.loads(answer.body)
    return str(value.get("error") or "token")


def act_for(token: str) -> dict[str, Any]:
    """Exchange a person's token for one of another resource server."""
    return post(
        client="gate", grant_type=TOKEN_EXCHANGE, subject_token=token, subject_token_type=ACCESS_TOKEN_KIND,
        audience="ledger",
    )  # fmt: skip


def sign_in(user: User) -> tuple[LoginSession, str]:
    now = datetime.now(UTC)
    session, _ = open_session(user, now, timedelta(hours=12))
    return session, mark_factor(session, "otp", now)


def new_person(name: str) -> User:
    now = datetime.now(UTC)
    user = User.objects.create(name_latin=name, created_at=now)
    DirectoryLink.objects.create(
        user=user, source="d", entry_uuid=name, login=name, dn=f"uid={name}", created_at=now, checked_at=now
    )
    office, role = Office.objects.get(code="NIM"), Role.objects.get(code="staff")
    begun = now - timedelta(days=1)
    Posting.objects.create(person=user, office=office, valid_from=begun, source="test")
    Assignment.objects.create(person=user, role=role, office=office, valid_from=begun, created_at=now)
    return user


# -- orders -------------------------------------------------------------------------------------------------------


def prepare() -> str:
    """Make the database and an organisation of one office."""
    connection.settings_dict["TEST"]["NAME"] = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    now = datetime.now(UTC)
    Office.objects.create(code="NIM", kind="humanitarian", **NAMES)
    Application.objects.create(code="mail", **NAMES)
    Role.objects.create(code="staff", is_staff=True, **NAMES)
    keyring.ensure(now, "system:test")
    apply_all(CLIENTS, now, "system:test")
    return "made"


def begin(what: str) -> dict[str, str]:
    """Make what is raced for."""
    user = new_person(f"{what}-{time.time_ns()}")
    session, cookie = sign_in(user)
    begun = {"user": str(user.pk), "session": str(session.pk)}
    if what in {"code", "refresh", "proof", "bound"}:
        begun["code"] = new_code(cookie)
    if what == "pushed":
        begun |= {"cookie": cookie, "request_uri": post("/par", **WANTED)["request_uri"]}
    if what in {"invitation", "registration"}:
        bounds = Bounds("mail", ("authorization_code",), ("openid",))
        begun["invitation"] = invite("race", bounds, 1, timedelta(days=1), datetime.now(UTC), "operator:test")
    if what == "registration":
        begun |= register("POST", "/register", begun["invitation"], METADATA)
    if what in {"device", "waiting device"}:
        begun |= new_device(session, confirmed=what == "device")
    if what in {"refresh", "proof"}:
        begun["token"] = exchange(begun["code"])["refresh_token"]
    if what == "bound":
        prover = Prover()
        begun["key"] = base64.b64encode(private_bytes(prover.key.signer.private)).decode()
        begun["token"] = exchange(begun["code"], fresh(prover))["refresh_token"]
    if what == "assertion":
        begun["assertion"] = new_assertion()
    if what == "grant":
        begun["grant"] = new_grant()
    if what == "proof":
        begun["proof"] = fresh(Prover())
    return begun


def race() -> list[str]:
    """Start the threads at the agreed moment and return every outcome."""
    given = ORDER["given"]
    acts: dict[str, Callable[[], str]] = {
        "exchange": lambda: _outcome(exchange(given["code"])),
        "refresh": lambda: _outcome(refresh(given["token"])),
        "stay": lambda: _outcome(refresh(given["token"], fresh(_prover(given["key"])))),
        "prove": lambda: _outcome(refresh(given["token"], given["proof"])),
        "assert": lambda: assert_client(given["assertion"]),
        "vouch": lambda: vouch(given["grant"]),
        "visit": lambda: visit(given["cookie"], given["request_uri"]),
        "register": lambda: _client(register("POST", "/register", given["invitation"], METADATA)),
        "change": lambda: _client(
            register(
                "PUT",
                f"/register/{given['client_id']}",
                given["registration_access_token"],
                {**METADATA, "client_id": given["client_id"]},
            )
        ),
        "device": lambda: _outcome(post(grant_type=DEVICE_CODE, device_code=given["device_code"])),
        "claim": lambda: _claim(given["user_code"]),
        "sid": lambda: _sid(given["session"]),
        "admit": lambda: lifecycle.admit_from_directory(ENTRY, datetime.now(UTC)).sub,
    }
    return together(acts[ORDER["act"]], ORDER["threads"], ORDER["start_at"])


def _outcome(answer: dict[str, Any]) -> str:
    """Return the successor token, or the reason of the refusal."""
    return str(answer["refresh_token"] if "error" not in answer else answer["error"])


def register(method: str, path: str, token: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    answer = answer_to(
        Request(
            method, path, body=json.dumps(metadata).encode(), content_type="application/json",
            authorization=f"Bearer {token}",
        )
    )  # fmt: skip
    value: dict[str, Any] = json.loads(answer.body)
    return value


def _client(answer: dict[str, Any]) -> str:
    return str(answer["registration_access_token"] if "error" not in answer else answer["error"])


def new_device(session: LoginSession, *, confirmed: bool) -> dict[str, str]:
    """Begin a device's request, and let it in if it is to be."""
    begun = post("/device_authorization", scope="openid roles")
    codes = {"device_code": begun["device_code"], "user_code": begun["user_code"]}
    if confirmed:
        now = datetime.now(UTC)
        handle = interactions.park_device(read_user_code(begun["user_code"]), session, "b" * 43, now)
        parked = interactions.load(handle, "b" * 43, now)
        if parked is None:
            raise SystemExit("no device waits")
        interactions.answer_device(parked, session, NO_REQUEST, now, let_in=True)
    return codes


def _claim(user_code: str) -> str:
    """Type a device's code as somebody new; return who got it."""
    user = new_person(f"typist-{time.time_ns()}-{threading.get_ident()}")
    session, _ = sign_in(user)
    return (
        interactions.park_device(read_user_code(user_code), session, "b" * 43, datetime.now(UTC))
        and "claimed"
    )


def _sid(session: str) -> str:
    client = state.DatabaseState().client("web")
    if client is None:
        raise SystemExit("there is no client")
    with transaction.atomic():
        return DatabaseStore().sid(LoginSession.objects.get(pk=session).pk, client, datetime.now(UTC))


def together(act: Callable[[], str], threads: int, start_at: float) -> list[str]:
    outcomes: list[str] = []
    barrier = threading.Barrier(threads)

    def run() -> None:
        connection.ensure_connection()
        barrier.wait(timeout=30)
        time.sleep(max(0.0, start_at - time.time()))
        try:
            outcomes.append(act())
        except Exception as problem:  # an exception is an outcome, and a wrong one
            outcomes.append(f"{type(problem).__name__}: {problem}")
        finally:
            connection.close()

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(timeout=90)
    return outcomes


def look() -> dict[str, Any]:
    """Return what the database holds after a race."""
    given = ORDER["given"]
    families = TokenFamily.objects.filter(session_id=given["session"])
    return {
        "families": [
            {"position": one.position, "revoked": one.revoked_at is not None, "reason": one.revoke_reason}
            for one in families
        ],
        "denied": RevokedToken.objects.filter(key__in=[one.id.hex for one in families]).count(),
        "codes": Grant.objects.filter(session_id=given["session"]).count(),
        "pushed": PushedRequest.objects.count(),
        "sids": SessionClient.objects.filter(session_id=given["session"]).count(),
        "events": dict(
            Counter(
                f"{action} {outcome}"
                for action, outcome in AuditEvent.objects.filter(
                    action__startswith="client:", object__endswith=User.objects.get(pk=given["user"]).sub
                ).values_list("action", "outcome")
            )
        ),
        "registered": AuditEvent.objects.filter(action__startswith="client:registration:").count(),
        "accounts": DirectoryLink.objects.filter(source="d", entry_uuid="e-new").count(),
        "people": User.objects.filter(name_latin="New Person").count(),
        "created": AuditEvent.objects.filter(action="directory:person:create").count(),
    }


def retire() -> dict[str, Any]:
    """Let the making of a code or token race with the end of its person or session, `rounds` times; return what went wrong.

    The database's own order judges: a session's end and what was made in it are events with a sequence number, each
    written while the session's row is held, so what has a higher number than the end was made after it.
    """
    late: list[str] = []
    outcomes: Counter[str] = Counter()
    for number in range(ORDER["rounds"]):
        user = new_person(f"leaver-{time.time_ns()}")
        session, cookie = sign_in(user)
        make = _making(number % 6, session, cookie)
        outcomes.update(_against(make, partial(_end, user, session), number))
        late += _late(session)
    return {"late": late, "outcomes": dict(outcomes)}


def _making(what: int, session: LoginSession, cookie: str) -> Callable[[], str]:
    """Return a way to make a code, the first tokens, or the next ones: of a code, a device, a token that moves, one
    that stays, and one that is exchanged."""
    if what == 0:
        return partial(_ask, cookie)
    if what == 4:
        device = new_device(session, confirmed=True)["device_code"]
        return lambda: _made(post(grant_type=DEVICE_CODE, device_code=device))
    if what == 5:
        subject = exchange(new_code(cookie, "openid gate.use ledger.read"))["access_token"]
        return lambda: _made(act_for(subject))
    code = new_code(cookie)
    if what == 1:
        return lambda: _made(exchange(code))
    if what == 3:
        prover = Prover()
        bound = exchange(code, fresh(prover))["refresh_token"]
        return lambda: _made(refresh(bound, fresh(prover)))
    token = exchange(code)["refresh_token"]
    return lambda: _made(refresh(token))


def _ask(cookie: str) -> str:
    answer = handle(asking(cookie))
    if isinstance(answer, Interaction):
        return "refused"
    return _made(parse_qs(urlsplit(dict(answer.headers)["Location"]).query))


def _made(answer: Mapping[str, Any]) -> str:
    if "access_token" in answer or "code" in answer:
        return "issued"
    refusals = ("invalid_grant", "invalid_request", ["access_denied"])
    return "refused" if answer["error"] in refusals else str(answer["error"])


def _end(user: User, session: LoginSession) -> str:
    now = datetime.now(UTC)
    if ORDER["how"] == "person":
        lifecycle.deactivate(user, reason="left", actor="system:test", now=now)
    elif ORDER["how"] == "lock":
        lifecycle.lock(user, now + timedelta(hours=1), reason="stolen", actor="system:test", now=now)
    else:
        end_session(session.pk, reason="signed_out", now=now)
    return "ended"


def _against(make: Callable[[], str], end: Callable[[], str], number: int) -> list[str]:
    """Run both at once; the one or the other a little later in each round, so that every overlap is met."""
    outcomes: list[str] = []
    barrier = threading.Barrier(2)
    lag = (number // 4 % 10) * 0.0007

    def run(act: Callable[[], str], wait: float) -> None:
        connection.ensure_connection()
        barrier.wait(timeout=30)
        time.sleep(wait)
        try:
            outcomes.append(act())
        except Exception as problem:
            outcomes.append(f"{type(problem).__name__}: {problem}")
        finally:
            connection.close()

    crew = [threading.Thread(target=run, args=(make, 0.0)), threading.Thread(target=run, args=(end, lag))]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(timeout=60)
    return outcomes


def _late(session: LoginSession) -> list[str]:
    end = AuditEvent.objects.filter(action="person:session:end", session=str(session.pk)).first()
    if end is None:
        return ["the session did not end"]
    found = AuditEvent.objects.filter(
        action__in=["client:token:issue", "person:code:issue"],
        outcome="success",
        session=str(session.pk),
        sequence__gt=end.sequence,
    )
    return [f"{event.action} {event.method} {event.sequence} after {end.sequence}" for event in found]


match ORDER["do"]:
    case "prepare":
        result: object = prepare()
    case "begin":
        result = begin(ORDER["what"])
    case "race":
        result = race()
    case "look":
        result = look()
    case "refresh":
        result = _outcome(refresh(ORDER["token"]))
    case "assert":
        result = assert_client(ORDER["assertion"])
    case "visit":
        result = visit(ORDER["given"]["cookie"], ORDER["given"]["request_uri"])
    case "retire":
        result = retire()
    case "destroy":
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
        result = "gone"
    case unknown:
        raise SystemExit(f"unknown order {unknown}")
close_old_connections()
print(json.dumps(result))
