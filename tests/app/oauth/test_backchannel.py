"""The end of a session reaches its applications: what is written with it, what is sent, and what is tried again.

Receivers are real HTTP servers. Several processes at once, and killed ones: test_deliverers.py.
"""

import json
import logging
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from django.db import IntegrityError, transaction

from directory.service import AccountStatus, Standing
from iam import lifecycle
from iam.access.models import Application
from iam.accounts import endings, services
from iam.accounts.models import LoginSession
from iam.accounts.services import end_idle_sessions, end_session, end_sessions_that_ran_out
from iam.audit.models import AuditEvent
from iam.oauth import issuance, outbox, state
from iam.oauth.backchannel import TELL_OWNER_AFTER, Deliverer, Lanes
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, LogoutDelivery, SessionClient
from iam.oauth.outbox import GIVE_UP_AFTER, LEASE, Progress, decide_retry
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import Interaction
from iam.oauth.purge import SESSIONS_KEPT, purge
from tests.app.oauth.conftest import CLIENTS, World, claims_of
from tests.app.oauth.test_hostile import logout
from tests.app.oauth.test_sealed_answers import JWKS, decrypted, header_of
from tests.organisation import entry
from tests.servers.receivers import Receiver, away, receiving

BACK_CHANNEL = "OIDC Back-Channel Logout"


def register(client_id: str, uri: str, **more: object) -> None:
    """Give one of the organisation's clients a logout address."""
    (given,) = (client for client in CLIENTS if client["client_id"] == client_id)
    apply_all([{**given, "backchannel_logout_uri": uri, **more}], datetime.now(UTC), "system:test")
    state.forget()


@pytest.fixture(autouse=True)
def _outbound(settings):
    settings.IAM_OUTBOUND_ALLOW = ("http://127.0.0.1:*", "127.0.0.0/8", "web.example", "public.example")


@pytest.fixture
def web(world: World):
    with receiving() as receiver:
        register("web", receiver.url)
        yield receiver


def signed_in(world: World, *clients: str) -> LoginSession:
    """Open a session and let applications join it."""
    session = world.sign_in()
    for client in clients or ("web",):
        world.tokens(client, None if client == "public" else "s" * 40, scope="openid")
    return session


def sign_out(session: LoginSession, reason: str = "signed_out") -> None:
    assert end_session(session.pk, reason=reason, now=datetime.now(UTC))


def deliver() -> int:
    state.forget()
    return Deliverer().run_until_nothing_is_due()


def make_due() -> None:
    """Stand for the time until the next attempt."""
    LogoutDelivery.objects.filter(told_at=None, given_up_at=None).update(due_at=datetime.now(UTC))


def verified(token: str, client: str = "web") -> dict:
    """Verify as an application would, with a library that nobody here wrote."""
    keys = jwt.PyJWKSet.from_dict({"keys": [key.jwk() for key in state.DatabaseState().published_keys()]})
    header = jwt.get_unverified_header(token)
    (key,) = (key for key in keys.keys if key.key_id == header["kid"])
    return jwt.decode(token, key, algorithms=[header["alg"]], audience=client, issuer="http://localhost:8000")


# -- written with the end -----------------------------------------------------------------------------------------


@pytest.mark.rules("back-logout/2.3/remember")
def test_us03_end_of_a_session_is_noted_once_for_each_client_that_wants_to_know(world: World) -> None:
    register("web", "https://web.example/out")
    session = signed_in(world, "web", "web", "public")  # public has no address

    sign_out(session)

    (row,) = LogoutDelivery.objects.filter(session=session)
    assert row.client.client_id == "web"


def test_session_of_another_browser_is_nobodys_business(world: World) -> None:
    register("web", "https://web.example/out")
    other, ended = signed_in(world), signed_in(world)

    sign_out(ended)

    assert [row.session_id for row in LogoutDelivery.objects.all()] == [ended.pk]
    assert LoginSession.objects.get(pk=other.pk).ended_at is None


def test_end_that_is_rolled_back_tells_nobody(world: World) -> None:
    register("web", "https://web.example/out")
    session = signed_in(world)

    class Undone(Exception):
        pass

    def end_and_fail() -> None:
        with transaction.atomic():
            sign_out(session)
            raise Undone

    with pytest.raises(Undone):
        end_and_fail()

    assert not LogoutDelivery.objects.exists()


def test_end_without_anybody_to_tell_is_refused(world: World, monkeypatch) -> None:
    """A process that forgot to register the provider must not end sessions in silence."""
    session = signed_in(world)
    monkeypatch.setattr(endings, "_witnesses", [])

    with pytest.raises(RuntimeError):
        sign_out(session)

    assert LoginSession.objects.get(pk=session.pk).ended_at is None


def _by_person(world: World, session: LoginSession) -> None:
    hint = world.tokens(scope="openid")["id_token"]
    logout(world, id_token_hint=hint)


def _by_administrator(world: World, session: LoginSession) -> None:
    lifecycle.deactivate(world.person, reason="left", actor="operator:x", now=datetime.now(UTC))


def _by_directory(world: World, session: LoginSession) -> None:
    gone = entry("amina", "e-1", source="d", standing=Standing(AccountStatus.DISABLED))
    lifecycle.refuse_disabled(gone, datetime.now(UTC))


def _by_housekeeping(world: World, session: LoginSession) -> None:
    LoginSession.objects.filter(pk=session.pk).update(expires_at=datetime.now(UTC))
    assert end_sessions_that_ran_out(datetime.now(UTC)) == 1


@pytest.mark.parametrize("end", [_by_person, _by_administrator, _by_directory, _by_housekeeping])
@pytest.mark.rules("back-logout/2.3/remember")
def test_us03_every_end_takes_the_same_road(world: World, web: Receiver, end) -> None:
    session = signed_in(world)

    end(world, session)

    assert deliver() == 1
    (token,) = web.tokens
    assert verified(token)["sid"] == SessionClient.objects.get(session=session, client__client_id="web").sid
    assert LoginSession.objects.get(pk=session.pk).ended_at is not None


def test_deactivation_ends_every_session_and_tells_each_application_of_each(world: World) -> None:
    with receiving() as first, receiving() as second:
        register("web", first.url)
        register("public", second.url)
        sessions = [signed_in(world, "web", "public") for _ in range(3)]

        lifecycle.deactivate(world.person, reason="left", actor="operator:x", now=datetime.now(UTC))
        assert deliver() == 6

    for receiver, client in ((first, "web"), (second, "public")):
        told = {verified(token, client)["sid"] for token in receiver.tokens}
        assert told == {
            row.sid for row in SessionClient.objects.filter(session__in=sessions, client__client_id=client)
        }


def test_session_that_did_not_run_out_is_left_alone(world: World) -> None:
    session = signed_in(world)

    assert end_sessions_that_ran_out(session.expires_at - timedelta(seconds=1)) == 0
    assert end_sessions_that_ran_out(session.expires_at) == 1
    assert end_sessions_that_ran_out(session.expires_at) == 0

    row = LoginSession.objects.get(pk=session.pk)
    assert row.end_reason == "ran_out"


IDLE = timedelta(hours=1)


def test_session_that_nobody_uses_ends_and_its_applications_are_told(world: World, web: Receiver) -> None:
    session = signed_in(world)
    now = datetime.now(UTC)
    SessionClient.objects.update(used_at=now - IDLE)
    LoginSession.objects.filter(pk=session.pk).update(seen_at=now - IDLE)

    assert end_idle_sessions(now, IDLE) == 0
    assert end_idle_sessions(now + timedelta(seconds=1), IDLE) == 1
    assert end_idle_sessions(now + timedelta(seconds=1), IDLE) == 0

    row = LoginSession.objects.get(pk=session.pk)
    assert row.end_reason == "idle"
    assert AuditEvent.objects.get(action="person:session:end").reason == "idle"
    time.sleep(1)
    assert deliver() == 1
    assert verified(web.tokens[0])["sid"] == SessionClient.objects.get().sid


def test_session_that_an_application_uses_is_not_idle_though_its_browser_left(world: World) -> None:
    session = signed_in(world)
    tokens = world.tokens(scope="openid")
    world.later(minutes=59)
    tokens = json.loads(world.refresh(tokens["refresh_token"]).body)
    world.later(minutes=2)

    assert end_idle_sessions(world.now, IDLE) == 0
    assert "access_token" in json.loads(world.refresh(tokens["refresh_token"]).body)
    world.later(minutes=61)
    assert end_idle_sessions(world.now, IDLE) == 1
    assert LoginSession.objects.get(pk=session.pk).end_reason == "idle"


def test_session_whose_browser_came_back_in_that_moment_goes_on(world: World) -> None:
    session = signed_in(world)
    later = world.now + timedelta(hours=2)
    LoginSession.objects.filter(pk=session.pk).update(seen_at=later)

    assert not end_session(session.pk, reason="idle", now=later, unseen_since=later - IDLE)
    assert end_session(session.pk, reason="idle", now=later, unseen_since=later + timedelta(seconds=1))


def test_sessions_in_use_do_not_hide_those_that_nobody_uses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_RAN_OUT_MAX", 2)
    used = [signed_in(world) for _ in range(3)]
    idle = [signed_in(world) for _ in range(3)]
    late = world.now + timedelta(hours=2)
    SessionClient.objects.filter(session__in=idle).update(used_at=world.now - timedelta(hours=1))
    SessionClient.objects.filter(session__in=used).update(used_at=late)

    assert [end_idle_sessions(late, IDLE) for _ in range(3)] == [2, 1, 0]
    assert not LoginSession.objects.filter(pk__in=[one.pk for one in used], ended_at__isnull=False).exists()


def test_delivery_twice_for_one_session_and_client_is_refused_by_the_database(world: World) -> None:
    register("web", "https://web.example/out")
    session = signed_in(world)
    sign_out(session)
    row = LogoutDelivery.objects.get()

    outbox.write_deliveries(session.pk, datetime.now(UTC))

    assert LogoutDelivery.objects.count() == 1
    with pytest.raises(IntegrityError, match=r"delivery_once|UNIQUE"), transaction.atomic():
        LogoutDelivery.objects.create(
            session=session, client=row.client, created_at=row.created_at, due_at=row.created_at
        )


def test_delivery_both_told_and_given_up_is_refused_by_the_database(world: World) -> None:
    register("web", "https://web.example/out")
    sign_out(signed_in(world))

    with pytest.raises(IntegrityError, match="delivery_told_or_given_up"), transaction.atomic():
        LogoutDelivery.objects.update(told_at=datetime.now(UTC), given_up_at=datetime.now(UTC))


# -- what is sent -------------------------------------------------------------------------------------------------


@pytest.mark.spec(BACK_CHANNEL, "2.5", "an HTTP POST of logout_token, form-encoded")
@pytest.mark.rules("back-logout/2.5/post")
def test_logout_request_is_a_form_with_the_token_and_nothing_else(world: World, web: Receiver) -> None:
    sign_out(signed_in(world))

    deliver()

    (request,) = web.requests
    assert request["type"] == "application/x-www-form-urlencoded"
    assert list(request["form"]) == ["logout_token"]


@pytest.mark.spec(BACK_CHANNEL, "2.4", "signed with the key and algorithm of the client's ID tokens")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
@pytest.mark.rules(
    "back-logout/2.1/sid-in-id-token", "back-logout/2.4/signed", "back-logout/2.4/typ", "back-logout/2.6/alg"
)
def test_logout_token_is_signed_as_the_clients_id_tokens_are(world: World, algorithm: str) -> None:
    with receiving() as receiver:
        register("web", receiver.url, id_token_signed_response_alg=algorithm)
        session = world.sign_in()
        identity = world.tokens(scope="openid")["id_token"]
        sign_out(session)
        deliver()

    (token,) = receiver.tokens
    header, claims = jwt.get_unverified_header(token), verified(token)
    assert (header["alg"], header["typ"]) == (algorithm, "logout+jwt")
    assert (claims["sid"], claims["sub"], claims["iss"]) == tuple(
        claims_of(identity)[name] for name in ("sid", "sub", "iss")
    )
    assert "nonce" not in claims
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}


@pytest.mark.rules("back-logout/2.2/query-kept", "back-logout/2.4/jti")
@pytest.mark.rules("back-logout/2.4/encrypted", "back-logout/2.4/encrypted-iss")
def test_logout_token_is_encrypted_as_the_clients_id_tokens_are(world: World) -> None:
    with receiving() as receiver:
        more = {"jwks": JWKS, "id_token_encrypted_response_alg": "ECDH-ES"}
        register("web", receiver.url, **more)
        sign_out(signed_in(world))
        deliver()

    (sealed,) = receiver.tokens
    head = header_of(sealed)
    assert (head["alg"], head["cty"], head["kid"], head["iss"]) == (
        "ECDH-ES", "JWT", "mine", "http://localhost:8000",
    )  # fmt: skip
    assert verified(decrypted(sealed))["iss"] == head["iss"]


@pytest.mark.rules("back-logout/2.2/query-kept", "back-logout/2.4/jti")
def test_logout_address_keeps_its_query_and_each_token_has_a_name_of_its_own(world: World) -> None:
    with receiving() as receiver:
        register("web", f"{receiver.url}?tenant=a%20b")
        for _ in range(2):
            sign_out(signed_in(world))
        deliver()

    assert [request["path"].rpartition("?")[2] for request in receiver.requests] == ["tenant=a%20b"] * 2
    assert len({verified(token)["jti"] for token in receiver.tokens}) == 2


def test_logout_token_names_the_person_as_the_clients_other_tokens_do(world: World) -> None:
    with receiving() as receiver:
        register("web", receiver.url, subject_type="pairwise")
        session = world.sign_in()
        identity = world.tokens(scope="openid")["id_token"]
        sign_out(session)
        deliver()

    (token,) = receiver.tokens
    assert verified(token)["sub"] == claims_of(identity)["sub"] != world.person.sub


@pytest.mark.rules("back-logout/4.1/confusion")
def test_a13_logout_token_is_no_access_token_no_hint_and_no_bearer(world: World, web: Receiver) -> None:
    sign_out(signed_in(world))
    deliver()
    (token,) = web.tokens
    session = signed_in(world)

    assert world.userinfo(token).status == 401
    assert world.introspect(token) == {"active": False}
    assert isinstance(logout(world, id_token_hint=token), Interaction)  # asks: it proves nothing
    assert LoginSession.objects.get(pk=session.pk).ended_at is None


@pytest.mark.rules("back-logout/4.1/confusion")
def test_a13_id_token_is_no_logout_token(world: World, web: Receiver) -> None:
    """The other way round: what tells a logout token apart is its type and its event."""
    session = world.sign_in()
    identity = world.tokens(scope="openid")["id_token"]
    sign_out(session)
    deliver()

    assert jwt.get_unverified_header(identity)["typ"] != "logout+jwt"
    assert "events" not in claims_of(identity)


# -- the gate -----------------------------------------------------------------------------------------------------


def test_gate_makes_no_logout_token_for_a_session_that_lives(world: World) -> None:
    session = signed_in(world)
    state.forget()
    known = state.DatabaseState()

    with pytest.raises(OAuthError) as refused:
        issuance.clear_logout(known, known.client("web"), session.pk, world.now)

    assert refused.value.reason == "session_lives"


def test_gate_makes_no_logout_token_for_a_client_that_had_not_joined(world: World) -> None:
    session = signed_in(world, "web")
    sign_out(session)
    state.forget()
    known = state.DatabaseState()

    with pytest.raises(OAuthError):
        issuance.clear_logout(known, known.client("other"), session.pk, world.now)


def test_client_that_is_switched_off_is_told_once_it_is_on_again(world: World, web: Receiver) -> None:
    sign_out(signed_in(world))
    register("web", web.url, enabled=False)

    deliver()
    assert (web.requests, LogoutDelivery.objects.get().failure) == ([], "client_disabled")

    register("web", web.url, enabled=True)
    make_due()
    deliver()
    assert len(web.requests) == 1


def test_client_without_an_address_any_more_is_given_up_in_the_end(world: World, web: Receiver) -> None:
    sign_out(signed_in(world))
    register("web", "")

    deliver()

    row = LogoutDelivery.objects.get()
    assert (web.requests, row.failure, row.told_at) == ([], "no_address", None)


# -- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.spec(BACK_CHANNEL, "2.8", "200 says that it succeeded, 204 is taken for it")
@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.rules("back-logout/2.8/answers")
def test_answer_that_says_done_ends_the_delivery(world: World, status: int) -> None:
    with receiving(status) as receiver:
        register("web", receiver.url)
        session = signed_in(world)
        sign_out(session)
        assert (deliver(), deliver()) == (1, 0)

    row = LogoutDelivery.objects.get()
    assert (row.told_at is not None, row.failure, row.attempts) == (True, "", 1)
    (event,) = AuditEvent.objects.filter(action="client:logout:tell")
    assert (event.outcome, event.object, event.session) == ("success", "client:web", str(session.pk))


@pytest.mark.spec(BACK_CHANNEL, "2.8", "400 says that it failed")
@pytest.mark.parametrize("status", [201, 400, 401, 404, 429, 500, 503])
@pytest.mark.rules("back-logout/2.8/answers")
def test_any_other_answer_is_a_failure_and_is_tried_again(world: World, status: int) -> None:
    with receiving(status) as receiver:
        register("web", receiver.url)
        sign_out(signed_in(world))
        before = datetime.now(UTC)
        assert (deliver(), deliver()) == (1, 0)
        row = LogoutDelivery.objects.get()
        assert (row.told_at, row.failure) == (None, f"status_{status}")
        assert timedelta(seconds=1) < row.due_at - before < timedelta(seconds=5)

        receiver.status = 200
        make_due()
        assert deliver() == 1

    first, second = receiver.tokens
    assert verified(first)["jti"] != verified(second)["jti"]
    assert LogoutDelivery.objects.get().told_at is not None


def test_a62_redirect_is_not_followed(world: World) -> None:
    with receiving() as elsewhere, receiving(307, location=elsewhere.url) as receiver:
        register("web", receiver.url)
        sign_out(signed_in(world))
        deliver()

    assert (len(receiver.requests), elsewhere.requests) == (1, [])
    assert LogoutDelivery.objects.get().failure == "redirect"


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:80/out", "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/out", "https://[::ffff:10.0.0.1]/",
        "https://evil.example/out", "https://web.example:8443/out", "https://web.example.evil.example/",
    ],
)  # fmt: skip
def test_a62_address_that_may_not_be_called_is_not_registered(world: World, settings, uri: str) -> None:
    settings.IAM_OUTBOUND_ALLOW = ("web.example", "10.0.0.0/8")

    with pytest.raises(MetadataError, match="backchannel_logout_uri"):
        register("web", uri)

    assert "backchannel_logout_uri" not in Client.objects.get(client_id="web").options


def test_a62_address_that_may_no_longer_be_called_is_not_called(
    world: World, web: Receiver, settings
) -> None:
    sign_out(signed_in(world))
    settings.IAM_OUTBOUND_ALLOW = ("web.example",)

    deliver()

    assert (web.requests, LogoutDelivery.objects.get().failure) == ([], "not_allowed")


def test_receiver_that_is_away_is_a_failure(world: World) -> None:
    register("web", away())
    sign_out(signed_in(world))

    assert deliver() == 1

    row = LogoutDelivery.objects.get()
    assert row.failure
    assert row.told_at is None


def test_receiver_that_takes_its_time_is_told(world: World) -> None:
    with receiving(seconds=3.5) as receiver:
        register("web", receiver.url)
        sign_out(signed_in(world))
        deliver()

    row = LogoutDelivery.objects.get()
    assert (row.told_at is not None, row.attempts, row.failure) == (True, 1, "")


def test_receiver_that_never_answers_is_left_after_seconds(world: World) -> None:
    with receiving(seconds=20) as receiver:
        register("web", receiver.url)
        sign_out(signed_in(world))
        began = datetime.now(UTC)
        deliver()

    assert datetime.now(UTC) - began < LEASE / 2
    assert LogoutDelivery.objects.get().failure == "timeout"


# -- trying again, and giving up ----------------------------------------------------------------------------------

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


def test_retries_come_quickly_first_then_slowly_and_end_after_a_day() -> None:
    at, attempts, delays = NOW, 0, []
    while True:
        attempts += 1
        following = decide_retry(attempts, NOW, at, 0.5)
        if following is None:
            break
        delays.append((following - at).total_seconds())
        at = following

    assert delays[:5] == [2, 4, 8, 16, 32]
    assert max(delays) == 600
    assert delays == sorted(delays)
    assert timedelta(hours=23) < at - NOW < GIVE_UP_AFTER
    assert attempts < 200


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_retries_are_spread(spread: float) -> None:
    assert decide_retry(1, NOW, NOW, spread) - NOW == timedelta(seconds=2) * (0.8 + 0.4 * spread)
    assert decide_retry(10_000, NOW, NOW, spread) - NOW == timedelta(minutes=10) * (0.8 + 0.4 * spread)


def test_f15_receiver_that_was_away_for_an_hour_is_told_soon_after() -> None:
    at, attempts = NOW, 0
    while at < NOW + timedelta(hours=1):
        attempts += 1
        at = decide_retry(attempts, NOW, at, 1.0)

    assert at < NOW + timedelta(hours=1, minutes=12)


def test_f15_owner_is_told_once_an_hour_and_when_it_is_given_up(world: World, caplog) -> None:
    Application.objects.filter(code="mail").update(owner_contact="mail-owner@example.org")
    with receiving(500) as receiver:
        register("web", receiver.url)
        for _ in range(2):
            sign_out(signed_in(world))
        for _ in range(TELL_OWNER_AFTER + 2):
            make_due()
            deliver()

        complaints = [line for line in caplog.records if line.levelno == logging.ERROR]
        assert len(complaints) == 1
        assert "mail-owner@example.org" in complaints[0].getMessage()

        LogoutDelivery.objects.update(created_at=datetime.now(UTC) - GIVE_UP_AFTER)
        make_due()
        deliver()
        make_due()
        assert deliver() == 0

    assert LogoutDelivery.objects.filter(given_up_at__isnull=False).count() == 2
    reasons = list(
        AuditEvent.objects.filter(action="client:logout:tell", outcome="error").values_list(
            "reason", flat=True
        )
    )
    assert sorted(reasons) == ["given_up_status_500", "given_up_status_500", "not_reached_status_500"]


def test_told_and_given_up_deliveries_are_kept_for_days_and_then_purged(world: World, web: Receiver) -> None:
    sign_out(signed_in(world))
    deliver()

    purge(datetime.now(UTC) + outbox.KEPT - timedelta(minutes=1))
    assert LogoutDelivery.objects.count() == 1
    purge(datetime.now(UTC) + outbox.KEPT + timedelta(minutes=1))
    assert LogoutDelivery.objects.count() == 0


def test_session_that_nobody_ended_is_not_purged_in_silence(world: World, web: Receiver) -> None:
    session = signed_in(world)
    long_ago = datetime.now(UTC) - SESSIONS_KEPT - timedelta(days=1)
    LoginSession.objects.filter(pk=session.pk).update(expires_at=long_ago)

    purge(datetime.now(UTC))
    assert LoginSession.objects.filter(pk=session.pk).exists()

    end_sessions_that_ran_out(datetime.now(UTC))
    deliver()
    assert len(web.tokens) == 1
    purge(datetime.now(UTC))
    assert not LoginSession.objects.filter(pk=session.pk).exists()


# -- claims -------------------------------------------------------------------------------------------------------


@pytest.fixture
def noted(world: World) -> World:
    register("web", "https://web.example/out")
    register("public", "https://public.example/out")
    sign_out(signed_in(world, "web", "public"))
    return world


def test_claimed_delivery_is_not_claimed_again_before_its_lease_ends(noted: World) -> None:
    now = datetime.now(UTC)

    first, second, third = (outbox.claim(now) for _ in range(3))

    assert {first.client_id, second.client_id} == {"web", "public"}
    assert third is None
    assert not outbox.is_due(now + LEASE - timedelta(seconds=1))
    again = outbox.claim(now + LEASE)
    assert again.id in {first.id, second.id}
    assert again.attempts == 2


def test_result_of_a_lease_that_is_over_changes_nothing(noted: World) -> None:
    now = datetime.now(UTC)
    late = outbox.claim(now)
    LogoutDelivery.objects.exclude(pk=late.id).delete()
    current = outbox.claim(now + LEASE)

    assert not outbox.settle_told(late, now)
    assert not outbox.settle_failed(late, "timeout", now, now)
    assert outbox.settle_told(current, now)
    assert not outbox.settle_failed(current, "timeout", now, now)
    assert LogoutDelivery.objects.get().told_at is not None


def test_claim_passes_over_the_clients_that_must_wait(noted: World) -> None:
    now = datetime.now(UTC)
    web, public = (Client.objects.get(client_id=name).pk for name in ("web", "public"))

    assert outbox.claim(now, but=[web]).client_id == "public"
    assert outbox.claim(now, but=[web, public]) is None
    assert not outbox.is_due(now, [web])
    assert outbox.claim(now).client_id == "web"


def test_tellings_say_how_far_it_has_come(noted: World) -> None:
    session = LogoutDelivery.objects.first().session_id
    now = datetime.now(UTC)
    first, second = outbox.claim(now), outbox.claim(now)
    assert {one.progress for one in outbox.tellings(session)} == {Progress.BEING_TOLD}

    outbox.settle_told(first, now)
    outbox.settle_failed(second, "timeout", now + timedelta(hours=1), now)

    assert {one.client_id: one.progress for one in outbox.tellings(session)} == {
        first.client_id: Progress.TOLD,
        second.client_id: Progress.NOT_REACHED,
    }
    (line,) = outbox.backlog()
    assert (line.client_id, line.waiting, line.given_up, line.failure) == (second.client_id, 1, 0, "timeout")


# -- fairness -----------------------------------------------------------------------------------------------------


def test_lanes_give_a_client_two_threads_and_one_that_fails_one() -> None:
    lanes = Lanes(8)
    lanes.enter(1)
    assert lanes.full() == set()
    lanes.enter(1)
    assert lanes.full() == {1}

    lanes.leave(1, failed=True)
    assert lanes.full() == {1}
    lanes.leave(1, failed=False)
    assert lanes.full() == set()


def test_f15_lanes_keep_half_of_the_threads_for_those_that_answer() -> None:
    lanes = Lanes(8)
    for client in range(20):
        lanes.enter(client)
        lanes.leave(client, failed=True)
    for client in range(4):
        lanes.enter(client)

    assert lanes.full() == set(range(20))
    lanes.leave(0, failed=True)
    assert lanes.full() == {1, 2, 3}


def test_nothing_secret_is_kept_of_a_delivery(world: World, web: Receiver) -> None:
    sign_out(signed_in(world))
    deliver()

    (token,) = web.tokens
    kept = json.dumps(list(LogoutDelivery.objects.values()), default=str)
    assert token not in kept
    assert verified(token)["jti"] not in kept
