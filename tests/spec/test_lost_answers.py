"""Answers that never arrive: whoever sends a form again, goes back or reloads gets on, and nobody else does (US-12)."""

import re
import time

import pyotp
import pytest
import requests

from tests.servers.organisation import PASSWORD
from tests.servers.person import Page, Person
from tests.servers.service import Service

PLAIN = "plain29"


def lose(person: Person, page: Page, name: str, **values: str) -> requests.Response:
    """Post a form of a page; the service answers, and the browser never hears of it."""
    form = page.form_with(name)
    answer = requests.post(
        form.action, data={**form.fields, **values}, cookies=person.browser.cookies.copy(), allow_redirects=False,
        headers={**person.browser.headers, "Origin": person.issuer, "Referer": page.response.url}, timeout=20,
    )  # fmt: skip
    assert answer.status_code in {200, 303}, answer.text
    return answer


def at_code(service: Service, login: str, **more: str) -> tuple[Person, Page]:
    person = Person(service.issuer, login)
    page = person.go_on(person.open(person.request(**more)), stop_at="code")
    assert isinstance(page, Page)
    return person, page


def sessions(service: Service, login: str) -> int:
    return int(
        service.python(
            "from iam.accounts.models import LoginSession\n"
            f"print(LoginSession.objects.filter(user__links__login={login!r}, ended_at=None).count())"
        )
    )


def test_us12_code_whose_answer_was_lost_is_sent_again_and_leads_on(service: Service) -> None:
    person, page = at_code(service, "crowd36")
    code = person.code()
    lost = lose(person, page, "code", code=code)
    assert lost.headers["Location"].startswith("http://127.0.0.1:9900/callback?code=")

    answer = person.submit(page, "code", code=code)

    assert isinstance(answer, dict), answer.text
    first_code = re.search("code=([^&]+)", lost.headers["Location"])
    assert first_code is not None
    assert answer["code"] != first_code.group(1)
    assert "id_token" in person.tokens(answer)
    assert sessions(service, "crowd36") == 1
    assert isinstance(person.open(person.request()), dict)  # signed in: nobody asks again
    shown = service.manage("audit", "list", "--person", "crowd36").stdout
    assert shown.count("why sent_again") == 1


def test_us12_code_of_the_answer_that_was_lost_is_worth_nothing_after_the_second(service: Service) -> None:
    person, page = at_code(service, "crowd37")
    code = person.code()
    lost = lose(person, page, "code", code=code)
    stale = re.search("code=([^&]+)", lost.headers["Location"])
    assert stale is not None

    answer = person.submit(page, "code", code=code)

    assert isinstance(answer, dict)
    with pytest.raises(AssertionError, match="invalid_grant"):
        person.tokens({"code": stale.group(1)})
    tokens = person.tokens(answer)  # and it ended nothing
    assert requests.get(
        f"{service.issuer}/userinfo",
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
        timeout=20,
    ).ok


def test_us12_going_back_after_a_lost_answer_asks_for_a_code_and_not_for_the_password(
    service: Service,
) -> None:
    person, page = at_code(service, "crowd38")
    lose(person, page, "code", code=person.code())

    back = person.open(page.response.url)
    assert isinstance(back, Page)
    assert back.has("code")
    assert not back.has("password")
    wrong = person.submit(back, "code", code="000000")
    assert isinstance(wrong, Page)
    assert "did not work" in wrong.text
    answer = person.submit(wrong, "code", code=person.code())

    assert isinstance(answer, dict), answer.text
    assert "id_token" in person.tokens(answer)


def test_a45_secret_of_before_the_code_opens_nothing_without_a_code(service: Service) -> None:
    person, page = at_code(service, "crowd39")
    lose(person, page, "code", code=person.code())

    home = person.open(person.issuer + "/")
    asked = person.open(person.request())

    for shown in (home, asked):
        assert isinstance(shown, Page)
        assert "Crowd 39" not in shown.text
        assert not shown.has("to")
    assert isinstance(asked, Page)
    for code in ("000000", "123456", ""):
        denied = person.submit(page, "code", code=code)
        assert isinstance(denied, Page), "a wrong code let somebody in"


def test_a31_answer_that_arrived_is_not_given_again_and_what_it_gave_goes_on(service: Service) -> None:
    person, page = at_code(service, "crowd40")
    code = person.code()
    arrived = person.submit(page, "code", code=code)
    assert isinstance(arrived, dict)
    tokens = person.tokens(arrived)

    again = person.submit(page, "code", code=code)

    assert isinstance(again, Page)
    assert again.response.status_code == 404
    assert "id_token" in tokens
    assert requests.get(
        f"{service.issuer}/userinfo",
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
        timeout=20,
    ).ok


def test_us12_password_whose_answer_was_lost_is_sent_again_and_leaves_one_session(service: Service) -> None:
    person = Person(service.issuer, PLAIN)
    page = person.go_on(person.open(person.request(scope="openid")), stop_at="password")
    assert isinstance(page, Page)
    lose(person, page, "password", password=PASSWORD)
    time.sleep(3.1)  # sooner it would be two presses of one button, of which either answer may count

    answer = person.submit(page, "password", password=PASSWORD)

    assert isinstance(answer, dict), answer.text
    assert "id_token" in person.tokens(answer)
    assert sessions(service, PLAIN) == 1


# -- recovery codes, which are shown once ---------------------------------------------------------------------------


def shown_codes(page: Page) -> list[str]:
    return re.findall(r"<li><code>([^<]+)</code></li>", page.response.text)


def enrolment(service: Service, login: str) -> tuple[Person, Page, str]:
    """Return somebody at the page of a new second factor, and the code that confirms it."""
    person = Person(service.issuer, login)
    page = person.go_on(person.open(person.request(scope="openid", acr_values="aal2")), stop_at="enrolment")
    assert isinstance(page, Page)
    secret = re.search(r"secret=([A-Z2-7]+)", page.response.text) or re.search(
        r"<code[^>]*>([A-Z2-7 ]{32,})</code>", page.response.text
    )
    assert secret is not None, page.response.text
    return person, page, pyotp.TOTP(secret.group(1).replace(" ", "")).now()


def test_us09_language_of_the_recovery_codes_can_be_changed_and_they_stay(service: Service) -> None:
    person, page, code = enrolment(service, "plain30")
    sheet = person.submit(page, "enrolment", code=code)
    assert isinstance(sheet, Page)
    codes = shown_codes(sheet)
    assert len(codes) == 10

    for language in ("ar", "fr", "en"):
        sheet = person.submit(sheet, "sheet", language=language)
        assert isinstance(sheet, Page)
        assert (sheet.attributes["lang"], shown_codes(sheet)) == (language, codes)

    form = sheet.form_with("sheet").fields
    for forged in ("", "x", form["sheet"][:-1] + "-", form["sheet"].replace(":", "", 1)):
        assert not shown_codes_of(person, sheet, forged)


def shown_codes_of(person: Person, sheet: Page, forged: str) -> list[str]:
    answer = person.submit(sheet, "sheet", sheet=forged, language="fr")
    return shown_codes(answer) if isinstance(answer, Page) else []


def test_us09_recovery_codes_whose_page_was_lost_are_replaced(service: Service) -> None:
    person, page, code = enrolment(service, "plain14")
    lost = lose(person, page, "enrolment", code=code)
    unseen = re.findall(r"<li><code>([^<]+)</code></li>", lost.text)

    sheet = person.submit(page, "enrolment", code=code)

    assert isinstance(sheet, Page)
    codes = shown_codes(sheet)
    assert len(codes) == len(unseen) == 10
    assert not set(codes) & set(unseen)
    done = person.open(page.response.url)
    assert isinstance(done, dict)
    stranger, at = Person(service.issuer, "plain14"), None
    at = stranger.go_on(stranger.open(stranger.request(scope="openid", acr_values="aal2")), stop_at="code")
    assert isinstance(at, Page)
    recovery = stranger.open(at.response.url + "?recovery=1")
    assert isinstance(recovery, Page)
    refused = stranger.submit(recovery, "code", code=unseen[0])
    assert isinstance(refused, Page)
    assert isinstance(stranger.submit(refused, "code", code=codes[0]), dict)
