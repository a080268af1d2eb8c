"""Signing out over HTTP: by an application and by hand, the applications that learn of it, and the page that says which do not."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from tests.servers.organisation import CLIENT_SECRET
from tests.servers.person import Page, Person
from tests.servers.receivers import Receiver, away, receiving
from tests.servers.service import Service

RP_INITIATED, FRONT_CHANNEL = "OIDC RP-Initiated Logout", "OIDC Front-Channel Logout"
LANGUAGES = ["ar", "fr", "en"]
SECONDS = 30
BYE = "http://127.0.0.1:9900/bye"
CALLBACK = "http://127.0.0.1:9950/callback"
LOGIN = "plain27"


@dataclass
class House:
    """Applications beside test-web, each a client; those of `correspondence` and `finance` have names in three languages."""

    service: Service
    mail: Receiver
    slow: Receiver
    names: dict[str, str] = field(default_factory=dict)

    def enter(self, *clients: str, language: str = "en") -> tuple[Person, str]:
        """Sign somebody in at test-web and then these; return the browser and test-web's ID token."""
        person = Person(self.service.issuer, LOGIN, language=language)
        hint = person.tokens(person.sign_in())["id_token"]
        for client in clients:
            answer = person.open(person.request(client, CALLBACK, scope="openid"))
            assert isinstance(answer, dict), answer.text
            person.tokens(answer, client, CALLBACK)
        return person, hint

    def sign_out(self, person: Person) -> Page:
        """Sign out by hand; return the page that comes of it."""
        asked = person.open(self.service.issuer + "/sign-out")
        assert isinstance(asked, Page)
        page = person.submit(asked, "to")
        assert isinstance(page, Page)
        return page


@pytest.fixture(scope="module")
def house(service: Service) -> Iterator[House]:
    with ExitStack() as stack:
        mail, slow = stack.enter_context(receiving()), stack.enter_context(receiving(seconds=25))
        uris = {
            "out-mail": ("correspondence", {"backchannel_logout_uri": mail.url}),
            "out-slow": (None, {"backchannel_logout_uri": slow.url, "client_name": "Slow Archive"}),
            "out-away": ("demo-away", {"backchannel_logout_uri": away(), "client_name": "Away <b>Wiki</b>"}),
            "out-old": (
                None,
                {"frontchannel_logout_uri": "http://127.0.0.1:9950/out?x=1", "client_name": "Old"},
            ),
        }
        service.python(
            "from iam.access.models import Application\n"
            "Application.objects.get_or_create(code='demo-away', name_ar='الويكي البعيد', name_fr='Wiki lointain',"
            " name_en='Far & away wiki')"
        )
        clients = [
            {
                "client_id": name, "client_secret": CLIENT_SECRET, "redirect_uris": [CALLBACK], "trusted": True,
                "scope": "openid", **({"application": application} if application else {}), **more,
            }
            for name, (application, more) in uris.items()
        ]  # fmt: skip
        file = service.folder / "out.json"
        file.write_text(json.dumps(clients))
        service.manage("client", "apply", str(file))
        yield House(service, mail, slow)


def listed(page: Page, name: str) -> list[str]:
    """Return the entries of one of the page's lists."""
    found = re.search(rf'id="{name}">(.*?)</ul>', page.response.text, re.DOTALL)
    return re.findall(r"<bdi>(.*?)</bdi>", found.group(1)) if found else []


def refresh_of(page: Page) -> str:
    found = re.search(r'http-equiv="refresh" content="\d+;url=([^"]+)"', page.response.text)
    return found.group(1).replace("&amp;", "&") if found else ""


def logout_address(service: Service, **parameters: str) -> str:
    return f"{service.issuer}/logout?{urlencode(parameters)}"


# -- everybody knows ----------------------------------------------------------------------------------------------


@pytest.mark.spec(RP_INITIATED, "3", "the browser returns to the application after the sign-out")
@pytest.mark.rules("rp-logout/2/tell-first")
def test_us03_application_signs_out_the_others_know_and_the_browser_returns(house: House) -> None:
    person, hint = house.enter("out-mail")
    before = len(house.mail.requests)

    answer = person.open(
        logout_address(house.service, id_token_hint=hint, post_logout_redirect_uri=BYE, state="a b")
    )

    assert answer == {"state": "a b"}
    assert len(house.mail.requests) == before + 1
    assert person.open(person.request(prompt="none"))["error"] == "login_required"


def test_us03_signed_out_page_names_nobody_when_all_know(house: House) -> None:
    person, _ = house.enter("out-mail")
    before = len(house.mail.requests)

    page = house.sign_out(person)

    assert (listed(page, "being-told"), listed(page, "not-reached"), refresh_of(page)) == ([], [], "")
    assert len(house.mail.requests) == before + 1


def test_application_that_signs_out_alone_returns_at_once(house: House) -> None:
    person, hint = house.enter()

    response = person.browser.get(
        logout_address(house.service, id_token_hint=hint, post_logout_redirect_uri=BYE),
        allow_redirects=False,
        timeout=SECONDS,
    )

    assert (response.status_code, response.headers["Location"]) == (303, BYE)


# -- somebody does not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "name", "direction"),
    [("ar", "الويكي البعيد", "rtl"), ("fr", "Wiki lointain", "ltr"), ("en", "Far &amp; away wiki", "ltr")],
)
def test_us03_application_that_cannot_be_reached_is_named(
    house: House, language: str, name: str, direction: str
) -> None:
    person, _ = house.enter("out-away", "out-mail", language=language)
    person.browser.cookies.set("iam-lang", language)

    page = house.sign_out(person)

    assert listed(page, "not-reached") == [name]
    assert listed(page, "being-told") == []
    assert (page.attributes["lang"], page.attributes["dir"]) == (language, direction)


def test_us03_application_that_takes_its_time_is_still_being_told(house: House) -> None:
    person, _ = house.enter("out-slow")
    began = time.monotonic()

    page = house.sign_out(person)

    assert time.monotonic() - began < 8  # the page itself waits two seconds
    assert listed(page, "being-told") == ["Slow Archive"]
    seen = 0
    while refresh_of(page):
        assert seen < 6
        page, seen = person.open(house.service.issuer + refresh_of(page)), seen + 1
        assert isinstance(page, Page)
        time.sleep(1)
    assert listed(page, "not-reached") == ["Slow Archive"]


@pytest.mark.rules("rp-logout/2/tell-first")
def test_us03_browser_does_not_return_before_the_person_was_told(house: House) -> None:
    person, hint = house.enter("out-away")

    page = person.open(logout_address(house.service, id_token_hint=hint, post_logout_redirect_uri=BYE))

    assert isinstance(page, Page)
    assert listed(page, "not-reached") == ["Far &amp; away wiki"]
    assert f'href="{BYE}"' in page.response.text
    assert refresh_of(page) == ""


# -- whose page it is ---------------------------------------------------------------------------------------------


def test_signed_out_page_of_another_browser_shows_nothing(house: House) -> None:
    person, _ = house.enter("out-away")
    address = house.sign_out(person).response.url
    assert "?h=" in address
    other, _ = house.enter()

    for browser in (requests.Session(), other.browser):
        page = browser.get(address, timeout=SECONDS)
        assert page.status_code == 200
        assert "not-reached" not in page.text
        assert "wiki" not in page.text.lower()
    assert person.browser.get(address, timeout=SECONDS).text.count("not-reached") == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed[:-1] + ("A" if sealed[-1] != "A" else "B"),
        lambda sealed: sealed[1:],
        lambda sealed: "." + sealed,
        lambda sealed: "x" * 20_000,
        lambda sealed: sealed.split(":")[0],
        lambda sealed: "",
        lambda sealed: "::",
        lambda sealed: "\0",
    ],
)
def test_a40_signed_out_page_with_a_forged_handle_shows_nothing(
    house: House, spoil: Callable[[str], str]
) -> None:
    person, _ = house.enter("out-away")
    address = urlsplit(house.sign_out(person).response.url)
    sealed = dict(pair.split("=", 1) for pair in address.query.split("&"))["h"].replace("%3A", ":")

    response = person.browser.get(
        f"{house.service.issuer}/signed-out", params={"h": spoil(sealed)}, timeout=SECONDS
    )

    assert response.status_code in {200, 400}
    assert "not-reached" not in response.text


@pytest.mark.parametrize("look", ["-1", "99", "x", "1e9", "٣", "9" * 5000, ""])
def test_signed_out_page_with_a_strange_count_is_the_page(house: House, look: str) -> None:
    person, _ = house.enter("out-mail")
    address = house.sign_out(person).response.url

    response = person.browser.get(f"{address}&{urlencode({'look': look})}", timeout=SECONDS)

    assert response.status_code in {200, 400}


# -- forms of other sites -----------------------------------------------------------------------------------------


@pytest.mark.spec(RP_INITIATED, "2", "the request is taken by POST")
@pytest.mark.rules("rp-logout/2/post")
def test_a47_post_of_an_application_signs_out_though_it_brings_no_cookie(house: House) -> None:
    """SameSite keeps our cookies from another site's form; the proof goes on with the browser."""
    person, hint = house.enter()
    form = {"id_token_hint": hint, "post_logout_redirect_uri": BYE, "state": "s"}

    posted = requests.post(
        f"{house.service.issuer}/logout", data=form, allow_redirects=False, timeout=SECONDS
    )
    assert posted.status_code == 303
    assert hint not in posted.headers["Location"]
    answer = person.open(house.service.issuer + posted.headers["Location"])

    assert answer == {"state": "s"}
    assert person.open(person.request(prompt="none"))["error"] == "login_required"


@pytest.mark.rules("rp-logout/2/hint-other-session")
def test_a47_post_with_the_hint_of_another_session_only_asks(house: House) -> None:
    _, foreign = house.enter()
    person, _ = house.enter()

    posted = requests.post(
        f"{house.service.issuer}/logout",
        data={"id_token_hint": foreign},
        allow_redirects=False,
        timeout=SECONDS,
    )
    asked = person.open(house.service.issuer + posted.headers["Location"])

    assert isinstance(asked, Page)
    assert asked.has("to")
    assert "code" in person.open(person.request(prompt="none"))


def test_a47_post_where_nobody_is_signed_in_returns(house: House) -> None:
    person, hint = house.enter()
    house.sign_out(person)

    answer = requests.post(
        f"{house.service.issuer}/logout",
        data={"id_token_hint": hint, "post_logout_redirect_uri": BYE},
        allow_redirects=False,
        timeout=SECONDS,
    )

    assert person.open(house.service.issuer + answer.headers["Location"]) == {}


# -- hints --------------------------------------------------------------------------------------------------------


@pytest.mark.spec(RP_INITIATED, "2", "logout_hint says who is meant")
@pytest.mark.parametrize(
    ("named", "asks"), [(LOGIN, False), (LOGIN.upper(), False), ("amina", True), ("x" * 8000, True)]
)
@pytest.mark.rules("rp-logout/2/ask-other-person")
def test_logout_hint_that_names_somebody_else_makes_us_ask(house: House, named: str, asks: bool) -> None:
    person, hint = house.enter()

    answer = person.open(
        logout_address(house.service, id_token_hint=hint, logout_hint=named, post_logout_redirect_uri=BYE)
    )

    assert isinstance(answer, Page) is asks


@pytest.mark.spec(RP_INITIATED, "2", "ui_locales is the language of the question")
@pytest.mark.parametrize(("asked", "language"), [("fr-CA en", "fr"), ("de ar", "ar"), ("xx", "en")])
@pytest.mark.rules("rp-logout/2/ui-locales")
def test_us04_ui_locales_is_the_language_of_the_question_and_of_the_end(
    house: House, asked: str, language: str
) -> None:
    person = Person(
        house.service.issuer, LOGIN, language="en"
    )  # nobody is signed in: no profile to come first

    end = person.open(logout_address(house.service, client_id="test-web", ui_locales=asked))
    posted = requests.post(
        f"{house.service.issuer}/logout",
        data={"ui_locales": asked, "client_id": "test-web"},
        allow_redirects=False,
        timeout=SECONDS,
    )
    other = person.open(house.service.issuer + posted.headers["Location"])

    assert isinstance(end, Page)
    assert isinstance(other, Page)
    assert (end.attributes["lang"], other.attributes["lang"]) == (language, language)


def test_us04_signed_out_page_speaks_the_language_of_who_left(house: House) -> None:
    person, _ = house.enter(language="fr")  # the profile says English

    assert house.sign_out(person).attributes["lang"] == "en"


@pytest.mark.spec(RP_INITIATED, "3", "an address that is not registered exactly is no redirect")
@pytest.mark.parametrize("address", ["http://127.0.0.1:9901/bye", BYE + "/", BYE + "?x=1", BYE.upper()])
@pytest.mark.rules("rp-logout/3/exact", "rp-logout/3.1/registration")
def test_a02_return_address_is_compared_exactly(house: House, address: str) -> None:
    person, hint = house.enter()

    page = person.open(logout_address(house.service, id_token_hint=hint, post_logout_redirect_uri=address))

    assert isinstance(page, Page)
    assert page.response.status_code == 400
    assert "code" in person.open(person.request(prompt="none"))


# -- front channel ------------------------------------------------------------------------------------------------


@pytest.mark.spec(FRONT_CHANNEL, "3", "the page loads each application's address in a hidden frame")
@pytest.mark.rules("front-logout/2/frame", "front-logout/3/remember")
def test_front_channel_page_frames_the_old_application_and_nothing_else(house: House) -> None:
    person, _ = house.enter("out-old")

    page = house.sign_out(person)

    (frame,) = re.findall(r'<iframe hidden src="([^"]+)"', page.response.text)
    assert frame.startswith("http://127.0.0.1:9950/out?x=1&amp;iss=")
    assert "&amp;sid=" in frame
    policy = page.response.headers["Content-Security-Policy"]
    assert re.findall(r"frame-src ([^;]+);", policy) == ["http://127.0.0.1:9950"]
    assert (
        "frame-src"
        not in person.browser.get(house.service.issuer + "/sign-out").headers["Content-Security-Policy"]
    )


@pytest.mark.spec(FRONT_CHANNEL, "3", "the page is shown before the browser returns")
def test_front_channel_page_is_shown_before_the_browser_returns(house: House) -> None:
    person, hint = house.enter("out-old")

    page = person.open(
        logout_address(house.service, id_token_hint=hint, post_logout_redirect_uri=BYE, state="z")
    )

    assert isinstance(page, Page)
    assert "<iframe" in page.response.text
    assert person.open(house.service.issuer + refresh_of(page)) == {"state": "z"}


# -- no thread is kept --------------------------------------------------------------------------------------------


def test_f15_pages_that_wait_do_not_keep_the_service_busy(house: House) -> None:
    """Forty people sign out of an application that hangs; everybody else is served at once."""
    waiting = [house.enter("out-slow")[0] for _ in range(2)]
    handles = [(house.sign_out(person).response.url, person) for person in waiting]

    def look(number: int) -> float:
        url, person = handles[number % len(handles)]
        began = time.monotonic()
        requests.get(
            url,
            headers={"Cookie": "; ".join(f"{k}={v}" for k, v in person.browser.cookies.items())},
            timeout=SECONDS,
        )
        return time.monotonic() - began

    with ThreadPoolExecutor(40) as crowd:
        looks = [crowd.submit(look, number) for number in range(40)]
        time.sleep(0.3)
        began = time.monotonic()
        answer = requests.get(house.service.issuer + "/jwks", timeout=SECONDS)
        took = time.monotonic() - began
        slowest = max(one.result() for one in looks)

    assert answer.status_code == 200
    assert took < 2
    assert slowest < 8


# -- sessions that nobody uses ------------------------------------------------------------------------------------


def test_session_that_idled_out_is_told_to_its_applications_within_a_minute(house: House) -> None:
    person, _ = house.enter("out-mail")
    before = len(house.mail.requests)
    house.service.python(
        "from datetime import timedelta\nfrom django.db.models import F\n"
        "from iam.accounts.models import LoginSession\nfrom iam.oauth.models import SessionClient\n"
        f"live = LoginSession.objects.filter(user__links__login={LOGIN!r}, ended_at=None)\n"
        "SessionClient.objects.filter(session__in=live).update(used_at=F('used_at') - timedelta(minutes=61))\n"
        "live.update(seen_at=F('seen_at') - timedelta(minutes=61))"
    )

    house.mail.wait_for(before + 1, seconds=60)

    assert person.open(person.request(prompt="none"))["error"] == "login_required"
