"""A resource server that acts for a person at another one. Spec: RFC 8693; A18, A22, A24, A56, A57."""

import json

import pytest

from iam.access.models import Application, Assignment, Role
from iam.accounts.models import User
from iam.accounts.services import end_session
from iam.audit.models import AuditEvent
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, TokenFamily
from iam.oauth.protocol.delegation import ACCESS_TOKEN_KIND, GRANT_TYPE
from iam.oauth.protocol.fields import MetadataError

from .conftest import NAMES, SECRET, SERVER_SECRET, World, claims_of

pytestmark = pytest.mark.django_db

GATEWAY = {
    "client_id": "gateway", "client_secret": SECRET, "grant_types": ["client_credentials", GRANT_TYPE],
    "resource_server": ["gate.use"], "scope": "demo.read ledger.read", "application": "mail",
    "token_exchange_targets": ["resource"],
}  # fmt: skip
LEDGER = {
    "client_id": "ledger", "client_secret": SECRET, "grant_types": ["client_credentials", GRANT_TYPE],
    "resource_server": ["ledger.read"], "scope": "demo.read", "application": "ledger",
    "token_exchange_targets": ["resource"], "resource_uri": "https://ledger.example/",
}  # fmt: skip
WEB = {
    "client_id": "web", "client_secret": SECRET, "redirect_uris": ["https://web.example/cb"],
    "grant_types": ["authorization_code", "refresh_token"], "application": "mail", "trusted": True,
    "scope": "openid roles demo.read gate.use ledger.read",
}  # fmt: skip
ASKED = "openid roles demo.read gate.use ledger.read"


@pytest.fixture
def world(world: World) -> World:
    ledger = Application.objects.create(code="ledger", **NAMES)
    role = Role.objects.create(code="ledger.reader", application=ledger, **NAMES)
    Assignment.objects.create(
        person=world.person, role=role, office=world.office, valid_from=world.now, created_at=world.now
    )
    apply_all([GATEWAY, LEDGER, WEB], world.now, "system:test")
    world.sign_in()
    return world


def change(world: World, base: dict, **changes: object) -> None:
    apply_all([{**base, **changes}], world.now, "system:test")


def subject(world: World, scope: str = ASKED) -> str:
    return world.tokens("web", scope=scope)["access_token"]


def exchange(
    world: World, token: str, client: str = "gateway", secret: str | None = SECRET, **form: str | None
):
    return world.post(
        "/token", client, secret,
        **{
            "grant_type": GRANT_TYPE, "subject_token": token, "subject_token_type": ACCESS_TOKEN_KIND,
            "audience": "resource", **form,
        },
    )  # fmt: skip


def exchanged(world: World, token: str, client: str = "gateway", **form: str | None) -> dict:
    response = exchange(world, token, client, **form)
    assert response.status == 200, response.body
    return json.loads(response.body)


def exchange_for_both(world: World, token: str) -> dict:
    return exchanged(world, token, resource="https://ledger.example/")


def error_of(response) -> str:
    assert response.status == 400, response.body
    return json.loads(response.body)["error"]


# -- what is given --------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 8693", "2.2.1", "successful response")
@pytest.mark.spec("RFC 8693", "4.1", "act names who acts")
def test_exchanged_token_is_for_the_person_and_the_target_and_names_who_acts(world):
    token = subject(world)

    answer = exchanged(world, token)

    assert answer.keys() == {"access_token", "issued_token_type", "token_type", "expires_in", "scope"}
    assert (answer["issued_token_type"], answer["token_type"]) == (ACCESS_TOKEN_KIND, "Bearer")
    claims = claims_of(answer["access_token"])
    assert claims["sub"] == world.person.sub
    assert claims["act"] == {"sub": "gateway"}
    assert claims["client_id"] == "gateway"
    assert claims["aud"] == ["resource"]
    assert claims["scope"] == answer["scope"] == "demo.read"
    assert claims["roles"] == ["registry.clerk", "staff"]
    assert (claims["acr"], claims["auth_time"]) == (claims_of(token)["acr"], claims_of(token)["auth_time"])


@pytest.mark.spec("RFC 8693", "4.1", "introspection shows act")
def test_exchanged_token_is_active_for_the_target_which_sees_who_acts(world):
    answer = exchanged(world, subject(world))

    seen = world.introspect(answer["access_token"])

    assert (seen["active"], seen["act"], seen["sub"]) == (True, {"sub": "gateway"}, world.person.sub)
    assert "origin" not in seen
    assert world.introspect(answer["access_token"], "ledger", SECRET) == {"active": False}


def test_exchange_is_audited_with_who_acts_for_whom_and_where(world):
    exchanged(world, subject(world))

    event = AuditEvent.objects.get(action="client:token:issue", method="token_exchange")
    assert (event.actor, event.object) == ("client:gateway", f"person:{world.person.sub}")
    assert event.session == str(world.session.pk)


def test_exchanged_token_lives_no_longer_than_the_subject_token(world):
    token = subject(world)

    answer = exchanged(world.later(minutes=4), token)

    assert claims_of(answer["access_token"])["exp"] == claims_of(token)["exp"]
    assert answer["expires_in"] == 60


def test_exchange_accepts_what_is_named_by_resource_uri(world):
    apply_all(
        [
            {
                "client_id": "resource", "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
                "resource_server": ["demo.read"], "application": "registry", "resource_uri": "https://demo.example/api",
            }
        ],
        world.now,
        "system:test",
    )  # fmt: skip
    token = subject(world)

    by_uri = exchanged(world, token, audience=None, resource="https://demo.example/api")
    by_both = exchanged(world, token, resource="https://demo.example/api")

    for answer in (by_uri, by_both):
        assert claims_of(answer["access_token"])["aud"] == ["https://demo.example/api"]


def test_opaque_subject_token_is_exchanged_and_an_opaque_one_given(world):
    change(world, WEB, access_token_format="opaque")
    change(world, GATEWAY, access_token_format="opaque")

    answer = exchanged(world, subject(world))

    assert answer["access_token"].count(".") != 2
    seen = world.introspect(answer["access_token"])
    assert (seen["active"], seen["act"]) == (True, {"sub": "gateway"})


# -- never more (A18) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        (ASKED, "ledger.read"),  # another server's
        (ASKED, "demo.read ledger.read"),
        (ASKED, "openid"),
        (ASKED, "roles"),
        (ASKED, "demo.write"),
        (ASKED, "gate.use"),
    ],
)
def test_a18_exchange_never_widens_the_scope(world, scope, asked):
    assert error_of(exchange(world, subject(world, scope), scope=asked)) == "invalid_scope"


def test_a18_exchange_gives_no_scope_that_the_client_itself_may_not_have(world):
    token = subject(world)
    change(world, GATEWAY, scope="ledger.read")

    assert error_of(exchange(world, token)) == "invalid_scope"
    assert error_of(exchange(world, token, scope="demo.read")) == "invalid_scope"


def test_a18_token_that_is_not_for_the_target_is_not_exchanged_for_it(world):
    token = subject(world, "openid gate.use")

    assert error_of(exchange(world, token)) == "invalid_target"


def test_a18_token_that_was_narrowed_to_one_resource_is_not_widened_to_another(world):
    token = world.tokens("web", scope=ASKED)["refresh_token"]
    change(world, GATEWAY, resource_uri="https://gate.example/")
    narrowed = json.loads(world.refresh(token, resource="https://gate.example/").body)["access_token"]

    assert error_of(exchange(world, narrowed)) == "invalid_target"


def test_a18_role_that_came_after_the_subject_token_is_not_in_the_exchanged_one(world):
    token = subject(world)
    world.later(seconds=1)
    role = Role.objects.create(
        code="registry.head", application=Application.objects.get(code="registry"), **NAMES
    )
    Assignment.objects.create(
        person=world.person, role=role, office=world.office, valid_from=world.now, created_at=world.now
    )

    claims = claims_of(exchanged(world, token)["access_token"])

    assert claims["roles"] == ["registry.clerk", "staff"]
    assert "registry.head" in claims_of(subject(world, "openid demo.read"))["roles"]


def test_role_that_ended_since_is_not_in_the_exchanged_token(world):
    token = subject(world)
    Assignment.objects.filter(role__code="registry.clerk").update(valid_until=world.now)

    assert claims_of(exchanged(world, token)["access_token"])["roles"] == ["staff"]


# -- subjects that are refused (A18) ----------------------------------------------------------------------------


def _family_revoked(world: World, token: str) -> None:
    world.post("/revoke", "web", SECRET, token=token)


def _session_ended(world: World, token: str) -> None:
    end_session(world.session.pk, reason="signed_out", now=world.now)


def _person_disabled(world: World, token: str) -> None:
    User.objects.filter(pk=world.person.pk).update(is_active=False)


def _person_generation(world: World, token: str) -> None:
    User.objects.filter(pk=world.person.pk).update(generation=7)


def _origin_disabled(world: World, token: str) -> None:
    change(world, WEB, enabled=False)


def _origin_secret_changed(world: World, token: str) -> None:
    change(world, WEB, client_secret="n" * 40)


def _target_disabled(world: World, token: str) -> None:
    Client.objects.filter(client_id="resource").update(enabled=False)


def _pair_removed(world: World, token: str) -> None:
    change(world, GATEWAY, token_exchange_targets=["ledger"])


def _token_expired(world: World, token: str) -> None:
    world.later(minutes=5)


CHANGES = {
    "family revoked": _family_revoked,
    "session ended": _session_ended,
    "person disabled": _person_disabled,
    "person's counter raised": _person_generation,
    "first client disabled": _origin_disabled,
    "first client's secret changed": _origin_secret_changed,
    "target disabled": _target_disabled,
    "pair removed": _pair_removed,
    "token expired": _token_expired,
}


@pytest.mark.parametrize("happens", CHANGES.values(), ids=CHANGES)
def test_a18_exchange_after_a_change_is_refused(world, happens):
    token = subject(world)
    happens(world, token)

    assert error_of(exchange(world, token)) in {"invalid_request", "invalid_target"}


@pytest.mark.parametrize("happens", CHANGES.values(), ids=CHANGES)
def test_a22_exchanged_token_ends_with_whatever_ended_its_subject(world, happens):
    token = subject(world)
    answer = exchanged(world, token)

    happens(world, token)

    seen = world.post("/introspect", "gateway", SECRET, token=answer["access_token"])
    assert json.loads(seen.body) == {"active": False}


@pytest.mark.parametrize("application", ["mail", "registry"])
def test_a24_person_whom_an_application_does_not_admit_any_more_is_refused(world, application):
    token = subject(world)
    Application.objects.filter(code=application).update(admits="roles")

    assert error_of(exchange(world, token)) == "invalid_request"


def test_a24_person_without_the_factor_that_the_target_asks_for_is_refused(world):
    token = subject(world)
    world.session.factor_at, world.session.factor_kind = None, ""
    world.session.save()

    assert error_of(exchange(world, token)) == "invalid_request"


def test_a18_token_of_a_machine_is_refused(world):
    machine = world.post("/token", "service", SECRET, grant_type="client_credentials")
    token = json.loads(machine.body)["access_token"]

    assert error_of(exchange(world, token)) == "invalid_request"


def test_a18_token_that_is_not_for_the_client_is_refused(world):
    token = subject(world, "openid demo.read ledger.read")

    assert error_of(exchange(world, token)) == "invalid_request"


def test_a18_id_token_refresh_token_and_forged_token_are_no_subjects(world):
    tokens = world.tokens("web", scope=ASKED)
    head, body, _ = tokens["access_token"].split(".")

    for text in (
        tokens["id_token"],
        tokens["refresh_token"],
        f"{head}.{body}.{'A' * 86}",
        "x.y.z",
        "at_x",
        "é",
    ):
        assert error_of(exchange(world, text)) == "invalid_request"


# -- requests that are refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token_type": None}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"actor_token": "x.y.z"}, "invalid_request"),
        ({"actor_token": "x.y.z", "actor_token_type": ACCESS_TOKEN_KIND}, "invalid_request"),
        ({"audience": None}, "invalid_request"),
        ({"audience": "nobody"}, "invalid_target"),
        ({"audience": "web"}, "invalid_target"),  # a mere client
        ({"audience": "ledger"}, "invalid_target"),  # not registered for this pair
        ({"audience": "gateway"}, "invalid_target"),  # itself (A56)
        ({"audience": "http://localhost:8000"}, "invalid_target"),  # ourselves
        ({"audience": "resource", "resource": "https://other.example/"}, "invalid_target"),
        ({"audience": None, "resource": "resource"}, "invalid_target"),  # no address
        ({"authorization_details": "[]"}, "invalid_authorization_details"),
        ({"audience": "x" * 9000}, "invalid_request"),
        ({"scope": "x" * 9000}, "invalid_request"),
        ({"subject_token": "x" * 9000}, "invalid_request"),
        ({"audience": "res\0ource"}, "invalid_request"),
    ],
)
@pytest.mark.spec("RFC 8693", "2.2.2", "errors of requests and targets")
def test_exchange_refuses(world, form, error):
    token = subject(world)

    assert error_of(exchange(world, token, **form)) == error
    assert not AuditEvent.objects.filter(method="token_exchange").exists()


def test_exchange_for_two_targets_needs_both_pairs_and_something_to_do_at_both(world):
    token = subject(world)

    assert error_of(exchange(world, token, resource="https://ledger.example/")) == "invalid_target"
    change(world, GATEWAY, token_exchange_targets=["resource", "ledger"])
    both = exchange_for_both(world, token)
    assert set(claims_of(both["access_token"])["aud"]) == {"resource", "https://ledger.example/"}
    assert both["scope"] == "demo.read ledger.read"
    assert (
        error_of(exchange(world, token, resource="https://ledger.example/", scope="demo.read"))
        == "invalid_scope"
    )


def test_exchange_by_a_client_that_is_not_registered_for_it_is_refused(world):
    token = subject(world)

    assert error_of(exchange(world, token, "web")) == "unauthorized_client"
    assert error_of(exchange(world, token, "service")) == "unauthorized_client"


def test_a57_exchanged_token_opens_no_userinfo_and_brings_no_refresh_token(world):
    answer = exchanged(world, subject(world))

    assert world.userinfo(answer["access_token"]).status == 401
    assert not {"refresh_token", "id_token"} & answer.keys()
    assert TokenFamily.objects.count() == 1  # the subject's own


# -- chains (A56) ---------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(world: World) -> str:
    """A token that went through one pair of hands, for the ledger and the resource server."""
    change(world, GATEWAY, token_exchange_targets=["ledger", "resource"])
    return exchange_for_both(world, subject(world))["access_token"]


def test_a56_exchanged_token_is_not_exchanged_again(world, chain):
    assert error_of(exchange(world, chain, "ledger")) == "invalid_request"


@pytest.mark.spec("RFC 8693", "4.1", "earlier actors are nested")
def test_a56_chain_that_is_allowed_names_everybody_and_ends_with_the_first_token(world, chain):
    change(world, LEDGER, token_exchange_depth=2)

    claims = claims_of(exchanged(world.later(minutes=2), chain, "ledger")["access_token"])

    assert claims["act"] == {"sub": "ledger", "act": {"sub": "gateway"}}
    assert (claims["sub"], claims["aud"], claims["scope"]) == (world.person.sub, ["resource"], "demo.read")
    assert claims["exp"] == claims_of(chain)["exp"]


def test_a56_chain_never_widens_the_audience(world):
    change(world, LEDGER, token_exchange_depth=2)
    change(world, GATEWAY, token_exchange_targets=["ledger"])
    narrow = exchanged(world, subject(world), audience="ledger")["access_token"]

    assert error_of(exchange(world, narrow, "ledger")) == "invalid_target"


@pytest.mark.parametrize("who", ["gateway", "web"])
def test_a56_chain_ends_when_anybody_before_is_switched_off(world, chain, who):
    change(world, LEDGER, token_exchange_depth=2)
    last = exchanged(world, chain, "ledger")["access_token"]
    assert world.introspect(last)["active"] is True

    change(world, {"gateway": GATEWAY, "web": WEB}[who], enabled=False)

    assert world.introspect(last) == {"active": False}
    assert error_of(exchange(world, chain, "ledger")) in {"invalid_request", "invalid_target"}


def test_a56_chain_ends_when_an_earlier_pair_is_taken_out(world, chain):
    change(world, LEDGER, token_exchange_depth=2)
    last = exchanged(world, chain, "ledger")["access_token"]

    change(world, GATEWAY, token_exchange_targets=["ledger"])

    assert world.introspect(last) == {"active": False}


# -- registration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"token_exchange_targets": ["nobody"]}, "no other resource server"),
        ({"token_exchange_targets": ["web"]}, "no other resource server"),
        ({"token_exchange_targets": ["gateway"]}, "no other resource server"),
        ({"token_exchange_targets": "resource"}, "list"),
        ({"token_exchange_depth": 0}, "whole number"),
        ({"token_exchange_depth": 4}, "whole number"),
        ({"token_exchange_depth": True}, "whole number"),
        ({"grant_types": ["client_credentials"]}, "needs"),
        (
            {"token_endpoint_auth_method": "none", "client_secret": None, "grant_types": [GRANT_TYPE]},
            "public client",
        ),
    ],
)
def test_pair_that_cannot_be_is_not_registered(world, changes, text):
    with pytest.raises(MetadataError, match=text):
        change(world, GATEWAY, **changes)


def test_revoking_an_exchanged_token_ends_it_alone(world):
    token = subject(world)
    answer = exchanged(world, token)

    world.post("/revoke", "gateway", SECRET, token=answer["access_token"])

    assert world.introspect(answer["access_token"]) == {"active": False}
    assert world.introspect(token)["active"] is True


def test_subject_token_can_be_exchanged_again_and_by_nobody_after_its_end(world):
    token = subject(world)

    first, second = exchanged(world, token), exchanged(world, token)

    assert claims_of(first["access_token"])["jti"] != claims_of(second["access_token"])["jti"]
    assert error_of(exchange(world.later(minutes=5, seconds=1), token)) == "invalid_request"
