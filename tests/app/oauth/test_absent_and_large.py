"""What is not there cannot be attacked (A49), and what is large or made to cost is refused quickly (A65)."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from iam.accounts import cookies
from iam.oauth import engine
from iam.oauth.protocol import dpop, pkce, redirects, resource_uri
from iam.oauth.protocol.device import read_user_code
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ErrorPage, Interaction, Request, Response
from iam.oauth.protocol.parameters import parse

from .conftest import World, answer_of, claims_of

pytestmark = pytest.mark.django_db

OURS = Path(engine.__file__).parents[1]
SECONDS = 0.5  # of the processor: a hundredth of it on an idle machine; ten thousand times as much where a pattern explodes


def test_a49_no_frame_watches_sessions_and_nothing_is_posted_between_windows(world: World) -> None:
    """OIDC Session Management, whose frame can be flooded with messages, is not offered in any part."""
    world.sign_in()
    metadata = json.loads(world.ask(Request("GET", "/.well-known/openid-configuration")).body)
    answer = answer_of(world.authorize())
    tokens = world.tokens()

    assert not [name for name in metadata if "session_iframe" in name]
    assert "session_state" not in answer
    assert "session_state" not in claims_of(tokens["id_token"])
    assert not [path for path in (*engine.ENDPOINTS, *engine.NAMED) if "session" in path]


@pytest.mark.parametrize("kind", ["*.js", "*.html"])
def test_a49_no_page_of_ours_listens_to_other_windows(kind: str) -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in OURS.rglob(kind)}
    heard = re.compile(
        r"postMessage|onmessage|addEventListener\(\s*['\"]message|window\.opener|BroadcastChannel"
    )

    assert sources
    assert [path.name for path, text in sources.items() if heard.search(text)] == []


# -- large -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/authorize", "/logout"])
@pytest.mark.parametrize("count", [10_000, 200_000])
def test_a65_ten_thousand_parameters_in_an_address_are_refused_at_once(
    path: str, count: int, world: World
) -> None:
    query = urlencode([(f"p{number}", "x") for number in range(count)])

    begun = time.thread_time()
    answer = world.ask(Request("GET", path, query=query))

    assert isinstance(answer, ErrorPage)
    assert time.thread_time() - begun < 6 * SECONDS  # three doors look at it


@pytest.mark.parametrize("path", ["/token", "/par", "/introspect", "/revoke", "/device_authorization"])
def test_a65_ten_thousand_parameters_in_a_form_are_refused_at_once(path: str, world: World) -> None:
    form = {f"p{number}": "x" for number in range(10_000)}

    response = world.post(path, **form)

    assert response.status in {400, 401, 413}
    assert "error" in json.loads(response.body)


def test_a65_huge_and_many_cookies_are_nobodys_session(world: World) -> None:
    world.sign_in()
    query = urlencode(world.wanted())
    for jar in (
        {cookies.SESSION: "x" * 1_000_000},
        {cookies.SESSION: "x" * 4096, **{f"c{number}": "y" for number in range(5_000)}},
        {cookies.SESSION: "\ud800" + "x" * 10},
    ):
        answer = engine.handle(Request("GET", "/authorize", query=query, cookies=jar), _state(), world.now)
        assert isinstance(answer, Interaction)
        assert answer.reason == "none"


def _state() -> object:
    from iam.oauth import state

    state.forget()
    return state.DatabaseState()


def _refused(check: Callable[[], object]) -> object:
    try:
        return check()
    except OAuthError:
        return False


LONG = 100_000
EXPLODING: dict[str, Callable[[], object]] = {
    "redirect, slashes": lambda: redirects.is_registered(
        "http://127.0.0.1:5000/" + "/" * LONG + "#", ("http://127.0.0.1/cb",)
    ),
    "redirect, ports": lambda: redirects.is_registered(
        "http://127.0.0.1:" + "1" * LONG, ("http://127.0.0.1/cb",)
    ),
    "redirect, registration": lambda: redirects.problem_with("https://" + "a." * LONG) == "",
    "dpop address, escapes": lambda: dpop.is_same_address(
        "https://a/" + "%41" * 1_300, ["https://a/token"]
    ),
    "dpop address, no end": lambda: dpop.is_same_address("http://" + "a" * LONG + "?" * LONG, ["https://a"]),
    "verifier": lambda: _refused(lambda: pkce.challenge_of("a" * LONG + "!")),
    "challenge": lambda: _refused(lambda: pkce.check_challenge("a" * LONG + "=", "S256")),
    "resource": lambda: resource_uri.problem_with_resource("https://a/" + "a/" * LONG + " ") == "",
    "user code": lambda: bool(read_user_code("B-" * LONG)),
    "query, signs": lambda: _refused(lambda: parse("&=" * LONG)) and False,
    "query, escapes": lambda: _refused(lambda: parse("a=" + "%41" * LONG)) and False,
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLODING)
def test_a65_text_that_is_made_to_cost_is_judged_in_line_with_its_length(name: str) -> None:
    begun = time.thread_time()
    found = EXPLODING[name]()

    assert not found
    assert time.thread_time() - begun < SECONDS


def test_a65_names_that_would_fall_together_in_a_table_are_refused_by_their_number(world: World) -> None:
    """Python's hashes are seeded; what bounds a flood of any kind is the number of names."""
    response = world.post("/token", **{f"\x00{number}"[1:] + "=": "" for number in range(3_000)})

    assert isinstance(response, Response)
    assert response.status in {400, 401, 413}
