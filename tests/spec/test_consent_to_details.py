"""What a person reads before they allow something in their name, over HTTP (RFC 9396, A10)."""

import html
import json
import re

import pytest

from tests.servers.organisation import PASSWORD
from tests.servers.person import Page, Person
from tests.servers.service import Service

REDIRECT = "http://127.0.0.1:9901/callback"
PAYMENT = {
    "type": "payment",
    "amount": {"value": "125000.00", "currency": "XOF"},
    "creditor": "UNICEF Niamey",
}
TITLES = {"ar": "دفع مبلغ", "fr": "Faire un paiement", "en": "Make a payment"}
LABELS = {"ar": "المبلغ", "fr": "Montant", "en": "Amount"}


def asked(person: Person, *details: dict, scope: str = "openid", **more: str) -> Page:
    """Return the consent page of a request for details, in the person's own language."""
    address = person.request(
        "test-ask", REDIRECT, scope=scope, authorization_details=json.dumps(details), **more
    )
    page = person.go_on(person.open(address), stop_at="consent")
    assert isinstance(page, Page), page
    assert page.has("consent"), page.text
    return page


def signing(service: Service, login: str = "plain23", language: str = "en") -> Person:
    person = Person(service.issuer, login, PASSWORD, language=language)
    person.browser.cookies.set("iam-lang", language)
    return person


def rows(page: Page) -> dict[str, str]:
    pairs = re.findall(r"<dt><bdi[^>]*>(.*?)</bdi></dt><dd><bdi>(.*?)</bdi></dd>", page.response.text)
    return {html.unescape(label): html.unescape(value) for label, value in pairs}


@pytest.mark.spec("RFC 9396", "13", "the person sees what is asked, in words")
@pytest.mark.parametrize("language", ["ar", "fr", "en"])
@pytest.mark.rules("fapi/5.3.2.2/13")
def test_consent_page_says_what_is_allowed_in_every_language(service: Service, language: str) -> None:
    page = asked(signing(service, language=language), PAYMENT)

    assert page.attributes["lang"] == language
    assert TITLES[language] in page.text
    shown = rows(page)
    assert shown[LABELS[language]] == "125000.00"
    assert shown["amount.currency"] == "XOF"
    assert "UNICEF Niamey" in shown.values()


def test_consent_page_leaves_no_member_out(service: Service) -> None:
    more = {**PAYMENT, "urgent": True, "references": ["first", "second"]}

    shown = rows(asked(signing(service), more))

    assert {"urgent": "yes", "references": "first", "references 2": "second"}.items() <= shown.items()
    assert len(shown) == 6


def test_consent_page_shows_every_detail_of_several(service: Service) -> None:
    other = {**PAYMENT, "amount": {"value": "7.00", "currency": "EUR"}}

    page = asked(signing(service), PAYMENT, other)

    assert page.response.text.count('<dl class="facts">') == 2
    assert "125000.00" in page.text
    assert "7.00" in page.text


@pytest.mark.parametrize(
    "creditor", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7|add:7 }}", "&amp;"]
)
def test_a10_consent_page_escapes_what_the_application_sent(service: Service, creditor: str) -> None:
    page = asked(signing(service), {**PAYMENT, "creditor": creditor})

    assert creditor in rows(page).values()
    assert creditor not in page.response.text or "<" not in creditor
    assert "onerror=alert(1)>" not in page.response.text.replace(html.escape(creditor), "")


def test_a10_agreeing_gives_what_was_shown_and_the_next_payment_is_asked_again(service: Service) -> None:
    person = signing(service)
    page = asked(person, PAYMENT)

    answer = person.submit(page, "consent", decision="agree")

    assert isinstance(answer, dict)
    tokens = person.tokens(answer, "test-ask", REDIRECT)
    assert tokens["authorization_details"] == [PAYMENT]
    asked(person, PAYMENT)
    asked(person, {**PAYMENT, "amount": {"value": "125000.01", "currency": "XOF"}})


def test_a10_declining_gives_nothing(service: Service) -> None:
    person = signing(service)

    answer = person.submit(asked(person, PAYMENT), "consent", decision="decline")

    assert isinstance(answer, dict)
    assert (answer["error"], "code" in answer) == ("access_denied", False)


def test_a10_mark_of_one_payment_answers_no_page_of_another(service: Service) -> None:
    person = signing(service)
    one = asked(person, PAYMENT)
    other = asked(person, {**PAYMENT, "creditor": "Somebody else"})
    mark = one.form_with("consent").fields["consent"]

    answer = person.submit(other, "consent", consent=mark, decision="agree")

    assert isinstance(answer, Page)
    assert answer.has("consent")


@pytest.mark.spec("RFC 9396", "5", "invalid_authorization_details at the client's address")
def test_details_that_no_schema_allows_never_reach_the_page(service: Service) -> None:
    person = signing(service)
    address = person.request(
        "test-ask",
        REDIRECT,
        authorization_details=json.dumps([{**PAYMENT, "amount": {"value": "-1", "currency": "XOF"}}]),
    )

    answer = person.open(address)

    assert isinstance(answer, dict)
    assert answer["error"] == "invalid_authorization_details"
    assert answer["iss"] == service.issuer


@pytest.mark.parametrize(("language", "name"), [("ar", "بسيط 23"), ("fr", "Plain 23"), ("en", "Plain 23")])
def test_consent_page_names_the_application_the_client_and_the_person(
    service: Service, language: str, name: str
) -> None:
    """A partner's client for our application is not the application; and one browser serves several people."""
    client = {
        "client_id": "consent-partner", "client_name": "Partner’s <own> name", "application": "correspondence", "trusted": False,
        "token_endpoint_auth_method": "none", "redirect_uris": [REDIRECT], "scope": "openid profile",
    }  # fmt: skip
    file = service.folder / "consent-partner.json"
    file.write_text(json.dumps([client]))
    service.manage("client", "apply", str(file))
    person = signing(service, language=language)

    page = person.go_on(
        person.open(person.request("consent-partner", REDIRECT, scope="openid profile")), stop_at="consent"
    )

    assert isinstance(page, Page)
    assert "Correspondence" in page.text
    assert "Partner’s <own> name" in page.text
    assert name in page.text
