"""Whatever is sent to the protocol's endpoints, what comes back is one of the few right kinds of answer.

The whole engine on a real database: hypothesis makes the requests, `check` knows what may never happen.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlencode, urlsplit

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from iam.accounts import cookies
from iam.oauth import engine, interactions, state
from iam.oauth.clients import apply_all
from iam.oauth.detail_types import apply_types
from iam.oauth.endpoints.arrival import REQUEST_URI_PREFIX
from iam.oauth.models import Client, Grant
from iam.oauth.protocol.client_auth import ASSERTION_TYPE
from iam.oauth.protocol.dpop import nonce_at
from iam.oauth.protocol.messages import (
    Answer,
    ErrorPage,
    FormPost,
    Interaction,
    Request,
    Response,
    ResponseMode,
)
from iam.oauth.protocol.resources import RESOURCES, metadata_address
from tests.proofs import Prover, private_key

from .conftest import CLIENTS, SECRET, SERVER_SECRET, World, claims_of
from .test_client_authentication import SIGNER, assertion

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
REFERENCE = "ref-4711"
BROWSER = "b" * 43
# RFC 6749 §4.1.2.1, §5.2; RFC 6750 §3.1; RFC 7009 §2.2.1; OIDC Core §3.1.2.6; RFC 9470 §4.
REGISTERED_ERRORS = frozenset(
    {
        "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
        "invalid_scope", "access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable",
        "invalid_token", "insufficient_scope", "unsupported_token_type", "interaction_required", "login_required",
        "account_selection_required", "consent_required", "invalid_request_uri", "invalid_request_object",
        "request_not_supported", "request_uri_not_supported", "registration_not_supported",
        "unmet_authentication_requirements", "invalid_dpop_proof", "use_dpop_nonce",
        "invalid_target", "invalid_authorization_details",
    }
)  # fmt: skip
REGISTERED_ADDRESS = re.compile(
    r"https://web\.example/cb\?|https://other\.example/cb\?|http://127\.0\.0\.1(:[0-9]{1,5})?/cb\?"
)
STATUSES = {200, 201, 303, 400, 401, 403, 405, 413}
CACHEABLE = {
    "/jwks",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    *(metadata_address(path) for path in RESOURCES),
}

bounded = settings(
    max_examples=120,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# -- what may never happen --------------------------------------------------------------------------------------


def check(request: Request, answer: Answer) -> None:
    """Hold an answer against the rules that no request can break."""
    match answer:
        case Response():
            check_response(request, answer)
        case FormPost():
            assert request.path == "/authorize"
            assert REGISTERED_ADDRESS.match(answer.uri + "?"), answer.uri
            check_answer(dict(answer.fields))
        case ErrorPage():
            assert request.path in {"/authorize", "/logout"}
            assert answer.status in {400, 405}
            assert answer.error in REGISTERED_ERRORS
            assert answer.client_id == "" or Client.objects.filter(client_id=answer.client_id).exists()
        case Interaction():
            assert request.path in {"/authorize", "/logout"}
            check_parking(answer)


def check_response(request: Request, response: Response) -> None:
    headers = dict(response.headers)
    assert response.status in STATUSES
    for name, value in response.headers:
        assert f"{name}{value}".isascii(), (name, value)
        assert f"{name}{value}".isprintable(), (name, value)
    if request.path not in CACHEABLE:
        assert headers["Cache-Control"] == "no-store"
    if response.status == 405:
        assert headers["Allow"]
    if response.status == 401:
        assert headers["WWW-Authenticate"].split(" ", 1)[0] in {"Basic", "Bearer", "DPoP"}
    if response.status == 303:
        check_redirect(request, headers["Location"])
    elif response.status >= 400:
        check_error(request, json.loads(response.body))


def check_redirect(request: Request, location: str) -> None:
    assert request.path in {"/authorize", "/logout"}
    if request.path == "/logout":
        assert re.match(r"https://web\.example/bye($|\?)", location)
        return
    assert REGISTERED_ADDRESS.match(location), location
    answer = parse_qs(urlsplit(location).query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in answer.values())
    check_answer({name: values[0] for name, values in answer.items()})


def check_answer(answer: dict[str, str]) -> None:
    """Hold what an application gets against the rules, be it signed or not."""
    if "response" in answer:
        assert set(answer) == {"response"}
        claims = claims_of(answer["response"])
        assert claims.pop("aud") in {"web", "other", "public", "service"}
        assert claims.pop("exp") - claims.pop("iat") <= 600
        answer = claims
    assert answer["iss"] == "http://localhost:8000"
    assert set(answer) <= {"iss", "state", "code", "error", "error_description"}
    assert ("code" in answer) != ("error" in answer)
    if "error" in answer:
        assert answer["error"] in REGISTERED_ERRORS
        assert f"(reference {REFERENCE})" in answer["error_description"]


def check_error(request: Request, value: Mapping[str, Any]) -> None:
    if (request.path == "/userinfo" or request.path.startswith("/register")) and not value:
        return  # no token, no error code (RFC 6750 §3.1)
    assert value["error"] in REGISTERED_ERRORS
    assert f"(reference {REFERENCE})" in value["error_description"]
    assert re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]*", value["error_description"])


def check_parking(answer: Interaction) -> None:
    """What has to wait for its person can be stored, and comes back as it was."""
    if answer.request is None:
        assert answer.return_to == "" or answer.return_to.startswith("https://web.example/bye")
        return
    handle = interactions.park(answer, BROWSER, answer.request.started_at)
    parked = interactions.load(handle, BROWSER, answer.request.started_at)
    assert parked is not None
    assert parked.request == answer.request
    assert interactions.load(handle, "x" * 43, answer.request.started_at) is None


# -- what is sent -----------------------------------------------------------------------------------------------

NASTY = [
    "", " ", "\0", "a\0b", "\n", "\r\nSet-Cookie: a=b", "\ud800", "\udcff", "�", "\u202e", "é", "ب", "😀",
    "x" * 255, "x" * 256, "x" * 4097, "x" * 8193, "[]", "{}", "null", "-1", "9" * 9, "9" * 10, "9" * 5000, "1e3",
    "٣٠٠", "%", "%00", "%zz", "+", "&", "=", "#", "?", "' OR 1=1 --", "<script>", "../..", "none login",
    "javascript:alert(1)", "https://evil.example/", "https://web.example/cb#", "https://web.example/cb/",
    "https://web.example/cb?code=1", "https://user@web.example/cb", "https://WEB.example/cb",
    "https://web.example:443/cb", "http://127.0.0.1:0/cb", "http://127.0.0.1:99999/cb", "http://localhost/cb",
    "http://[::1]/cb", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", "." * 16000,
]  # fmt: skip
nasty = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=40), st.text(alphabet="aA0 ._-~\0\ud800é%+", max_size=9)
)


def escape(text: str, how: str) -> str:
    """Write a value as careful, careless and broken clients do."""
    match how:
        case "form":
            return quote_plus(text, errors="replace")
        case "path":
            return quote(text, safe="", errors="surrogatepass")
        case _:
            return text


def encoded(pairs: list[tuple[str, str, str]]) -> str:
    return "&".join(f"{escape(name, how)}={escape(value, how)}" for name, value, how in pairs)


def parameters(valid: dict[str, list[str]]) -> st.SearchStrategy[str]:
    """A request that is right but for a few changes, or nothing like one."""
    name = st.one_of(
        st.sampled_from(sorted(valid)),
        st.sampled_from(["claims", "resource", "authorization_details", "request", ""]),
        nasty,
    )
    how = st.sampled_from(["form", "form", "path", "raw"])
    right = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in valid.items()})
    changes = st.lists(st.tuples(st.sampled_from(["drop", "set", "add"]), name, nasty, how), max_size=3)

    def build(base: dict[str, str], changed: list[tuple[str, str, str, str]]) -> str:
        pairs = [(key, value, "form") for key, value in base.items() if value]
        for act, key, value, style in changed:
            if act != "add":
                pairs = [pair for pair in pairs if pair[0] != key]
            if act != "drop":
                pairs.append((key, value, style))
        return encoded(pairs)

    return st.one_of(st.builds(build, right, changes), st.builds(build, right, changes), st.text(max_size=80))


verifier = secrets.token_urlsafe(40)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
CLAIMS = [
    "{}", '{"id_token":{"acr":{"essential":true,"values":["aal2","phr"]}}}', '{"userinfo":{"office":null,"email":{"essential":true}}}',
    '{"id_token":{"acr":{"essential":true,"value":"phrh"},"sub":{"value":"x"}}}', '{"userinfo":{"roles":{"value":[1]}}}',
    '{"id_token":{"acr":{"values":[[]]}}}', '{"userinfo":null,"id_token":{"\\u0000":null}}', "[" * 3000,
]  # fmt: skip
DETAILS = [
    '[{"type":"pay","amount":1}]', '[{"type":"pay","amount":1},{"type":"pay","amount":2}]', '[{"type":"pay"}]', "[]",
    '[{"type":"pay","amount":1e308}]', '[{"type":"pay","amount":true}]', '[{"type":"pay","amount":1,"x":"\\ud800"}]',
    '[{"type":"other","amount":1}]', '[{"type":{}}]', '{"type":"pay"}', '[{"a":' * 500,
]  # fmt: skip
PAY = {
    "type": "pay", "resource_server": "fuzzed-ledger", "description": {"ar": "ا", "fr": "F", "en": "E"},
    "schema": {
        "type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"], "additionalProperties": False,
    },
}  # fmt: skip
AUTHORIZE = {
    "client_id": ["web", "web", "web", "other", "public", "service"],
    "redirect_uri": ["https://web.example/cb", "https://web.example/cb", "https://other.example/cb",
                     "http://127.0.0.1:5000/cb"],
    "response_type": ["code"],
    "scope": ["openid", "openid roles", "openid roles demo.read", "openid roles", "openid", "roles", ""],
    "state": ["st", ""], "nonce": ["no", ""], "code_challenge": [CHALLENGE], "code_challenge_method": ["S256"],
    "prompt": ["", "", "none", "login", "consent", "login consent"], "max_age": ["", "", "0", "300", "999999999"],
    "acr_values": ["", "aal1", "aal2", "aal2 aal1 other"], "ui_locales": ["", "ar fr-FR", "xx"],
    "request_uri": ["", "", "", "PUSHED", f"{REQUEST_URI_PREFIX}x", "https://web.example/r"],
    "claims": [*[""] * 16, *CLAIMS], "resource": [*[""] * 9, "urn:fuzz:ledger", "http://localhost:8000", "https://evil.example"],
    "authorization_details": [*[""] * 30, *DETAILS],
    "login_hint": ["", "amina"], "id_token_hint": ["", "", "HINT"], "response_mode": ["", "", "query", *ResponseMode, "fragment"],
}  # fmt: skip
TOKEN = {
    "grant_type": ["authorization_code", "refresh_token", "client_credentials", ""],
    "code": ["CODE", "ac_nothing", ""], "refresh_token": ["REFRESH", ""], "code_verifier": [verifier, ""],
    "redirect_uri": ["https://web.example/cb", ""], "scope": ["", "", "openid", "demo.read", " "],
    "client_id": ["", "", "web", "public"], "client_secret": ["", "", "", SECRET],
    "client_assertion": ["", "", "", "ASSERTION", "e30.e30.e30"],
    "client_assertion_type": ["", "", ASSERTION_TYPE, "jwt"],
    "token": ["ACCESS", "REFRESH", "HINT", ""], "token_type_hint": ["", "access_token", "x"],
    "resource": ["", "", "urn:fuzz:ledger", "http://localhost:8000/userinfo"], "authorization_details": ["", "", *DETAILS],
    "access_token": ["", "ACCESS"], "id_token_hint": ["", "HINT"], "post_logout_redirect_uri": [
        "", "https://web.example/bye"], "state": ["", "st"],
}  # fmt: skip


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


authorizations = st.one_of(
    st.sampled_from(
        [
            "", basic(f"web:{SECRET}"), basic(f"web:{SECRET}"), basic(f"service:{SECRET}"), basic("public:"),
            basic(f"resource:{SERVER_SECRET}"), "Basic", "basic ", "Basic !", "Bearer", "Bearer ACCESS",
            "Bearer x y", basic("web"), basic("web%00:x"), basic("web:%ED%A0%80"), basic("web:\ud800"),
            "Basic " + "A" * 3000, "Digest a=b", "Bearer \ud800", "Basic é", "\0",
        ]
    ),
    st.text(max_size=30),
    st.builds(basic, st.text(max_size=30)),
)  # fmt: skip
content_types = st.one_of(
    st.sampled_from(
        [FORM, FORM, FORM, FORM + "; charset=UTF-8", FORM.upper(), FORM + "x", "", "application/json"]
    ),
    st.text(max_size=20),
)
methods = st.sampled_from(["GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "", "get", "\0"])


@pytest.fixture
def live(world: World) -> dict[str, str]:
    """Values that are worth something here and now; the requests name them by placeholder."""
    world.sign_in()
    world.verifier = verifier
    ledger = {
        "client_id": "fuzzed-ledger", "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["ledger.read"], "resource_uri": "urn:fuzz:ledger",
    }  # fmt: skip
    apply_all([ledger], world.now, "system:test")
    apply_types([PAY], world.now, "system:test")
    apply_all(
        [{**usual, "authorization_details_types": ["pay"]} for usual in CLIENTS if "scope" in usual],
        world.now,
        "system:test",
    )
    tokens = world.tokens(scope="openid roles demo.read")
    apply_all([SIGNER], world.now, "system:test")
    return {
        "CODE": world.code(), "REFRESH": tokens["refresh_token"], "ACCESS": tokens["access_token"],
        "ASSERTION": assertion(world), "HINT": tokens["id_token"], "COOKIE": world.cookie, "PUSHED": world.pushed(),
    }  # fmt: skip


def asker(world: World, live: dict[str, str]) -> Callable[[Request], Answer]:
    def fill(text: str) -> str:
        for name, value in live.items():
            text = text.replace(name, value)
        return text

    state.forget()

    def ask(request: Request) -> Answer:
        request = replace(
            request, query=fill(request.query), authorization=fill(request.authorization),
            body=fill(request.body.decode("latin-1")).encode("latin-1"), source="192.0.2.7", request_id=REFERENCE,
            cookies={name: fill(value) for name, value in request.cookies.items()},
        )  # fmt: skip
        before = Grant.objects.count()
        with transaction.atomic():
            answer = engine.handle(request, state.DatabaseState(), world.now)
            check(request, answer)
        if request.cookies.get(cookies.SESSION) != live["COOKIE"] or request.path != "/authorize":
            assert Grant.objects.count() == before, "a code without a session"
        return answer

    return ask


# -- the fuzzing --------------------------------------------------------------------------------------------------

browsers = st.one_of(
    st.just({cookies.SESSION: "COOKIE"}),
    st.just({cookies.SESSION: "COOKIE"}),
    st.just({}),
    st.dictionaries(st.sampled_from([cookies.SESSION, cookies.BROWSER, "x"]), nasty, max_size=2),
)


def as_body(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def test_fuzz_authorize_get_answers_by_the_rules(world: World, live: dict[str, str]) -> None:
    ask = asker(world, live)

    @bounded
    @given(parameters(AUTHORIZE), browsers)
    @example("state=\ud800", {})
    @example("client_id=web&redirect_uri=https://web.example/cb&state=\ud800", {cookies.SESSION: "\ud800"})
    def run(query: str, browser: dict[str, str]) -> None:
        ask(Request("GET", "/authorize", query=query, cookies=browser))

    run()


def test_fuzz_authorize_any_method_and_body_answers_by_the_rules(world: World, live: dict[str, str]) -> None:
    ask = asker(world, live)

    @bounded
    @given(methods, parameters(AUTHORIZE), parameters(AUTHORIZE), content_types, browsers)
    def run(method: str, query: str, body: str, content_type: str, browser: dict[str, str]) -> None:
        ask(
            Request(
                method,
                "/authorize",
                query=query,
                body=as_body(body),
                content_type=content_type,
                cookies=browser,
            )
        )

    run()


def test_fuzz_pushed_request_is_refused_at_once_or_works_once(world: World, live: dict[str, str]) -> None:
    ask = asker(world, live)
    worked = 0

    @bounded
    @given(parameters(AUTHORIZE | {"client_id": ["web"], "request_uri": [""]}), browsers)
    def run(text: str, browser: dict[str, str]) -> None:
        pushed = ask(
            Request(
                "POST", "/par", body=as_body(text), content_type=FORM, authorization=basic(f"web:{SECRET}")
            )
        )
        assert isinstance(pushed, Response)
        assert pushed.status in {201, 400, 413}
        if pushed.status != 201:
            return
        nonlocal worked
        worked += 1
        query = urlencode({"client_id": "web", "request_uri": json.loads(pushed.body)["request_uri"]})
        first, second = (ask(Request("GET", "/authorize", query=query, cookies=browser)) for _ in range(2))
        assert not isinstance(first, ErrorPage)
        assert isinstance(second, ErrorPage)

    run()
    assert worked > 5


json_values = st.one_of(
    nasty, st.integers(), st.booleans(), st.none(), st.floats(), st.lists(nasty, max_size=2),
    st.dictionaries(nasty, nasty, max_size=2),
)  # fmt: skip
CLIENT_KEY = private_key("ES256", "fuzz")


def test_fuzz_signed_request_object_answers_by_the_rules(world: World, live: dict[str, str]) -> None:
    Client.objects.filter(client_id="web").update(client_jwks={"keys": [CLIENT_KEY.jwk()]})
    ask = asker(world, live)
    at, kinds = int(world.now.timestamp()), set()
    right = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in AUTHORIZE.items()})
    names = st.sampled_from([*AUTHORIZE, "iss", "aud", "exp", "nbf", "claims", "resource", "request"]) | nasty

    @bounded
    @given(right, st.dictionaries(names, json_values, max_size=2), st.booleans(), browsers)
    def run(wanted: dict[str, str], changes: dict[str, Any], pushed: bool, browser: dict[str, str]) -> None:
        wanted = {name: value for name, value in wanted.items() if value not in {"", "HINT"}}
        wanted.pop("request_uri", None)
        envelope = {"iss": "web", "aud": "http://localhost:8000", "exp": at + 60, "client_id": "web"}
        try:
            token = CLIENT_KEY.sign("JWT", {**wanted, **envelope, **changes})
        except UnicodeEncodeError:  # a lone surrogate cannot be written
            return
        query = urlencode({"client_id": "web", "request": token})
        if pushed:
            answer = ask(
                Request(
                    "POST",
                    "/par",
                    body=query.encode(),
                    content_type=FORM,
                    authorization=basic(f"web:{SECRET}"),
                )
            )
        else:
            answer = ask(Request("GET", "/authorize", query=query, cookies=browser))
        kinds.add((type(answer), pushed))

    run()
    assert {(Response, True), (Response, False), (ErrorPage, False), (Interaction, False)} <= kinds


@pytest.mark.parametrize("path", ["/token", "/introspect", "/revoke", "/userinfo", "/logout", "/par"])
def test_fuzz_endpoint_answers_by_the_rules(path: str, world: World, live: dict[str, str]) -> None:
    ask = asker(world, live)

    @bounded
    @given(methods, parameters(TOKEN), content_types, authorizations, browsers)
    @example("POST", "scope=\ud800&grant_type=client_credentials", FORM, basic(f"service:{SECRET}"), {})
    @example("GET", "post_logout_redirect_uri=https://web.example/bye&client_id=web&state=\ud800", "", "", {})
    def run(method: str, text: str, content_type: str, authorization: str, browser: dict[str, str]) -> None:
        ask(
            Request(
                method, path, query=text, body=as_body(text), content_type=content_type,
                authorization=authorization, cookies=browser,
            )
        )  # fmt: skip

    run()


def test_fuzz_any_bytes_to_any_endpoint_answer_by_the_rules(world: World, live: dict[str, str]) -> None:
    ask = asker(world, live)

    @bounded
    @given(
        st.sampled_from([*sorted(engine.ENDPOINTS), "/register/web"]), methods, st.text(max_size=60), st.binary(max_size=60),
        content_types, authorizations, browsers,
    )  # fmt: skip
    def run(
        path: str, method: str, query: str, body: bytes, content_type: str, authorization: str,
        browser: dict[str, str],
    ) -> None:  # fmt: skip
        ask(Request(method, path, query, body, content_type, authorization, browser))

    run()


@pytest.mark.parametrize(
    "path", ["/authorize", "/token", "/introspect", "/revoke", "/userinfo", "/logout", "/par"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a65_a_megabyte_anywhere_answers_by_the_rules(
    path: str, method: str, world: World, live: dict[str, str]
) -> None:
    ask = asker(world, live)
    huge = "x" * 1_000_000

    for request in (
        Request(
            method, path, query=f"client_id={huge}", body=f"client_id={huge}".encode(), content_type=FORM
        ),
        Request(method, path, query="&" * 1_000_000, body=b"&" * 1_000_000, content_type=FORM),
        Request(method, path, authorization=f"Basic {huge}", body=b"a=b", content_type=FORM),
        Request(method, path, authorization=f"Bearer {huge}"),
        Request(method, path, cookies={cookies.SESSION: huge}, content_type=huge),
    ):
        ask(request)


PROVER = Prover()
PROOF = {
    "jti": ["", "j", "J", None], "htm": ["GET", "POST", "post"], "iat": [0, 59, 61, -11, 10**6],
    "htu": ["", "?x=1", "#y", "/", "x"], "nonce": ["", "NONCE", "old"], "ath": ["TOKEN", "", "x"],
}  # fmt: skip
PROOF_NAMES = st.sampled_from(["jti", "htm", "htu", "iat", "exp", "nbf", "nonce", "ath", "sub"]) | nasty
PROOF_HEADERS = st.sampled_from(["typ", "alg", "jwk", "kid", "crit", "b64", "x5c"])


def test_fuzz_dpop_proof_is_refused_or_works_once(world: World, live: dict[str, str]) -> None:
    """At the three places that take one; what is left of the request is right."""
    world.prover = PROVER
    bound = world.tokens(scope="openid")["access_token"]
    ask, worked = asker(world, live), 0
    nonce = nonce_at(state.DatabaseState().nonce_key, world.now)
    likely = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in PROOF.items()})
    requests = st.sampled_from(
        [
            Request("GET", "/userinfo", authorization=f"DPoP {bound}"),
            Request("POST", "/userinfo", authorization=f"dpop {bound}", content_type="text/plain"),
            Request(
                "POST", "/token", body=b"grant_type=client_credentials", content_type=FORM,
                authorization=basic(f"service:{SECRET}"),
            ),
        ]
    )  # fmt: skip

    @bounded
    @given(
        requests, likely, st.booleans(), st.dictionaries(PROOF_NAMES, json_values, max_size=2),
        st.dictionaries(PROOF_HEADERS, json_values, max_size=1), st.one_of(st.none(), st.none(), nasty),
    )  # fmt: skip
    def run(
        request: Request, base: dict[str, Any], right: bool, changes: dict[str, Any], header: dict[str, Any],
        text: str | None,
    ) -> None:  # fmt: skip
        nonlocal worked
        address = f"http://localhost:8000{request.path}{'' if right else base['htu']}"
        said = {
            "jti": base["jti"] or secrets.token_urlsafe(6), "htm": request.method if right else base["htm"],
            "nonce": {"NONCE": nonce}.get(base["nonce"], base["nonce"] or None), **changes,
        }  # fmt: skip
        made_at = world.now - timedelta(seconds=0 if right else base["iat"])
        for_token = bound if request.path == "/userinfo" and (right or base["ath"] == "TOKEN") else ""
        try:
            proof = PROVER.proof("GET", address, made_at, for_token, header=header, **said)
        except UnicodeEncodeError:  # a lone surrogate cannot be written
            return
        request = replace(request, dpop=text if text is not None else proof)
        if not request.dpop:
            return
        first, second = ask(request), ask(request)
        assert isinstance(first, Response)
        assert isinstance(second, Response)
        assert second.status in {400, 401}, "a proof worked twice"
        assert dict(first.headers)["DPoP-Nonce"]
        worked += first.status == 200

    run()
    assert worked > 5
