"""An application's owner can read why its client was refused: every path leaves a trace, and none names a person."""

import base64
import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from iam.access.models import Assignment
from iam.audit.models import AuditEvent
from iam.audit.record import flush_tallies
from iam.audit.selectors import RefusalCount, refusals_of
from iam.oauth.models import Client
from iam.oauth.protocol.messages import Request
from iam.oauth.protocol.refusals import explained

from .conftest import SECRET, World

pytestmark = pytest.mark.django_db


def refusals(world: World, client: str = "web", hours: int = 24) -> dict[str, RefusalCount]:
    return {one.reason: one for one in refusals_of(client, world.now - timedelta(hours=hours))}


def only(world: World, client: str = "web") -> tuple[str, int, str]:
    [one] = refusals(world, client).values()
    return one.reason, one.count, one.last_reference


def basic(client: str = "web", secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def authorize_raw(world: World, query: str) -> None:
    world.ask(Request("GET", "/authorize", query=query))


# -- each endpoint --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/token", "/par", "/introspect", "/revoke"])
@pytest.mark.parametrize(
    ("how", "reason"),
    [("secret", "wrong_secret"), ("method", "wrong_method"), ("two", "two_methods"), ("doubled", "doubled")],
)
def test_client_that_fails_to_authenticate_leaves_a_trace(
    world: World, path: str, how: str, reason: str
) -> None:
    body = {
        "secret": "", "method": f"client_id=web&client_secret={SECRET}", "two": f"client_secret={SECRET}",
        "doubled": "token=a&token=b&client_id=web",
    }[how]  # fmt: skip
    authorization = {
        "secret": basic(secret="w" * 40),
        "method": "",
        "two": basic(),
        "doubled": basic(secret="w" * 40),
    }[how]
    world.ask(
        Request(
            "POST", path, body=body.encode(), authorization=authorization,
            content_type="application/x-www-form-urlencoded",
        )
    )  # fmt: skip

    found = refusals(world)
    if how in {"two", "doubled"}:  # nobody can be told by it: two names, or a broken form
        assert set(found) <= {reason}
    else:
        assert only(world) == (reason, 1, "r-1")


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
        ({"grant_type": "refresh_token", "refresh_token": "rt_x"}, "refresh_unknown"),
    ],
)
def test_refusal_at_token_leaves_a_trace(world: World, form: dict[str, str], reason: str) -> None:
    world.post("/token", **form)

    assert only(world) == (reason, 1, "r-1")


def test_replay_leaves_a_trace(world: World) -> None:
    world.sign_in()
    code = world.code()
    world.exchange(code)
    world.exchange(code)

    assert "code_replayed" in refusals(world)


@pytest.mark.parametrize("path", ["/introspect", "/revoke", "/par"])
def test_refusal_at_the_other_form_endpoints_leaves_a_trace(world: World, path: str) -> None:
    answer = world.post(path)

    assert answer.status == 400
    [reason] = refusals(world)
    assert reason in {"invalid_request", "redirect_uri"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"redirect_uri": "https://evil.example/"}, "redirect_uri"), ({"redirect_uri": None}, "redirect_uri"),
        ({"response_type": "token"}, "unsupported_response_type"), ({"scope": "openid unheard-of"}, "scope_unknown"),
        ({"code_challenge": None}, "pkce_missing"), ({"code_challenge_method": "plain"}, "pkce_method"),
        ({"prompt": "none"}, "login_required"), ({"id_token_hint": "x"}, "hint"),
    ],
)  # fmt: skip
def test_refusal_at_authorize_leaves_a_trace(
    world: World, changes: dict[str, str | None], reason: str
) -> None:
    world.authorize(**changes)

    assert only(world) == (reason, 1, "r-1")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("client_id=web&redirect_uri=a&redirect_uri=b", "doubled"),
        ("client_id=web&state=%FF&redirect_uri=https://web.example/cb", "unusable"),
        ("client_id=web&request=x&request_uri=urn:ietf:params:oauth:request_uri:x", "invalid_request"),
        ("client_id=web&request_uri=urn:ietf:params:oauth:request_uri:x", "invalid_request_uri"),
        ("client_id=web&request=x", "object_signature"),
    ],
)
def test_page_of_refusal_at_authorize_leaves_a_trace(world: World, query: str, reason: str) -> None:
    authorize_raw(world, query)

    assert set(refusals(world)) & {reason, "invalid_request_object", "request_not_supported"}


def test_switched_off_client_leaves_a_trace(world: World) -> None:
    Client.objects.filter(client_id="web").update(enabled=False)
    world.authorize()

    assert only(world) == ("client_disabled", 1, "r-1")


def test_person_whom_the_application_does_not_admit_is_counted_without_a_name(world: World) -> None:
    application = Client.objects.get(client_id="web").application
    assert application is not None
    application.admits = "staff"
    application.save()
    Assignment.objects.all().delete()
    world.sign_in()
    world.authorize()

    assert only(world)[:2] == ("no_staff_role", 1)


def test_token_that_is_over_is_counted_for_its_client_at_userinfo(world: World) -> None:
    world.sign_in()
    token = world.tokens(scope="openid")["access_token"]
    world.later(minutes=6)
    world.userinfo(token)
    world.ask(Request("GET", "/userinfo"))
    world.userinfo(token[:-3] + "AAA")

    assert only(world) == ("invalid_token", 1, "r-1")


def test_token_without_the_scope_is_counted_for_its_client_at_userinfo(world: World) -> None:
    token = json.loads(world.post("/token", "service", grant_type="client_credentials").body)["access_token"]
    world.userinfo(token)

    assert only(world, "service") == ("invalid_token", 1, "r-1")


# -- counting ---------------------------------------------------------------------------------------------------------


def test_events_counts_and_counts_that_became_events_are_added_up(world: World) -> None:
    for _ in range(3):
        world.post("/token", secret="w" * 40)
    world.later(minutes=2)
    with transaction.atomic():
        assert flush_tallies(world.now) == 1
    for _ in range(2):
        world.post("/token", secret="w" * 40)
    world.post("/token", grant_type="password")

    found = refusals(world)
    assert {reason: one.count for reason, one in found.items()} == {
        "wrong_secret": 5,
        "unsupported_grant_type": 1,
    }
    assert found["wrong_secret"].last_reference == "r-1"


def test_only_the_hours_that_were_asked_for_and_only_this_client(world: World) -> None:
    world.post("/token", grant_type="password")
    world.post("/token", "service", grant_type="password")
    world.later(hours=25)

    assert refusals(world) == {}
    assert set(refusals(world, hours=26)) == {"unsupported_grant_type"}
    assert refusals(world, "other", hours=26) == {}


def test_client_whose_name_begins_like_another_is_not_mixed_up(world: World) -> None:
    world.post("/token", grant_type="password")

    assert refusals(world, "we") == {}
    assert refusals(world, "web2") == {}


# -- the command --------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("client", "refusals", *arguments, stdout=out)
    return out.getvalue()


def test_command_tells_count_error_reason_advice_and_reference_and_no_person(world: World) -> None:
    world.sign_in()
    world.authorize(scope="openid unheard-of")
    for _ in range(2):
        world.post("/token", secret="w" * 40)

    said = run("web", "--hours", "744")

    assert "web was refused 3 times in the last 744 hours:" in said
    assert f"2 ×  invalid_client  [wrong_secret]  {explained('wrong_secret').advice}" in said
    assert f"1 ×  invalid_scope  [scope_unknown]  {explained('scope_unknown').advice}" in said
    assert said.count("reference r-1") == 2
    for secret in (world.person.sub, "amina", "Amina", world.source, SECRET):
        assert secret not in said
    read = AuditEvent.objects.get(action="administrator:audit:read")
    assert (read.object, read.method) == ("client:web", "refusals hours=744")


def test_command_says_when_there_was_nothing(world: World) -> None:
    assert run("web") == "web was not refused in the last 24 hours.\n"


@pytest.mark.parametrize(
    "arguments", [("nobody",), ("web\x00",), ("web", "--hours", "0"), ("web", "--hours", "745")]
)
def test_command_refuses_what_makes_no_sense(world: World, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)


def test_word_of_a_later_day_still_has_a_line() -> None:
    assert explained("unheard_of").advice
