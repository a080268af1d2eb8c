"""Choosing a new password over HTTP, with a real slapd and its policy of passwords (US-06)."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pyotp
import pytest
import requests

from tests.servers.organisation import PASSWORD, TOTP_SECRET
from tests.servers.person import Page, Person
from tests.servers.service import Service

NEW = "three green horses at noon"
# Medians of so many tries are compared; the thousand with IAM_TEST_TRIALS=1000.
TRIES = 30
TOLERANCE_SECONDS = 0.020


def page(found) -> Page:
    assert isinstance(found, Page), found
    return found


def choose(person: Person, asked: Page, new: str, again: str = "", old: str = PASSWORD):
    return person.submit(asked, "new_password", password=old, new_password=new, new_again=again or new)


def recovery_codes(service: Service, login: str) -> list[str]:
    said = service.python(
        "from datetime import UTC, datetime\nimport mfa.service\nfrom iam.accounts.selectors import person_by_login\n"
        f"print(*mfa.service.replace_recovery_codes(str(person_by_login('{login}').pk), datetime.now(UTC)), sep='|')"
    )
    return said.strip().split("\n")[-1].split("|")


# -- a sign-in that asks for it ---------------------------------------------------------------------------------


def test_us06_password_that_must_change_leads_to_a_page_and_then_on_to_the_application(service):
    person = Person(service.issuer, "fresh01")

    asked = page(person.go_on(person.open(person.request()), stop_at="new_password"))

    assert "Choose a new password" in asked.text
    assert "not right" not in asked.text
    answer = choose(person, asked, NEW)
    assert isinstance(answer, dict), answer
    assert "code" in answer
    assert Person(service.issuer, "fresh01", password=NEW).sign_in()
    refused = page(Person(service.issuer, "fresh01").go_on(person.open(person.request(prompt="login"))))
    assert refused is not None


def test_us06_session_is_only_opened_after_the_change(service):
    person = Person(service.issuer, "fresh02")
    person.go_on(person.open(person.request()), stop_at="new_password")

    answer = person.open(person.request(prompt="none"))

    assert isinstance(answer, dict)
    assert answer["error"] == "login_required"


@pytest.mark.parametrize(
    ("new", "again", "words"),
    [
        ("tiny 1", "", "use at least 15 characters"),
        ("three green horses", "three green horse", "not the same"),
        (PASSWORD, "", "is the old one"),
        ("password12345678", "", "too easy"),
        ("aaaaaaaaaaaaaaaaaaaa", "", "too easy"),
        ("Fresh-2026-!!!-Test", "", "Do not use your name"),
        ("x" * 300, "", "Too long"),
    ],
    ids=["short", "different", "same", "common", "one-letter", "own-name", "long"],
)
def test_us06_new_password_that_is_not_taken_says_why_and_nothing_is_changed(service, new, again, words):
    person = Person(service.issuer, "fresh03")
    asked = page(person.go_on(person.open(person.request()), stop_at="new_password"))

    refused = page(choose(person, asked, new, again))

    assert words in refused.text
    assert refused.has("new_password")
    assert new not in refused.text


@pytest.mark.parametrize(("language", "words"), [("ar", "كلمة مرور جديدة"), ("fr", "nouveau mot de passe")])
def test_us06_page_is_in_the_persons_language(service, language, words):
    person = Person(service.issuer, "fresh04", language=language)

    asked = page(person.go_on(person.open(person.request()), stop_at="new_password"))

    assert words in asked.text
    assert asked.attributes["lang"] == language


def test_us06_wrong_old_password_on_the_page_is_said_and_counted(service):
    person = Person(service.issuer, "fresh05")
    asked = page(person.go_on(person.open(person.request()), stop_at="new_password"))

    refused = page(choose(person, asked, NEW, old="not it at all"))

    assert "The old password is not right" in refused.text


def test_page_for_a_new_password_cannot_be_reached_with_a_guess(service):
    """The page is only ever an answer to a right password."""
    person = Person(service.issuer, "fresh06", password="wrong from the start")

    answer = page(person.go_on(person.open(person.request())))

    assert not answer.has("new_password")


# -- somebody who is signed in ------------------------------------------------------------------------------------


def test_us06_own_change_ends_the_other_sessions_unless_the_person_says_otherwise(service):
    here, there = Person(service.issuer, "forget01"), Person(service.issuer, "forget01")
    here.sign_in()
    time.sleep(30 - time.time() % 30 + 0.5)  # a code of the phone counts once
    there.sign_in()

    form = page(here.open(f"{service.issuer}/password"))
    kept = page(
        here.submit(form, "new_password", password=PASSWORD, new_password=NEW, new_again=NEW, keep="on")
    )
    assert "stay signed in" in kept.text
    assert "code" in there.open(there.request())

    form = page(here.open(f"{service.issuer}/password"))
    done = page(
        here.submit(form, "new_password", password=NEW, new_password=NEW + " again", new_again=NEW + " again")
    )
    assert "were signed out" in done.text
    assert there.open(there.request(prompt="none"))["error"] == "login_required"
    assert "code" in here.open(here.request())


def test_own_change_needs_a_session(service):
    stranger = Person(service.issuer, "nobody")

    assert page(stranger.open(f"{service.issuer}/password")).has("username")


def test_own_change_cannot_be_made_by_a_page_of_somebody_else(service):
    person = Person(service.issuer, "forget02")
    person.sign_in()

    answer = person.browser.post(
        f"{service.issuer}/password",
        data={"password": PASSWORD, "new_password": NEW, "new_again": NEW},
        headers={"Origin": "https://evil.example"},
        allow_redirects=False,
        timeout=20,
    )

    assert answer.status_code == 403


# -- somebody who has lost it -------------------------------------------------------------------------------------


def forgotten(service: Service, login: str, code: str, recovery: str, new: str = NEW) -> Page:
    person = Person(service.issuer, login)
    form = page(person.open(f"{service.issuer}/password/forgotten"))
    return page(
        person.submit(
            form, "recovery", username=login, code=code, recovery=recovery, new_password=new, new_again=new
        )
    )


def code_now() -> str:
    return pyotp.TOTP(TOTP_SECRET).at(int(datetime.now(UTC).timestamp()))


def test_us06_two_other_factors_set_a_new_password(service):
    codes = recovery_codes(service, "forget03")

    done = forgotten(service, "forget03", code_now(), codes[0])

    assert "is changed" in done.text
    time.sleep(30 - time.time() % 30 + 0.5)
    assert Person(service.issuer, "forget03", password=NEW).sign_in()


@pytest.mark.parametrize("lacking", ["code", "recovery", "both", "of-somebody-else"])
def test_us06_one_factor_is_not_enough_and_the_words_are_the_same(service, lacking):
    mine, others = recovery_codes(service, "forget04"), recovery_codes(service, "forget05")
    code = "000000" if lacking in {"code", "both"} else code_now()
    recovery = {"recovery": "1 AAAA-AAAA-AAAA", "both": "nonsense", "of-somebody-else": others[0]}.get(
        lacking, mine[0]
    )

    refused = forgotten(service, "forget04", code, recovery)
    unknown = forgotten(service, "nobody-of-that-name", code_now(), mine[0])

    assert "These do not belong together" in refused.text
    assert "These do not belong together" in unknown.text
    assert refused.response.status_code == unknown.response.status_code


def test_us06_known_and_unknown_names_take_the_same_time(service):
    recovery_codes(service, "forget06")
    took: dict[str, list[float]] = {"forget06": [], "nobody-of-that-name": []}
    for _ in range(TRIES):
        for login, times in took.items():
            began = time.perf_counter()
            forgotten(service, login, "000000", "1 AAAA-AAAA-AAAA")
            times.append(time.perf_counter() - began)

    known, unknown = (statistics.median(times) for times in took.values())

    assert abs(known - unknown) < TOLERANCE_SECONDS, took


def test_us06_code_that_was_used_for_it_is_used_up(service):
    codes = recovery_codes(service, "forget07")
    code = code_now()
    forgotten(service, "forget07", code, codes[0])

    again = forgotten(service, "forget07", code, codes[1], NEW + " again")

    assert "These do not belong together" in again.text


def test_us06_account_that_is_locked_here_cannot_choose_a_password(service):
    """The same words as for anything that is not right: who asks has proved nothing yet."""
    codes = recovery_codes(service, "forget08")
    service.python(
        "from datetime import UTC, datetime, timedelta\nfrom iam import lifecycle\nfrom iam.accounts.selectors import person_by_login\n"
        "now = datetime.now(UTC)\n"
        "lifecycle.lock(person_by_login('forget08'), now + timedelta(hours=1), reason='lost', actor='operator:x', now=now)"
    )

    refused = forgotten(service, "forget08", code_now(), codes[0])

    assert "These do not belong together" in refused.text


def test_us06_one_code_and_one_recovery_code_set_one_password(service):
    """Sent many times at once: one of them is taken, and the others are told what a stranger is told."""
    codes = recovery_codes(service, "forget06")
    time.sleep(30 - time.time() % 30 + 0.5)  # a code that nobody used
    code = code_now()

    with ThreadPoolExecutor(12) as pool:
        said = list(
            pool.map(
                lambda number: forgotten(service, "forget06", code, codes[0], f"{NEW} number {number}").text,
                range(12),
            )
        )

    assert sum("is changed" in text for text in said) == 1


# -- nowhere --------------------------------------------------------------------------------------------------------


def test_passwords_are_in_no_table_and_no_log(service):
    """Every table and every log is searched after sign-ins and changes with these very words."""
    person = Person(service.issuer, "fresh07")
    asked = page(person.go_on(person.open(person.request()), stop_at="new_password"))
    secret = "seven blue kettles whisper"
    choose(person, asked, secret)
    Person(service.issuer, "fresh07", password=secret).sign_in()

    found = service.python(
        "from django.db import connection\n"
        f"words = [{secret!r}, {PASSWORD!r}]\n"
        "with connection.cursor() as cursor:\n"
        "    tables = connection.introspection.table_names(cursor)\n"
        "    assert len(tables) > 20\n"
        "    for table in tables:\n"
        "        cursor.execute(f'SELECT * FROM {connection.ops.quote_name(table)}')\n"
        "        for row in cursor.fetchall():\n"
        "            for value in row:\n"
        "                text = bytes(value).decode('utf-8', 'replace') if isinstance(value, (bytes, memoryview)) else str(value)\n"
        "                for word in words:\n"
        "                    if word in text: print('FOUND in', table)\n"
        "print('searched', len(tables))\n"
    )
    assert "searched" in found
    assert "FOUND" not in found
    logs = list(service.folder.rglob("*.log"))
    assert logs
    for path in logs:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert secret not in text, path
        assert PASSWORD not in text, path
    assert requests.get(f"{service.issuer}/jwks", timeout=20).ok
