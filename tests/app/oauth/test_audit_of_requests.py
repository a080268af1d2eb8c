"""What the audit keeps of requests that were refused, and what no table ever holds."""

import base64
import json
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.db import connection, transaction

from iam.accounts import cookies
from iam.accounts.models import LoginSession
from iam.audit.facts import RequestFacts
from iam.audit.models import AuditEvent, RefusalTally
from iam.audit.record import flush_tallies
from iam.oauth import interactions
from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from iam.oauth.protocol import refresh_tokens
from iam.oauth.protocol.messages import Interaction, Request, Response
from tests.proofs import Prover

from .conftest import CLIENTS, ISSUER, SECRET, SERVER_SECRET, World

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"


def basic(client: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def raw(
    world: World,
    path: str,
    body: str,
    authorization: str = "",
    content_type: str = FORM,
    method: str = "POST",
) -> Response:
    answer = world.ask(
        Request(method, path, body=body.encode(), content_type=content_type, authorization=authorization)
    )
    assert isinstance(answer, Response)
    return answer


def last_event() -> int:
    newest = AuditEvent.objects.order_by("-sequence").first()
    return newest.sequence if newest else 0


def events_since(sequence: int) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(sequence__gt=sequence).order_by("sequence"))


def tallies() -> list[tuple[str, str, str, int]]:
    return sorted(RefusalTally.objects.values_list("source", "client", "reason", "count"))


# -- an authenticated client: each refusal is one event ---------------------------------------------------------

WEB = basic("web", SECRET)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/token", "", "invalid_request"),
        ("/token", "grant_type=password", "unsupported_grant_type"),
        ("/token", "grant_type=client_credentials", "unauthorized_client"),
        ("/token", "grant_type=authorization_code", "invalid_request"),
        (
            "/token",
            f"grant_type=authorization_code&code=x&redirect_uri=y&code_verifier={'v' * 43}",
            "code_unknown",
        ),
        ("/token", "grant_type=authorization_code&code=x&redirect_uri=y&code_verifier=v", "pkce_malformed"),
        ("/token", "grant_type=authorization_code&code=x&redirect_uri=y", "pkce_missing"),
        ("/token", "grant_type=refresh_token", "invalid_request"),
        ("/token", "grant_type=refresh_token&refresh_token=rt_x", "refresh_unknown"),
        ("/token", "grant_type=refresh_token&grant_type=refresh_token", "doubled"),
        ("/token", "grant_type=a%00b", "unusable"),
        ("/token", f"grant_type={'x' * 8193}", "unusable"),
        ("/introspect", "", "invalid_request"),
        ("/introspect", "token=a&token=b", "doubled"),
        ("/revoke", "", "invalid_request"),
        ("/revoke", "token=%ff", "unusable"),
    ],
)
def test_refusal_of_an_authenticated_client_is_one_event(
    path: str, body: str, reason: str, world: World
) -> None:
    before = last_event()

    response = raw(world, path, body, WEB)

    assert response.status == 400
    [event] = events_since(before)
    assert (event.actor, event.outcome, event.reason) == ("client:web", "refused", reason)
    assert (event.application, event.request_id) == ("mail", "r-1")
    assert tallies() == []


def test_refusal_of_a_machine_for_a_scope_is_one_event(world: World) -> None:
    before = last_event()

    raw(world, "/token", "grant_type=client_credentials&scope=openid", basic("service", SECRET))

    [event] = events_since(before)
    assert (event.actor, event.action, event.reason) == (
        "client:service", "client:token:issue", "scope_not_allowed",
    )  # fmt: skip


def test_replay_of_a_code_is_one_event_about_the_person(world: World) -> None:
    world.sign_in()
    code = world.code()
    world.exchange(code)
    before = last_event()

    world.exchange(code)

    [event] = events_since(before)
    assert (event.action, event.object) == ("client:code:replay", f"person:{world.person.sub}")


def test_refusal_of_a_known_person_is_one_event(world: World) -> None:
    session = world.sign_in()
    before = last_event()

    world.authorize(scope="openid nothing")

    [event] = events_since(before)
    assert (event.actor, event.object, event.reason, event.session) == (
        f"person:{world.person.sub}", "client:web", "scope_unknown", str(session.pk),
    )  # fmt: skip


# -- somebody unknown: a count a minute -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "client", "reason"),
    [
        (lambda w: raw(w, "/token", "grant_type=x"), "", "no_client"),
        (lambda w: raw(w, "/token", "", basic("nobody", SECRET)), "", "unknown_client"),
        (lambda w: raw(w, "/token", "", basic("web", "wrong")), "web", "wrong_secret"),
        (lambda w: raw(w, "/token", "client_id=web"), "web", "wrong_method"),
        (lambda w: raw(w, "/token", "", "Basic !"), "", "bad_header"),
        (lambda w: raw(w, "/token", "client_secret=x", WEB), "", "two_methods"),
        (lambda w: raw(w, "/token", "{}", WEB, "application/json"), "", "content_type"),
        (lambda w: raw(w, "/token", "", WEB, method="GET"), "", "method"),
        (lambda w: raw(w, "/token", "x" * 70_000, WEB), "", "too_large"),
        (lambda w: raw(w, "/token", "client_id=web&client_id=other"), "", "doubled"),
        (lambda w: raw(w, "/token", "client_id=web%00"), "", "unusable"),
        (lambda w: raw(w, "/token", "client_id=public&grant_type=x"), "public", "unsupported_grant_type"),
        (lambda w: raw(w, "/introspect", "token=x"), "", "no_client"),
        (lambda w: raw(w, "/introspect", "token=x&client_id=public"), "public", "public_client"),
        (lambda w: raw(w, "/revoke", "client_id=public"), "public", "invalid_request"),
        (lambda w: raw(w, "/userinfo", "", method="GET"), "", "no_token"),
        (lambda w: raw(w, "/userinfo", "", "Bearer x.y.z", method="GET"), "", "invalid_token"),
        (lambda w: raw(w, "/userinfo", "x" * 70_000), "", "too_large"),
        (lambda w: w.authorize(redirect_uri="https://evil.example/"), "web", "redirect_uri"),
        (lambda w: w.authorize("nobody"), "", "unknown_client"),
        (lambda w: w.authorize(prompt="none"), "web", "login_required"),
        (lambda w: w.authorize(scope="nothing"), "web", "scope_unknown"),
    ],
)
def test_refusals_of_somebody_unknown_are_one_count_a_minute(
    send: Callable[[World], object], client: str, reason: str, world: World
) -> None:
    world.now = world.now.replace(second=0)
    before = last_event()

    for _ in range(3):
        send(world)
    assert tallies() == [("192.0.2.1", client, reason, 3)]
    assert events_since(before) == []
    world.later(seconds=59)
    send(world)
    world.later(seconds=1)
    send(world)

    assert sorted(RefusalTally.objects.values_list("count", flat=True)) == [1, 4]
    with transaction.atomic():
        assert flush_tallies(world.now) == 1
    [event] = events_since(before)
    assert (event.actor, event.method, event.reason) == ("anonymous", "count=4", reason)
    assert event.object == (f"client:{client}" if client else "")


def test_refusals_from_two_addresses_are_two_counts(world: World) -> None:
    raw(world, "/token", "")
    world.source = "192.0.2.2"
    raw(world, "/token", "")

    assert [row[0] for row in tallies()] == ["192.0.2.1", "192.0.2.2"]


def test_anonymous_flood_in_a_public_clients_name_writes_no_event(world: World) -> None:
    """A public client's name is no secret: events by the thousand would be anybody's to write, and are never deleted."""
    before = last_event()

    for body in ("grant_type=x", "grant_type=refresh_token&refresh_token=x", "a=1&a=2"):
        raw(world, "/token", f"client_id=public&{body}")

    assert events_since(before) == []
    assert {row[1] for row in tallies()} == {"public"}


# -- no secret anywhere -----------------------------------------------------------------------------------------


def everything() -> Iterable[tuple[str, str]]:
    """Return every value of every table, as text, with its place."""
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            columns = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for name, value in zip(columns, row, strict=True):
                    plain = bytes(value) if isinstance(value, bytes | memoryview) else None
                    text = plain.decode("utf-8", "replace") if plain is not None else str(value)
                    yield f"{table}.{name}", text


def canary(name: str) -> str:
    return f"Canary-{name}-{uuid4().hex}"


@pytest.mark.rules("core/16.4/disclosure")
def test_a20_no_secret_is_in_any_table_or_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [SECRET, SERVER_SECRET]

    def known(value: str) -> str:
        secrets.append(value)
        return value

    def sent(name: str) -> str:
        return known(canary(name))

    # A whole honest flow, with a page in the middle.
    world.sign_in()
    known(world.cookie)
    asked = world.authorize("other", prompt="consent")
    assert isinstance(asked, Interaction)
    browser = sent("browser")
    handle = known(interactions.park(asked, browser, world.now))
    parked = interactions.load(handle, browser, world.now)
    assert parked is not None
    session = LoginSession.objects.select_related("user").get(pk=world.session.pk)
    interactions.give_consent(parked, session, RequestFacts("r", "192.0.2.1"), world.now)
    code = known(world.code(scope="openid profile roles demo.read"))
    known(world.verifier)
    tokens = json.loads(world.exchange(code).body)
    fresh = json.loads(world.refresh(tokens["refresh_token"]).body)
    for answer in (tokens, fresh):
        for name in ("access_token", "refresh_token", "id_token"):
            known(answer[name])
            known(answer[name].rsplit(".", 1)[-1])
    world.introspect(fresh["access_token"])
    world.userinfo(fresh["access_token"])
    # Tokens of the other kind, bound to a key; and proofs.
    other = next(item for item in CLIENTS if item["client_id"] == "other")
    apply_all([{**other, "trusted": True, "access_token_format": "opaque"}], world.now, "system:test")
    world.prover = Prover()
    bound = world.tokens("other", scope="openid")
    for name in ("access_token", "refresh_token"):
        known(bound[name])
    proof = world.prover.proof(
        "GET", f"{ISSUER}/userinfo", world.now, bound["access_token"], jti=sent("identifier")
    )
    for used in (proof, proof, sent("proof")):
        world.userinfo(bound["access_token"], "DPoP", dpop=known(used))
    world.prover = None
    # Replays, wrong secrets, and secrets in the wrong places.
    world.exchange(code)
    world.refresh(tokens["refresh_token"])
    world.post("/revoke", token=fresh["access_token"])
    world.post("/revoke", token=tokens["refresh_token"])
    world.exchange(sent("code"), code_verifier=sent("verifier") + "x" * 20)
    world.refresh(sent("refresh"))
    world.refresh("rt_" + (known("A" * 70)))
    world.post("/token", "web", sent("secret"), grant_type=sent("grant"))
    world.post("/token", sent("client"), sent("secret"), grant_type="client_credentials", scope=sent("scope"))
    world.post("/token", None, client_id="web", client_secret=sent("post"), password=sent("password"))
    world.post("/token", grant_type=sent("grant"), **{sent("name"): sent("value")})
    world.introspect(sent("token"))
    world.userinfo(sent("bearer"))
    world.ask(Request("GET", "/userinfo", query=urlencode({"access_token": sent("query")})))
    world.ask(Request("GET", "/authorize", query=sent("junk"), cookies={cookies.SESSION: sent("cookie")}))
    world.authorize(redirect_uri=f"https://evil.example/{sent('uri')}")
    world.authorize(id_token_hint=sent("hint"), scope=sent("scope"))
    world.authorize(client_id=sent("id"))
    world.ask(Request("GET", "/logout", query=urlencode({"id_token_hint": fresh["id_token"]})))
    with transaction.atomic():
        flush_tallies(world.now + timedelta(minutes=2))

    places = list(everything())
    assert len(places) > 500
    assert any("client:code:replay" in text for _, text in places)
    for value in secrets:
        found = [place for place, text in places if value in text]
        assert not found, (value[:16], found)
        assert value not in caplog.text


def test_seed_and_key_are_needed_together_for_a_refresh_token(world: World) -> None:
    """What the database holds of a family does not make a token without the key that is not there (ADR 0005)."""
    world.sign_in()
    token = world.tokens()["refresh_token"]
    position = refresh_tokens.parse(token)
    assert position is not None
    with connection.cursor() as cursor:
        cursor.execute("SELECT seed FROM oauth_tokenfamily")
        seed = bytes(cursor.fetchone()[0])

    for key in (b"", seed, b"\0" * 32, SECRET.encode()):
        forged = refresh_tokens.build(key, seed, position.family_id, 0)
        assert world.refresh(forged).status == 400
    assert world.refresh(token).status == 200


def test_switched_off_clients_right_secret_is_a_count_under_its_name(world: World) -> None:
    Client.objects.filter(client_id="web").update(enabled=False)

    assert raw(world, "/token", "grant_type=refresh_token", WEB).status == 401

    assert tallies() == [("192.0.2.1", "web", "client_disabled", 1)]
