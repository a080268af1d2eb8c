"""A device without a keyboard: two codes, one person, one answer, tokens once. Spec: RFC 8628; A18, A22, A46, A48, A57."""

import json
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from iam.access.models import Assignment
from iam.accounts.models import LoginSession, User
from iam.accounts.services import end_session, mark_factor, open_session
from iam.audit.facts import RequestFacts
from iam.audit.models import AuditEvent
from iam.oauth import interactions, state
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, DeviceGrant, RevokedToken, TokenFamily
from iam.oauth.protocol.device import GRANT_TYPE, WAITING_MAX, read_user_code
from iam.oauth.protocol.messages import ErrorPage, Interaction, Need, Response
from iam.oauth.purge import purge

from .conftest import SECRET, World, claims_of

pytestmark = pytest.mark.django_db

BROWSER = "b" * 43
FACTS = RequestFacts("r-9", "198.51.100.7", "test")
CLIENTS = [
    {
        "client_id": "screen", "client_secret": SECRET, "grant_types": [GRANT_TYPE, "refresh_token"],
        "scope": "openid roles demo.read", "application": "mail", "client_name": "Meeting room",
    },
    {
        "client_id": "radio", "client_secret": SECRET, "grant_types": [GRANT_TYPE], "scope": "demo.read",
        "application": "mail",
    },
    {
        "client_id": "box", "token_endpoint_auth_method": "none", "grant_types": [GRANT_TYPE], "scope": "openid roles",
        "application": "mail",
    },
]  # fmt: skip


@pytest.fixture
def world(world: World) -> World:
    apply_all(CLIENTS, world.now, "system:test")
    return world


def begin(world: World, client: str = "screen", secret: str | None = SECRET, **form: str) -> dict:
    response = world.post("/device_authorization", client, secret, **{"scope": "openid roles", **form})
    assert response.status == 200, response.body
    return json.loads(response.body)


def poll(world: World, device_code: str, client: str = "screen", secret: str | None = SECRET) -> dict:
    response = world.post("/token", client, secret, grant_type=GRANT_TYPE, device_code=device_code)
    answer = json.loads(response.body)
    assert (response.status == 200) is ("error" not in answer)
    return answer


def ask(world: World, user_code: str, session: LoginSession | None = None) -> interactions.Parked | None:
    """Type a code as somebody, and return the question that it leads to."""
    handle = interactions.park_device(
        read_user_code(user_code), session or world.session or world.sign_in(), BROWSER, world.now
    )
    return interactions.load(handle, BROWSER, world.now) if handle else None


def look(world: World, parked: interactions.Parked, session: LoginSession | None = None):
    return interactions.evaluate(parked, session or world.session, FACTS, world.now)


def answer(
    world: World,
    parked: interactions.Parked | None,
    *,
    let_in: bool = True,
    session: LoginSession | None = None,
) -> str:
    """Answer the question; return the page that says what became of it."""
    assert parked is not None
    state.forget()
    response = interactions.answer_device(
        parked,
        session or world.session,
        FACTS,
        world.now,
        let_in=let_in,
        reason="" if let_in else "device_denied",
    )
    return dict(response.headers)["Location"] if response else "asked anew"


def confirmed(world: World, client: str = "screen", secret: str | None = SECRET, **form: str) -> str:
    """Return a device code that a person confirmed."""
    begun = begin(world, client, secret, **form)
    assert answer(world, ask(world, begun["user_code"])) == "/device/confirmed"
    return begun["device_code"]


def somebody_else(world: World) -> LoginSession:
    other = User.objects.create(name_latin="Omar Haddad", created_at=world.now)
    session, _ = open_session(other, world.now, timedelta(hours=12))
    mark_factor(session, "otp", world.now)
    return session


# -- the device authorization endpoint ---------------------------------------------------------------------


@pytest.mark.spec("RFC 8628", "3.2", "device authorization response")
def test_device_authorization_gives_two_codes_and_where_to_type_one(world):
    begun = begin(world)

    assert set(begun) == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval",
    }  # fmt: skip
    assert begun["verification_uri"] == "http://localhost:8000/device"
    assert (
        begun["verification_uri_complete"] == f"http://localhost:8000/device?user_code={begun['user_code']}"
    )
    assert (begun["expires_in"], begun["interval"]) == (600, 5)
    assert len(read_user_code(begun["user_code"])) == 8
    assert len(begun["device_code"]) >= 43


@pytest.mark.spec("RFC 8628", "3.2", "answer is not cached")
def test_device_authorization_is_not_cached(world):
    response = world.post("/device_authorization", "screen", SECRET, scope="openid")

    assert dict(response.headers)["Cache-Control"] == "no-store"


def test_device_codes_are_stored_by_digest_only(world):
    begun = begin(world)

    row = DeviceGrant.objects.values().get()
    stored = json.dumps(row, default=str)
    assert begun["device_code"] not in stored
    assert begun["user_code"] not in stored
    assert read_user_code(begun["user_code"]) not in stored
    assert len(row["device_code"]) == len(row["user_code"]) == 64


@pytest.mark.parametrize(
    ("client", "secret", "form", "status", "error"),
    [
        ("web", SECRET, {}, 400, "unauthorized_client"),  # off unless it is registered
        ("screen", "wrong" * 9, {}, 401, "invalid_client"),
        ("screen", None, {}, 401, "invalid_client"),
        ("nobody", SECRET, {}, 401, "invalid_client"),
        ("screen", SECRET, {"scope": None}, 400, "invalid_scope"),
        ("screen", SECRET, {"scope": "nothing"}, 400, "invalid_scope"),
        ("screen", SECRET, {"scope": "email"}, 400, "invalid_scope"),
        ("screen", SECRET, {"scope": "x" * 9000}, 400, "invalid_request"),
        ("screen", SECRET, {"scope": "openid\0"}, 400, "invalid_request"),
        ("radio", SECRET, {"scope": "openid"}, 400, "invalid_scope"),
        ("screen", SECRET, {"dpop_jkt": "a" * 43}, 400, "invalid_request"),
        ("screen", SECRET, {"resource": "https://nobody.example/"}, 400, "invalid_target"),
        ("screen", SECRET, {"authorization_details": "[1]"}, 400, "invalid_authorization_details"),
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 8628", "3.1", "client authentication and registration")
def test_device_authorization_refuses(world, client, secret, form, status, error):
    response = world.post("/device_authorization", client, secret, **{"scope": "openid roles", **form})

    assert (response.status, json.loads(response.body)["error"]) == (status, error)
    assert not DeviceGrant.objects.exists()


def test_device_authorization_refuses_a_doubled_scope_and_another_method(world):
    from iam.oauth.protocol.messages import Request

    doubled = world.ask(
        Request(
            "POST",
            "/device_authorization",
            body=b"client_id=box&scope=openid&scope=roles",
            content_type="application/x-www-form-urlencoded",
        )
    )
    read = world.ask(Request("GET", "/device_authorization", query="client_id=box&scope=openid"))

    assert json.loads(doubled.body)["error"] == "invalid_request"
    assert read.status == 405


def test_device_authorization_of_a_switched_off_client_is_refused(world):
    Client.objects.filter(client_id="box").update(enabled=False)

    assert world.post("/device_authorization", "box", None, scope="openid").status == 401


def test_device_authorization_stops_a_flood_of_one_address_and_no_other(world):
    for _ in range(WAITING_MAX):
        begin(world, "box", None)

    refused = world.post("/device_authorization", "box", None, scope="openid")
    world.source = "192.0.2.2"

    assert (refused.status, json.loads(refused.body)["error"]) == (429, "temporarily_unavailable")
    begin(world, "box", None)
    world.source = "192.0.2.1"
    world.later(minutes=11)
    begin(world, "box", None)


# -- polling ------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 8628", "3.5", "authorization_pending until the person answered")
def test_poll_before_the_answer_is_pending_and_no_refusal_in_the_audit(world):
    begun = begin(world)

    assert poll(world, begun["device_code"])["error"] == "authorization_pending"
    assert not AuditEvent.objects.filter(action="client:token:issue").exists()


@pytest.mark.spec("RFC 8628", "3.5", "slow_down adds five seconds to the interval")
def test_poll_too_often_is_slowed_down_each_time_by_five_seconds_up_to_a_minute(world):
    begun = begin(world)
    device_code = begun["device_code"]
    poll(world, device_code)

    assert poll(world.later(seconds=2), device_code)["error"] == "slow_down"  # now ten seconds
    assert poll(world.later(seconds=6), device_code)["error"] == "slow_down"  # now fifteen
    assert poll(world.later(seconds=15), device_code)["error"] == "authorization_pending"
    assert DeviceGrant.objects.get().interval == 15
    for _ in range(20):
        poll(world, device_code)
    assert DeviceGrant.objects.get().interval == 60
    assert poll(world.later(seconds=60), device_code)["error"] == "authorization_pending"


def test_poll_a_tick_too_early_is_forgiven(world):
    begun = begin(world)
    poll(world, begun["device_code"])

    assert poll(world.later(seconds=4.2), begun["device_code"])["error"] == "authorization_pending"


@pytest.mark.spec("RFC 8628", "3.5", "expired_token after the life of the code")
def test_poll_after_ten_minutes_is_expired(world):
    begun = begin(world)

    assert poll(world.later(minutes=10), begun["device_code"])["error"] == "expired_token"


def test_code_that_was_confirmed_and_not_fetched_expires_too(world):
    device_code = confirmed(world)

    assert poll(world.later(minutes=10), device_code)["error"] == "expired_token"
    assert not TokenFamily.objects.exists()


@pytest.mark.spec("RFC 8628", "3.5", "access_denied when the person said no")
def test_poll_after_a_no_is_denied(world):
    begun = begin(world)

    assert answer(world, ask(world, begun["user_code"]), let_in=False) == "/device/refused"

    assert poll(world, begun["device_code"])["error"] == "access_denied"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"device_code": "dc_" + "x" * 43}, "invalid_grant"),
        ({"device_code": "x" * 9000}, "invalid_request"),
        ({"device_code": "\0"}, "invalid_request"),
        ({"device_code": "é"}, "invalid_grant"),
    ],
)
def test_poll_with_no_code_of_ours_is_refused(world, form, error):
    response = world.post("/token", "screen", SECRET, grant_type=GRANT_TYPE, **form)

    assert (response.status, json.loads(response.body)["error"]) == (400, error)


def test_user_code_is_no_device_code(world):
    begun = begin(world)

    assert poll(world, begun["user_code"])["error"] == "invalid_grant"


@pytest.mark.spec("RFC 8628", "3.4", "device code bound to the client")
def test_a18_device_code_of_another_client_is_unknown_before_and_after_the_answer(world):
    begun = begin(world)
    assert poll(world, begun["device_code"], "radio")["error"] == "invalid_grant"
    answer(world, ask(world, begun["user_code"]))

    assert poll(world, begun["device_code"], "radio")["error"] == "invalid_grant"
    assert poll(world, begun["device_code"], "box", None)["error"] == "invalid_grant"
    assert "access_token" in poll(world, begun["device_code"])


# -- tokens -------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 8628", "3.5", "tokens after the person confirmed")
def test_confirmed_device_gets_the_tokens_of_the_session_that_confirmed(world):
    device_code = confirmed(world, scope="openid roles demo.read")

    answered = poll(world, device_code)

    claims, id_claims = claims_of(answered["access_token"]), claims_of(answered["id_token"])
    assert claims["sub"] == id_claims["sub"] == world.person.sub
    assert (claims["client_id"], claims["acr"]) == ("screen", "aal2")
    assert claims["auth_time"] == int(world.session.password_at.timestamp())
    assert answered["scope"] == "openid roles demo.read"
    assert world.introspect(answered["access_token"])["active"] is True
    assert json.loads(world.refresh(answered["refresh_token"], "screen").body)["access_token"]
    event = AuditEvent.objects.get(action="client:token:issue", method="device_code")
    assert event.session == str(world.session.pk)
    assert AuditEvent.objects.get(action="person:device:answer").outcome == "success"


def test_client_without_the_refresh_grant_gets_no_refresh_token(world):
    answered = poll(world, confirmed(world, "box", None), "box", None)

    assert "refresh_token" not in answered
    assert "id_token" in answered


def test_device_code_is_used_once_and_a_replay_ends_its_tokens(world):
    device_code = confirmed(world, scope="openid roles demo.read")
    answered = poll(world, device_code)

    assert poll(world, device_code)["error"] == "invalid_grant"

    assert json.loads(world.refresh(answered["refresh_token"], "screen").body)["error"] == "invalid_grant"
    assert world.introspect(answered["access_token"])["active"] is False
    assert TokenFamily.objects.get().revoke_reason == "device_replayed"
    assert AuditEvent.objects.filter(action="client:device:replay", outcome="refused").count() == 1
    assert not AuditEvent.objects.filter(action="client:token:issue", reason="device_replayed").exists()


def test_replay_by_another_client_ends_the_tokens_too(world):
    device_code = confirmed(world)
    poll(world, device_code)

    assert poll(world, device_code, "radio")["error"] == "invalid_grant"

    assert RevokedToken.objects.exists()


def test_replay_is_known_as_long_as_the_session_could_live(world):
    device_code = confirmed(world)
    poll(world, device_code)
    world.later(hours=3)
    purge(world.now)

    poll(world, device_code)

    assert TokenFamily.objects.get().revoke_reason == "device_replayed"


def test_purge_forgets_what_nobody_answered_after_an_hour_and_the_rest_with_the_session(world):
    expired = begin(world)
    fetched = confirmed(world)
    poll(world, fetched)

    purge(world.later(minutes=65).now)
    assert DeviceGrant.objects.count() == 2
    assert poll(world, expired["device_code"])["error"] == "expired_token"
    purge(world.later(minutes=10).now)
    assert DeviceGrant.objects.count() == 1
    purge(world.later(hours=12).now)
    assert DeviceGrant.objects.count() == 0


# -- the gate, between the answer and the tokens (A22, A24) ----------------------------------------------------


def _session_ended(world: World) -> None:
    end_session(world.session.pk, reason="signed_out", now=world.now)


def _person_disabled(world: World) -> None:
    User.objects.filter(pk=world.person.pk).update(is_active=False)


def _client_disabled(world: World) -> None:
    Client.objects.filter(client_id="screen").update(enabled=False)


def _scope_withdrawn(world: World) -> None:
    apply_all([{**CLIENTS[0], "scope": "openid"}], world.now, "system:test")


def _assignment_ended(world: World) -> None:
    from iam.access.models import Application

    Application.objects.filter(code="mail").update(admits="staff")
    Assignment.objects.filter(role__code="staff").update(valid_until=world.now - timedelta(seconds=1))


def _grant_withdrawn(world: World) -> None:
    apply_all(
        [{**CLIENTS[0], "grant_types": ["client_credentials"], "scope": "demo.read"}],
        world.now,
        "system:test",
    )


CHANGES = {
    "session ended": _session_ended,
    "person disabled": _person_disabled,
    "client disabled": _client_disabled,
    "scope withdrawn": _scope_withdrawn,
    "assignment ended": _assignment_ended,
    "grant withdrawn": _grant_withdrawn,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a22_confirmed_device_gets_nothing_after_a_change(world, change):
    device_code = confirmed(world)

    change(world)

    assert poll(world, device_code)["error"] in {"invalid_grant", "invalid_client", "unauthorized_client"}
    assert not TokenFamily.objects.exists()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a24_question_asked_before_a_change_confirms_nothing_after_it(world, change):
    begun = begin(world)
    parked = ask(world, begun["user_code"])

    change(world)
    state.forget()
    parked = interactions.load(parked.handle, BROWSER, world.now)

    assert answer(world, parked) == "asked anew"
    assert not DeviceGrant.objects.filter(status="authorized").exists()


# -- the person ----------------------------------------------------------------------------------------------


def test_question_asks_for_the_sign_in_that_the_application_asks_for(world):
    begun = begin(world)
    session = world.sign_in(factor=False)
    parked = ask(world, begun["user_code"], session)

    lower = look(world, parked, session)
    nobody = interactions.evaluate(parked, None, FACTS, world.now)
    mark_factor(session, "otp", world.now)
    enough = look(world, parked, session)

    assert (lower.need, lower.reason) == (Need.FACTOR, "policy")
    assert nobody.need is Need.LOGIN
    assert (enough.need, enough.disclosure.scopes) == (Need.DEVICE, ("openid", "roles"))


def test_question_asks_anew_for_a_password_that_is_older_than_the_client_allows(world):
    apply_all([{**CLIENTS[0], "default_max_age": 60}], world.now, "system:test")
    world.sign_in()
    begun = begin(world.later(minutes=5))

    needed = look(world, ask(world, begun["user_code"]))

    assert (needed.need, needed.reason) == (Need.LOGIN, "max_age")


def test_answer_of_somebody_below_the_level_confirms_nothing(world):
    begun = begin(world)
    session = world.sign_in(factor=False)

    assert answer(world, ask(world, begun["user_code"], session), session=session) == "asked anew"
    assert poll(world, begun["device_code"])["error"] == "authorization_pending"


def test_question_to_somebody_whom_the_application_does_not_admit_is_no_access_and_leaving_turns_it_away(
    world,
):
    from iam.access.models import Application

    Application.objects.filter(code="mail").update(admits="roles")
    begun = begin(world)
    parked = ask(world, begun["user_code"])

    needed = look(world, parked)
    left = interactions.release_refused(parked, world.session, FACTS, world.now)

    assert (needed.need, needed.reason) == (Need.REFUSED, "no_role")
    assert dict(left.headers)["Location"] == "/device/refused"
    assert poll(world, begun["device_code"])["error"] == "access_denied"


def test_question_of_a_switched_off_client_is_an_error_page(world):
    parked = ask(world, begin(world)["user_code"])
    Client.objects.filter(client_id="screen").update(enabled=False)
    state.forget()
    parked = interactions.load(parked.handle, BROWSER, world.now)

    assert isinstance(look(world, parked), ErrorPage)


def test_a48_code_that_somebody_typed_is_nobody_elses(world):
    begun = begin(world)
    mine, theirs = world.sign_in(), somebody_else(world)

    first = ask(world, begun["user_code"], mine)

    assert ask(world, begun["user_code"], theirs) is None
    assert ask(world, begun["user_code"], mine) is not None  # again, in another tab
    assert answer(world, first, session=mine) == "/device/confirmed"


def test_a48_question_of_one_person_cannot_be_answered_by_another(world):
    begun = begin(world)
    mine, theirs = world.sign_in(), somebody_else(world)
    parked = ask(world, begun["user_code"], mine)

    assert answer(world, parked, session=theirs) == "/device/gone"

    assert DeviceGrant.objects.get().status == "authorization-pending"
    assert poll(world, begun["device_code"])["error"] == "authorization_pending"


def test_a46_somebody_else_who_signs_in_meanwhile_is_not_asked(world):
    parked = ask(world, begin(world)["user_code"])
    theirs = somebody_else(world)

    gone = look(world, parked, theirs)

    assert isinstance(gone, Response)
    assert dict(gone.headers)["Location"] == "/device/gone"
    assert interactions.consent_mark(parked, world.session) != interactions.consent_mark(parked, theirs)


def test_a48_user_code_works_once(world):
    begun = begin(world)
    answer(world, ask(world, begun["user_code"]))

    assert ask(world, begun["user_code"]) is None
    poll(world, begun["device_code"])
    assert ask(world, begun["user_code"]) is None


def test_a48_denied_and_expired_user_codes_are_nobodys(world):
    denied, expired = begin(world), begin(world)
    answer(world, ask(world, denied["user_code"]), let_in=False)

    assert ask(world, denied["user_code"]) is None
    world.later(minutes=10)
    assert ask(world, expired["user_code"]) is None


def test_question_in_two_tabs_is_answered_once_and_the_second_says_so(world):
    begun = begin(world)
    first, second = ask(world, begun["user_code"]), ask(world, begun["user_code"])

    assert answer(world, first, let_in=False) == "/device/refused"
    assert answer(world, second) == "/device/refused"  # as it was answered, whatever is pressed now
    assert poll(world, begun["device_code"])["error"] == "access_denied"


def test_form_sent_twice_answers_once_and_finds_the_same_end(world):
    begun = begin(world)
    parked = ask(world, begun["user_code"])

    assert answer(world, parked) == answer(world, parked) == "/device/confirmed"
    assert answer(world, parked, let_in=False) == "/device/confirmed"

    assert dict(look(world, parked).headers)["Location"] == "/device/confirmed"
    assert AuditEvent.objects.filter(action="person:device:answer").count() == 1
    assert "access_token" in poll(world, begun["device_code"])
    assert answer(world, parked) == "/device/confirmed"


def test_question_left_open_past_the_end_says_so(world):
    parked = ask(world, begin(world)["user_code"])
    world.later(minutes=11)

    gone = look(world, parked)

    assert dict(gone.headers)["Location"] == "/device/gone"


def test_question_belongs_to_the_browser_that_typed_the_code(world):
    parked = ask(world, begin(world)["user_code"])

    assert interactions.load(parked.handle, "c" * 43, world.now) is None


def test_question_is_asked_of_trusted_clients_and_every_time(world):
    apply_all([{**CLIENTS[0], "trusted": True}], world.now, "system:test")
    poll(world, confirmed(world))

    needed = look(world, ask(world, begin(world)["user_code"]))

    assert isinstance(needed, Interaction)
    assert needed.need is Need.DEVICE


# -- nobody, no person (A57) -----------------------------------------------------------------------------------


def test_a57_device_gets_nothing_of_a_person_before_that_person_confirmed(world):
    begun = begin(world, scope="openid roles")
    world.sign_in()
    parked = ask(world, begun["user_code"])
    look(world, parked)

    assert poll(world, begun["device_code"])["error"] == "authorization_pending"
    machine = world.post("/token", "screen", SECRET, grant_type="client_credentials", scope="openid")
    assert json.loads(machine.body)["error"] == "unauthorized_client"


def test_a57_more_scopes_than_confirmed_cannot_be_asked_for_at_the_end(world):
    device_code = confirmed(world, scope="openid")

    response = world.post(
        "/token",
        "screen",
        SECRET,
        grant_type=GRANT_TYPE,
        device_code=device_code,
        scope="openid roles demo.read",
    )

    assert json.loads(response.body)["scope"] == "openid"


def test_row_that_nobody_confirmed_cannot_be_authorized(world):
    begin(world)

    with pytest.raises(IntegrityError, match="device_authorized_by_somebody"), transaction.atomic():
        DeviceGrant.objects.update(status="authorized")


def test_same_user_code_twice_cannot_be_stored(world):
    begin(world)
    row = DeviceGrant.objects.get()
    row.pk, row.device_code = None, "d" * 64

    with pytest.raises(IntegrityError), transaction.atomic():
        row.save()
