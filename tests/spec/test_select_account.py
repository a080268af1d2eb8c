"""Which account is to be used: the page of `prompt=select_account`, over HTTP."""

import pytest

from tests.servers.organisation import PASSWORD
from tests.servers.person import Page, Person
from tests.servers.service import Service

TITLES = {"ar": "اختر حسابًا", "fr": "Choisissez un compte", "en": "Choose an account"}
NAMES = {"ar": "بسيط 21", "fr": "Plain 21", "en": "Plain 21"}


def signed_in(service: Service, login: str, language: str = "en") -> Person:
    person = Person(service.issuer, login, PASSWORD, language=language)
    assert "code" in person.sign_in()
    return person


def choosing(person: Person, **more: str) -> Page:
    page = person.open(person.request(prompt="select_account", **more))
    assert isinstance(page, Page), page
    return page


def subject_of(person: Person, answer: "Page | dict[str, str]") -> str:
    import base64
    import json

    assert isinstance(answer, dict), answer.text
    body = person.tokens(answer)["id_token"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["sub"]


@pytest.mark.spec("OIDC Core", "3.1.2.1", "select_account prompts though somebody is signed in")
@pytest.mark.parametrize("language", ["ar", "fr", "en"])
@pytest.mark.rules("core/3.1.2.1/prompt-select-account")
def test_select_account_names_who_is_signed_in_and_continues_as_them(service: Service, language: str) -> None:
    person = signed_in(service, "plain21")
    page = choosing(person, ui_locales=language)
    if (
        page.attributes["lang"] != language
    ):  # the profile's language comes first; the button is an explicit choice
        page = person.submit(page, "csrfmiddlewaretoken", language=language)
    assert isinstance(page, Page)
    assert (page.attributes["lang"], TITLES[language] in page.text) == (language, True)
    assert NAMES[language] in page.text
    assert "plain21" in page.text

    answer = person.submit(page, "account", decision="continue")

    assert isinstance(answer, dict)
    assert "code" in answer


def test_select_account_another_account_signs_in_and_is_the_one_answered(service: Service) -> None:
    person = signed_in(service, "plain21")
    own = subject_of(person, person.open(person.request()))
    page = choosing(person)
    name = person.open(page.form_with("account").action + "?other=1")
    assert isinstance(name, Page)
    assert name.form_with("username").fields["username"] == ""
    person.login = "plain22"

    answer = person.go_on(name)

    assert subject_of(person, answer) != own


def test_select_account_login_hint_fills_in_the_name_of_another_account(service: Service) -> None:
    person = signed_in(service, "plain21")

    page = choosing(person, login_hint="plain22")
    name = person.open(page.form_with("account").action + "?other=1")

    assert isinstance(name, Page)
    assert name.form_with("username").fields["username"] == "plain22"


def test_select_account_language_changed_on_the_way_to_another_account_stays_on_that_way(
    service: Service,
) -> None:
    person = signed_in(service, "plain21")
    name = person.open(choosing(person).form_with("account").action + "?other=1")
    assert isinstance(name, Page)

    again = person.submit(name, "other", language="fr")

    assert isinstance(again, Page)
    assert (again.attributes["lang"], again.has("username"), again.has("account")) == ("fr", True, False)


def test_select_account_wrong_password_of_another_account_keeps_who_is_signed_in(service: Service) -> None:
    person = signed_in(service, "plain21")
    name = person.open(choosing(person).form_with("account").action + "?other=1")
    assert isinstance(name, Page)
    password = person.submit(name, "username", username="plain22")
    assert isinstance(password, Page)

    wrong = person.submit(password, "password", password="not the password at all")

    assert isinstance(wrong, Page)
    assert wrong.has("password")
    assert "code" in person.sign_in(person.request(prompt="none"))


@pytest.mark.parametrize(
    "fields", [{}, {"account": ""}, {"account": "0" * 64}, {"account": "ب"}, {"decision": "agree"}]
)
def test_select_account_form_without_its_mark_asks_again(service: Service, fields: dict[str, str]) -> None:
    person = signed_in(service, "plain21")
    page = choosing(person)
    form = page.form_with("account")
    if "account" not in fields and "decision" not in fields:
        del form.fields["account"]

    again = person.submit(
        page, "csrfmiddlewaretoken" if not fields else "account", **{"decision": "continue", **fields}
    )

    assert isinstance(again, Page)
    assert again.has("account")


def test_a46_page_shown_to_one_person_cannot_continue_as_the_next(service: Service) -> None:
    person = signed_in(service, "plain21")
    page = choosing(person)
    person.login = "plain22"
    assert "code" in person.sign_in(person.request(prompt="login"))

    answer = person.submit(page, "account", decision="continue")

    # Who signed in since the request came has chosen by that; the form of the page before decided nothing.
    assert subject_of(person, answer) == subject_of(person, person.open(person.request()))
