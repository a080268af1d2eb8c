"""The gate matrix (A22, A24): everything that issues or answers, times everything that ends a right. Every cell refuses.

Rows are held to `endpoints/token.GRANTS` and to the engine's addresses: a new grant, or a new address, without a row
fails here, and so does a new reason for which an account may not act without a column. A state is written into the
database by hand, without what `lifecycle` does beside it: the conditions of the gate must hold by themselves.
"""

import ast
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from iam.access.models import Application, Assignment, OfficeState
from iam.accounts import selectors
from iam.accounts.models import LoginSession, User
from iam.audit.facts import RequestFacts
from iam.audit.models import AuditEvent
from iam.oauth import engine, interactions, issuance, state
from iam.oauth.clients import apply_all
from iam.oauth.endpoints.token import GRANTS
from iam.oauth.issuers import apply_issuers
from iam.oauth.models import AccessToken, Client, DeviceGrant, Grant, PushedRequest
from iam.oauth.protocol import jose
from iam.oauth.protocol.delegation import ACCESS_TOKEN_KIND
from iam.oauth.protocol.delegation import GRANT_TYPE as TOKEN_EXCHANGE
from iam.oauth.protocol.device import GRANT_TYPE as DEVICE_CODE
from iam.oauth.protocol.device import read_user_code
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ErrorPage, Interaction, Response
from iam.oauth.protocol.trusted_issuers import GRANT_TYPE as JWT_BEARER
from tests.proofs import Prover

from .conftest import SECRET, SERVER_SECRET, World, answer_of

pytestmark = pytest.mark.django_db

BROWSER, FACTS = "b" * 43, RequestFacts("r-1", "192.0.2.1")
CALLBACK = "https://web.example/cb"
PLATFORM = jose.load_private("p-1", "ES256", jose.private_bytes(jose.generate("ES256")))
CLIENTS = [
    {
        "client_id": "web", "client_secret": SECRET, "redirect_uris": [CALLBACK], "application": "mail", "trusted": True,
        "grant_types": ["authorization_code", "refresh_token"], "scope": "openid roles demo.read gate.use",
    },
    {
        "client_id": "opaque", "client_secret": SECRET, "redirect_uris": [CALLBACK], "application": "mail", "trusted": True,
        "grant_types": ["authorization_code"], "scope": "openid roles demo.read", "access_token_format": "opaque",
    },
    {
        "client_id": "screen", "client_secret": SECRET, "grant_types": [DEVICE_CODE], "scope": "openid roles",
        "application": "mail",
    },
    {
        "client_id": "gateway", "client_secret": SECRET, "grant_types": ["client_credentials", TOKEN_EXCHANGE],
        "resource_server": ["gate.use"], "scope": "demo.read", "application": "mail", "token_exchange_targets": ["resource"],
    },
    {
        "client_id": "workload", "token_endpoint_auth_method": "none", "grant_types": [JWT_BEARER], "scope": "demo.read",
        "application": "mail",
    },
]  # fmt: skip

Attempt = Callable[[], str]  # what came of it: "issued", or why not


@dataclass(frozen=True, slots=True)
class Row:
    """A way in which something leaves the gate.

    `begin` prepares all that comes before a state changes and returns the attempt, which is made after it. `client` is
    whose. `without` says which states do not apply, and why.
    """

    of: str  # a grant type, or an address
    client: str
    begin: Callable[[World], Attempt]
    without: dict[str, str] = field(default_factory=dict)


# -- states ---------------------------------------------------------------------------------------------------------


def _disabled(world: World, row: Row) -> None:
    User.objects.filter(pk=world.person.pk).update(is_active=False)


def _locked(world: World, row: Row) -> None:
    User.objects.filter(pk=world.person.pk).update(locked_until=world.now + timedelta(seconds=1))


def _expired(world: World, row: Row) -> None:
    User.objects.filter(pk=world.person.pk).update(valid_until=world.now)


def _session_ended(world: World, row: Row) -> None:
    LoginSession.objects.filter(pk=world.session.pk).update(ended_at=world.now, end_reason="signed_out")


def _session_ran_out(world: World, row: Row) -> None:
    LoginSession.objects.filter(pk=world.session.pk).update(expires_at=world.now)


def _office_closed(world: World, row: Row) -> None:
    OfficeState.objects.create(office=world.office, state="closed", since=world.now)


def _assignment_ended(world: World, row: Row) -> None:
    Assignment.objects.filter(role__code="staff").update(valid_until=world.now)


def _factor_asked_for(world: World, row: Row) -> None:
    LoginSession.objects.filter(pk=world.session.pk).update(factor_at=None, factor_kind="")


def _client_disabled(world: World, row: Row) -> None:
    Client.objects.filter(client_id=row.client).update(enabled=False)


STATES: dict[str, Callable[[World, Row], None]] = {
    "account_disabled": _disabled,
    "account_locked": _locked,
    "account_expired": _expired,
    "session ended": _session_ended,
    "session ran out": _session_ran_out,
    "office closed": _office_closed,
    "assignment ended": _assignment_ended,
    "level lost": _factor_asked_for,
    "client disabled": _client_disabled,
}
OF_A_PERSON = tuple(name for name in STATES if name != "client disabled")
NOBODY = dict.fromkeys(OF_A_PERSON, "no person and no session is behind it")
UNTIL_SOMEBODY = dict.fromkeys(OF_A_PERSON, "nobody is known yet; whoever comes is asked then")
ALREADY_ENDED = dict.fromkeys(
    OF_A_PERSON, "it says that a session is over; who may no longer act must be told of just the same"
)


# -- rows -----------------------------------------------------------------------------------------------------------


def _said(response: Response) -> str:
    answer = json.loads(response.body)
    return "issued" if response.status in {200, 201} else str(answer["error"])


def _of_browser(world: World, answer: object) -> str:
    if isinstance(answer, ErrorPage):
        return answer.error
    if isinstance(answer, Interaction):
        return f"asks {answer.need.value}"
    given = answer_of(answer)
    return "issued" if "code" in given else given["error"]


def _code(world: World) -> Attempt:
    code = world.code("web", scope="openid roles demo.read")
    return lambda: _said(world.exchange(code))


def _code_for_opaque(world: World) -> Attempt:
    code = answer_of(world.visit(**world.wanted("opaque", redirect_uri=CALLBACK)))["code"]
    return lambda: _said(world.exchange(code, "opaque", redirect_uri=CALLBACK))


def _refresh(world: World) -> Attempt:
    token = world.tokens()["refresh_token"]
    return lambda: _said(world.refresh(token))


def _retry(world: World) -> Attempt:
    """The answer of a refresh was lost, and the same token comes again within the window."""
    token = world.tokens()["refresh_token"]
    assert world.refresh(token).status == 200
    return lambda: _said(world.refresh(token))


def _bound_refresh(world: World) -> Attempt:
    world.prover = Prover()
    return _refresh(world)


def _machine(world: World) -> Attempt:
    return lambda: _said(world.post("/token", "service", grant_type="client_credentials"))


def _device(world: World) -> Attempt:
    begun = json.loads(world.post("/device_authorization", "screen", scope="openid roles").body)
    assert _answer_device(world, begun["user_code"])() == "issued"
    return lambda: _said(
        world.post("/token", "screen", grant_type=DEVICE_CODE, device_code=begun["device_code"])
    )


def _exchange(world: World) -> Attempt:
    token = world.tokens("web", scope="openid demo.read gate.use")["access_token"]
    return lambda: _said(_act_for(world, token))


def _act_for(world: World, token: str) -> Response:
    return world.post(
        "/token", "gateway", grant_type=TOKEN_EXCHANGE, subject_token=token, subject_token_type=ACCESS_TOKEN_KIND,
        audience="resource",
    )  # fmt: skip


def _vouched(world: World) -> Attempt:
    now = int(world.now.timestamp())
    claims = {"iss": "https://platform.example", "sub": "nightly", "aud": "http://localhost:8000", "iat": now,
              "exp": now + 60, "jti": "once"}  # fmt: skip
    text = PLATFORM.sign("JWT", claims)
    return lambda: _said(world.post("/token", "workload", None, grant_type=JWT_BEARER, assertion=text))


def _authorize(world: World) -> Attempt:
    return lambda: _of_browser(world, world.authorize())


def _authorize_silently(world: World) -> Attempt:
    return lambda: _of_browser(world, world.authorize(prompt="none"))


def _authorize_pushed(world: World) -> Attempt:
    request_uri = world.pushed()
    return lambda: _of_browser(world, world.visit(client_id="web", request_uri=request_uri))


def _authorize_signed(world: World) -> Attempt:
    return lambda: _of_browser(world, world.authorize(response_mode="form_post"))


def _after_a_page(world: World) -> Attempt:
    """A request that waited for a person's agreement, on a page of ours, and goes on."""
    asked = world.authorize("web", prompt="consent")
    assert isinstance(asked, Interaction)
    handle = interactions.park(asked, BROWSER, world.now)
    interactions.give_consent(_waiting(world, handle), _session(world), FACTS, world.now)

    def go_on() -> str:
        return _of_browser(
            world, interactions.evaluate(_waiting(world, handle), _session(world), FACTS, world.now)
        )

    return go_on


def _waiting(world: World, handle: str) -> interactions.Parked:
    state.forget()
    parked = interactions.load(handle, BROWSER, world.now)
    assert parked is not None
    return parked


def _session(world: World) -> LoginSession:
    return LoginSession.objects.select_related("user").get(pk=world.session.pk)


def _push(world: World) -> Attempt:
    return lambda: _said(world.push())


def _device_begins(world: World) -> Attempt:
    return lambda: _said(world.post("/device_authorization", "screen", scope="openid roles"))


def _device_page(world: World) -> Attempt:
    """A person says on a page of ours that a device may come in."""
    begun = json.loads(world.post("/device_authorization", "screen", scope="openid roles").body)
    return _answer_device(world, begun["user_code"])


def _answer_device(world: World, user_code: str) -> Attempt:
    handle = interactions.park_device(read_user_code(user_code), _session(world), BROWSER, world.now)

    def let_in() -> str:
        waiting = _waiting(world, handle)
        try:
            answer = interactions.answer_device(waiting, _session(world), FACTS, world.now, let_in=True)
        except OAuthError as problem:
            return problem.error
        confirmed = isinstance(answer, Response) and dict(answer.headers)["Location"] == "/device/confirmed"
        return "issued" if confirmed else "asks anew"

    return let_in


def _userinfo(world: World) -> Attempt:
    token = world.tokens()["access_token"]
    return lambda: "issued" if world.userinfo(token).status == 200 else "invalid_token"


def _introspection(world: World) -> Attempt:
    token = world.tokens("web", scope="openid demo.read")["access_token"]
    return lambda: _active(world.introspect(token))


def _introspection_of_opaque(world: World) -> Attempt:
    code = answer_of(world.visit(**world.wanted("opaque", redirect_uri=CALLBACK, scope="openid demo.read")))[
        "code"
    ]
    token = json.loads(world.exchange(code, "opaque", redirect_uri=CALLBACK).body)["access_token"]
    return lambda: _active(world.introspect(token))


def _introspection_of_refresh(world: World) -> Attempt:
    token = world.tokens()["refresh_token"]
    return lambda: _active(json.loads(world.post("/introspect", token=token).body))


def _introspection_of_machine(world: World) -> Attempt:
    answer = world.post("/token", "service", grant_type="client_credentials")
    token = json.loads(answer.body)["access_token"]
    return lambda: _active(world.introspect(token))


def _introspection_of_exchanged(world: World) -> Attempt:
    subject = world.tokens("web", scope="openid demo.read gate.use")["access_token"]
    token = json.loads(_act_for(world, subject).body)["access_token"]
    return lambda: _active(world.introspect(token))


def _introspection_by_a_disabled_server(world: World) -> Attempt:
    token = world.tokens("web", scope="openid demo.read")["access_token"]
    return lambda: _active(world.introspect(token))


def _active(answer: dict) -> str:
    if "error" in answer:
        return str(answer["error"])
    assert answer["active"] or answer == {"active": False}
    return "issued" if answer["active"] else "inactive"


def _logout_token(world: World) -> Attempt:
    world.tokens()
    LoginSession.objects.filter(pk=world.session.pk).update(ended_at=world.now)

    def tell() -> str:
        state.forget()
        known = state.DatabaseState()
        client = known.client("web")
        assert client is not None
        try:
            ending = issuance.clear_logout(known, client, world.session.pk, world.now)
        except OAuthError as problem:
            return problem.error
        return "issued" if issuance.logout_token(known, ending) else ""

    return tell


ROWS: dict[str, Row] = {
    "code": Row("authorization_code", "web", _code),
    "code, opaque token": Row("authorization_code", "opaque", _code_for_opaque),
    "refresh": Row("refresh_token", "web", _refresh),
    "refresh, retried": Row("refresh_token", "web", _retry),
    "refresh, bound to a key": Row("refresh_token", "web", _bound_refresh),
    "client credentials": Row("client_credentials", "service", _machine, NOBODY),
    "device": Row(DEVICE_CODE, "screen", _device),
    "exchange": Row(TOKEN_EXCHANGE, "gateway", _exchange),
    "exchange, first client": Row(TOKEN_EXCHANGE, "web", _exchange),
    "exchange, target": Row(TOKEN_EXCHANGE, "resource", _exchange),
    "assertion": Row(JWT_BEARER, "workload", _vouched, NOBODY),
    "authorize": Row("/authorize", "web", _authorize),
    "authorize, prompt=none": Row("/authorize", "web", _authorize_silently),
    "authorize, pushed": Row("/authorize", "web", _authorize_pushed),
    "authorize, form_post": Row("/authorize", "web", _authorize_signed),
    "authorize, after a page": Row("/authorize", "web", _after_a_page),
    "push": Row("/par", "web", _push, UNTIL_SOMEBODY),
    "device begins": Row("/device_authorization", "screen", _device_begins, UNTIL_SOMEBODY),
    "device, confirmed on a page": Row("/device_authorization", "screen", _device_page),
    "userinfo": Row("/userinfo", "web", _userinfo),
    "introspection": Row("/introspect", "web", _introspection),
    "introspection, opaque": Row("/introspect", "opaque", _introspection_of_opaque),
    "introspection, refresh token": Row("/introspect", "web", _introspection_of_refresh),
    "introspection, exchanged": Row("/introspect", "gateway", _introspection_of_exchanged),
    "introspection, exchanged, first client": Row("/introspect", "web", _introspection_of_exchanged),
    "introspection, machine": Row("/introspect", "service", _introspection_of_machine, NOBODY),
    "introspection, who asks": Row("/introspect", "resource", _introspection_by_a_disabled_server),
    "logout token": Row("/logout", "web", _logout_token, ALREADY_ENDED),
}  # fmt: skip

# Addresses that give nothing for which the gate would have to ask.
ISSUES_NOTHING = {
    "/.well-known/openid-configuration": "says what everybody may know",
    "/.well-known/oauth-authorization-server": "says what everybody may know",
    "/jwks": "public keys",
    "/jwks/": "public keys",
    "/token": "its grants are rows of their own",
    "/revoke": "only takes away",
    "/register": "clients, not persons; what its token opens is tested with it (test_registration_endpoint.py)",
    "/register/": "as above",
}


# -- the matrix ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(world: World) -> World:
    """The application admits its staff only, so that whoever loses the role, or its office, loses the application."""
    Application.objects.filter(code="mail").update(admits="staff")
    apply_all(CLIENTS, world.now, "system:test")
    issuer = {"issuer": "https://platform.example", "jwks": {"keys": [PLATFORM.jwk()]}, "scope": "demo.read",
              "subjects": {"nightly": "workload"}}  # fmt: skip
    apply_issuers([issuer], world.now, "system:test")
    world.sign_in()
    return world


def cells() -> list[tuple[str, str]]:
    return [(row, name) for row, value in ROWS.items() for name in STATES if name not in value.without]


def _issued() -> tuple[int, ...]:
    """Count whatever was given out and leaves a trace."""
    return (
        Grant.objects.count(),
        AccessToken.objects.count(),
        PushedRequest.objects.count(),
        DeviceGrant.objects.filter(status="authorized").count(),
        AuditEvent.objects.filter(
            action__in=["client:token:issue", "person:code:issue"], outcome="success"
        ).count(),
    )


@pytest.mark.parametrize(("row", "name"), cells(), ids=lambda value: value)
def test_a22_a24_every_cell_refuses(row: str, name: str, world: World) -> None:
    attempt = ROWS[row].begin(world)
    pushed = PushedRequest.objects.count()
    before = _issued()
    STATES[name](world, ROWS[row])

    outcome = attempt()

    assert outcome != "issued"
    assert outcome
    after = list(_issued())
    after[2] += pushed - PushedRequest.objects.count()  # taken away, which is no issue
    assert after == list(before), outcome


@pytest.mark.parametrize("row", ROWS)
def test_every_row_issues_as_long_as_nothing_changed(row: str, world: World) -> None:
    """Else its cells would refuse for another reason than theirs."""
    assert ROWS[row].begin(world)() == "issued"


# -- the matrix is whole ---------------------------------------------------------------------------------------------


def without_a_row(grants: Iterable[str], addresses: Iterable[str]) -> set[str]:
    """Return what issues, or may, and has no row."""
    covered = {row.of for row in ROWS.values()}
    return {*grants, *addresses} - covered - set(ISSUES_NOTHING)


def without_a_column(reasons: Iterable[str]) -> set[str]:
    return set(reasons) - set(STATES)


def reasons_of_accounts(source: str) -> set[str]:
    """Return every word that the function's source can return."""
    returned = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Return))
    return {node.value for node in returned if isinstance(node, ast.Constant) and node.value}


def test_every_grant_and_every_address_has_a_row() -> None:
    addresses = {
        path for path in (*engine.ENDPOINTS, *engine.NAMED) if "oauth-protected-resource" not in path
    }

    assert without_a_row(GRANTS, addresses) == set()


def test_a_grant_or_an_address_without_a_row_is_found() -> None:
    new = "urn:ietf:params:oauth:grant-type:new"

    assert without_a_row([*GRANTS, new], [*engine.ENDPOINTS, "/ciba"]) >= {new, "/ciba"}


def test_every_reason_for_which_an_account_may_not_act_has_a_column() -> None:
    reasons = reasons_of_accounts(inspect.getsource(selectors.reason_not_to_act))

    assert reasons == {"account_disabled", "account_locked", "account_expired"}
    assert without_a_column(reasons) == set()


def test_a_reason_without_a_column_is_found() -> None:
    source = inspect.getsource(selectors.reason_not_to_act).replace("account_locked", "account_frozen")

    assert without_a_column(reasons_of_accounts(source)) == {"account_frozen"}


def test_what_does_not_apply_is_named_with_its_reason_and_is_little() -> None:
    for name, row in ROWS.items():
        assert set(row.without) <= set(STATES), name
        assert all(reason.strip() for reason in row.without.values()), name
        assert "client disabled" not in row.without, name
    assert not set(ISSUES_NOTHING) & {row.of for row in ROWS.values()}
    assert set(ISSUES_NOTHING) <= {*engine.ENDPOINTS, *engine.NAMED}


# -- life --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [1, 60, 10 * 365 * 86400])
def test_a22_token_that_says_it_lives_longer_than_five_minutes_is_not_in_force(
    more: int, world: World
) -> None:
    """Defence: whoever got hold of a key, or of the code that writes `exp`, gets no more than we give."""
    token = world.tokens("web", scope="openid demo.read")["access_token"]
    key = state.DatabaseState().signing_key("ES256")
    claims = jose.verify(token, state.DatabaseState().keys()).claims
    again = key.sign("at+jwt", dict(claims))
    longer = key.sign("at+jwt", {**claims, "exp": claims["exp"] + more})
    earlier = key.sign("at+jwt", {**claims, "iat": claims["iat"] - more})

    assert world.introspect(again)["active"]
    assert not world.introspect(longer)["active"]
    assert not world.introspect(earlier)["active"]
    assert world.userinfo(longer).status == 401


def test_a22_token_ends_with_the_account_and_with_the_session(world: World) -> None:
    end = world.now + timedelta(seconds=90)
    User.objects.filter(pk=world.person.pk).update(valid_until=end)

    given = world.tokens("web", scope="openid demo.read")

    assert given["expires_in"] == 90
    assert world.later(seconds=89).introspect(given["access_token"])["active"]
    assert not world.later(seconds=1).introspect(given["access_token"])["active"]
    assert json.loads(world.refresh(given["refresh_token"]).body)["error"] == "invalid_grant"


def test_lock_that_is_over_refuses_nothing(world: World) -> None:
    User.objects.filter(pk=world.person.pk).update(locked_until=world.now)

    assert world.introspect(world.tokens("web", scope="openid demo.read")["access_token"])["active"]
    assert json.loads(world.post("/introspect", "resource", SERVER_SECRET, token="x").body) == {
        "active": False
    }
