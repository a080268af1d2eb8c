"""The pages of the device grant over HTTP: a person, a screen, and what must not happen between them (A46, A48)."""

from typing import Any

import pytest
import requests

from tests.servers.organisation import DEVICE_CODE
from tests.servers.person import Page, Person
from tests.servers.service import Service

from .test_pages import LANGUAGES, SECONDS, assert_is_page, assert_is_slowed, csrf_of, send, submit, visitor

WARNING = {
    "ar": "هل بدأت هذا بنفسك؟",
    "fr": "Est-ce vous qui avez commencé ?",
    "en": "Did you start this yourself?",
}


def begin(service: Service) -> dict[str, Any]:
    response = requests.post(
        f"{service.issuer}/device_authorization",
        data={"client_id": "test-device", "scope": "openid profile roles"},
        timeout=SECONDS,
    )
    assert response.status_code == 200, response.text
    return response.json()


def poll(service: Service, begun: dict[str, Any]) -> dict[str, Any]:
    return requests.post(
        f"{service.issuer}/token",
        data={"client_id": "test-device", "grant_type": DEVICE_CODE, "device_code": begun["device_code"]},
        timeout=SECONDS,
    ).json()


def to_form(person: Person, address: str = "") -> Page:
    """Sign in and come to the page that takes a code."""
    page = person.go_on(person.open(address or f"{person.issuer}/device"), stop_at="user_code")
    assert isinstance(page, Page)
    assert page.has("user_code"), page.text
    return page


def to_question(person: Person, begun: dict[str, Any]) -> Page:
    return submit(person, to_form(person), "user_code", user_code=begun["user_code"])


def test_device_is_let_in_by_whoever_typed_its_code(service):
    begun, person = begin(service), visitor(service, "screen01")

    ended = submit(person, to_question(person, begun), "consent", decision="let_in")

    assert ended.response.url.endswith("/device/confirmed")
    tokens = poll(service, begun)
    assert {"access_token", "id_token", "refresh_token"} <= tokens.keys()
    claims = requests.get(
        f"{service.issuer}/userinfo",
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
        timeout=SECONDS,
    ).json()
    assert claims["preferred_username"] == "screen01"


def test_device_is_signed_out_with_the_browser_that_let_it_in(service):
    begun, person = begin(service), visitor(service, "screen02")
    submit(person, to_question(person, begun), "consent", decision="let_in")
    tokens = poll(service, begun)

    submit(person, person.open(f"{service.issuer}/sign-out"), "to")

    refreshed = requests.post(
        f"{service.issuer}/token",
        data={
            "client_id": "test-device",
            "grant_type": "refresh_token",
            "refresh_token": tokens["refresh_token"],
        },
        timeout=SECONDS,
    )
    assert refreshed.json()["error"] == "invalid_grant"


def test_device_that_is_turned_away_hears_so(service):
    begun, person = begin(service), visitor(service, "screen03")

    ended = submit(person, to_question(person, begun), "consent", decision="turn_away")

    assert ended.response.url.endswith("/device/refused")
    assert poll(service, begun)["error"] == "access_denied"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.spec("RFC 8628", "5.4", "the page says what asks, from where, and warns")
def test_question_shows_what_asks_from_where_and_warns(language, service):
    begun, person = begin(service), visitor(service, "screen04", language=language)
    person.browser.cookies.set("iam-lang", language)

    page = assert_is_page(to_question(person, begun).response)

    assert page.attributes["lang"] == language
    assert WARNING[language] in page.text
    for shown in ("Correspondence", "Meeting room screen", "127.0.0.1", "UTC", "4"):
        assert shown in page.text
    assert begun["user_code"] not in page.response.text
    assert poll(service, begun)["error"] == "authorization_pending"


def test_question_says_that_the_device_is_on_another_network(service):
    begun, person = begin(service), visitor(service, "screen05", address="127.0.0.9")

    page = to_question(person, begun)

    assert "another network than this browser’s" in page.text


@pytest.mark.spec("RFC 8628", "3.3.1", "a complete address fills the code in and confirms nothing")
def test_a48_complete_address_survives_the_sign_in_and_confirms_nothing(service):
    begun, person = begin(service), visitor(service, "screen06")

    page = to_form(person, begun["verification_uri_complete"])
    person.open(begun["verification_uri_complete"])

    assert page.form_with("user_code").fields["user_code"] == begun["user_code"]
    assert "must show exactly this code" in page.text
    assert poll(service, begun)["error"] == "authorization_pending"


def test_a48_code_that_one_person_typed_is_wrong_for_another(service):
    begun = begin(service)
    first, second = visitor(service, "screen07"), visitor(service, "screen08")
    question = to_question(first, begun)

    page = submit(second, to_form(second), "user_code", user_code=begun["user_code"])

    assert "No device shows this code now" in page.text
    ended = submit(first, question, "consent", decision="let_in")
    assert ended.response.url.endswith("/device/confirmed")


def test_a46_question_put_to_one_person_is_not_answered_by_another_in_the_same_browser(service):
    begun, person = begin(service), visitor(service, "screen09")
    question = to_question(person, begun)
    again = person.open(person.request(prompt="login"))
    assert isinstance(again, Page)
    form = again.form_with("password")
    send(person, form, {**csrf_of(form), "username": "screen10", "password": person.password})
    assert "Screen 10" in person.open(f"{service.issuer}/").text

    fields = question.form_with("consent").fields
    response = send(person, question.form_with("consent"), {**fields, "decision": "let_in"})

    assert poll(service, begun)["error"] == "authorization_pending"
    assert response.status_code in {200, 303}


@pytest.mark.parametrize(
    "change",
    [{"csrfmiddlewaretoken": ""}, {"csrfmiddlewaretoken": "x" * 64}],
    ids=["without", "wrong"],
)
def test_question_and_code_form_refuse_a_foreign_post(change, service):
    begun, person = begin(service), visitor(service, "screen11")
    form = to_form(person).form_with("user_code")
    question = to_question(person, begun).form_with("consent")

    typed = send(person, form, {**form.fields, "user_code": begun["user_code"], **change})
    answered = send(person, question, {**question.fields, "decision": "let_in", **change})

    assert (typed.status_code, answered.status_code) == (403, 403)
    assert poll(service, begun)["error"] == "authorization_pending"


@pytest.mark.parametrize(
    "mark", [{}, {"consent": ""}, {"consent": "0" * 64}], ids=["missing", "empty", "wrong"]
)
def test_question_answered_without_its_mark_is_asked_again(mark, service):
    begun, person = begin(service), visitor(service, "screen12")
    form = to_question(person, begun).form_with("consent")

    response = send(person, form, {**csrf_of(form), **mark, "decision": "let_in"})

    assert "Let it in" in Page(response).text
    assert poll(service, begun)["error"] == "authorization_pending"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "BCDF",
        "x" * 5000,
        "BCDF-GHJK\0",
        "بتثج حخدذ",
        "<script>alert(1)</script>",
        "' OR 1=1 --",
        "\u202eKJHG-FDCB",
    ],
)
def test_code_that_is_none_is_a_page_and_nothing_else(typed, service):
    person = visitor(service, "screen13")
    form = to_form(person).form_with("user_code")

    response = send(person, form, {**csrf_of(form), "user_code": typed})

    page = assert_is_page(response)
    assert response.status_code == 200
    assert "No device shows this code now" in page.text
    assert "<script>alert" not in response.text


def test_code_given_twice_is_one_try(service):
    begun, person = begin(service), visitor(service, "screen14")
    form = to_form(person).form_with("user_code")

    response = send(
        person, form, [*csrf_of(form).items(), ("user_code", begun["user_code"]), ("user_code", "BCDF-GHJK")]
    )

    assert response.status_code == 200
    assert poll(service, begun)["error"] == "authorization_pending"


def test_a48_guesses_of_codes_are_slowed_down_by_person_and_address(service):
    person = visitor(service, "screen15", address="127.0.0.15")
    page = to_form(person)
    for number in range(5):
        page = submit(person, page, "user_code", user_code=f"BCDF-GHJ{'KLMNP'[number]}")
        assert "No device shows this code now" in page.text

    begun = begin(service)
    slowed = submit(person, page, "user_code", user_code=begun["user_code"])

    assert_is_slowed(slowed)
    assert poll(service, begun)["error"] == "authorization_pending"


def test_a48_right_codes_do_not_forgive_guesses(service):
    person = visitor(service, "screen16", address="127.0.0.16")
    page = to_form(person)
    for number in range(4):
        submit(person, page, "user_code", user_code=f"CDFG-HJK{'LMNP'[number]}")
    assert to_question(person, begin(service)).has("consent")

    submit(person, page, "user_code", user_code="CDFG-HJKQ")

    assert_is_slowed(submit(person, page, "user_code", user_code="CDFG-HJKR"))


def test_nobody_signed_in_cannot_try_a_code(service):
    begun, person = begin(service), visitor(service, "screen17")
    form = to_form(person).form_with("user_code")
    person.browser.cookies.pop("iam-session")

    response = send(person, form, {**form.fields, "user_code": begun["user_code"]})

    assert response.status_code == 303
    assert "/sign-in/" in response.headers["Location"]


@pytest.mark.parametrize("path", ["/device", "/device/confirmed", "/device/refused", "/device/gone"])
def test_device_pages_take_no_other_method(path, service):
    response = requests.request("DELETE", service.issuer + path, timeout=SECONDS)

    assert response.status_code in {403, 405}
    assert_is_page(response)


@pytest.mark.parametrize("outcome", ["confirmed", "refused", "gone"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_ends_are_pages_that_say_nothing_of_anybody(outcome, language, service):
    response = requests.get(
        f"{service.issuer}/device/{outcome}", headers={"Accept-Language": language}, timeout=SECONDS
    )

    page = assert_is_page(response)
    assert page.attributes["lang"] == language
