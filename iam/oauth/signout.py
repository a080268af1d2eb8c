"""From "sign me out" to the last page: what the browser carries, where it goes, and which applications know.

A browser carries two signed values, each for a short while: a wish (what an application asked for, checked, before
anybody signed out) and a farewell (which session ended here, and where to go). The second is bound to the browser
that signed out, because it shows the names of applications that a person used.
Spec: OIDC RP-Initiated Logout §2, §3; OIDC Front-Channel Logout §2, §3; docs/adr/0033.
"""

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare

from iam.accounts import cookies
from iam.accounts.models import LoginSession

from . import outbox
from .models import Client
from .outbox import Progress
from .protocol.logout_token import front_channel_address

WISH_SALT = "iam.oauth.logout-return"
WISH_SECONDS = 1800
FAREWELL_SALT = "iam.oauth.farewell"
FAREWELL_SECONDS = 900
# How long a page may wait for applications to be told, and how many pages of a process may at once: whoever waits
# keeps a thread of a worker, and receivers that are away must not keep all of them (F15).
WAIT_SECONDS = 2.0
WAITING_MAX = 2
_LOOK_EVERY = 0.1
_places = threading.BoundedSemaphore(WAITING_MAX)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an application asked for: where to return to, in which languages to ask.

    `session` is the one that a valid hint proved to be the application's own; None without such proof.
    """

    return_to: str = ""
    ui_locales: tuple[str, ...] = ()
    session: UUID | None = None


def seal_wish(wish: Wish) -> str:
    """Return a wish as text for an address, "" when there is none."""
    if wish == Wish():
        return ""
    session = wish.session.hex if wish.session else ""
    return signing.dumps([wish.return_to, list(wish.ui_locales), session], salt=WISH_SALT, compress=True)


def read_wish(sealed: str) -> Wish:
    """Read a wish back; one that is not ours, or too old, is none."""
    try:
        found = signing.loads(sealed, salt=WISH_SALT, max_age=WISH_SECONDS) if sealed else None
        return Wish(found[0], tuple(found[1]), UUID(hex=found[2]) if found[2] else None) if found else Wish()
    except (signing.BadSignature, ValueError):  # ValueError: what was to be decompressed is no such thing
        return Wish()


@dataclass(frozen=True, slots=True)
class Farewell:
    """A session that ended in this browser, None if there was none, and what its last page needs.

    `but` is the client that asked for the end with proof: it knows.
    """

    session: UUID | None
    return_to: str = ""
    language: str = ""
    ui_locales: tuple[str, ...] = ()
    but: str = ""


def _mark(browser: str) -> str:
    return hashlib.sha256(f"farewell {browser}".encode()).hexdigest()[:32]


def _seal_farewell(farewell: Farewell, browser: str) -> str:
    parts: list[Any] = [  # Any: JSON
        farewell.session.hex if farewell.session else "", farewell.return_to, farewell.language, list(farewell.ui_locales), farewell.but,
        _mark(browser),
    ]  # fmt: skip
    return signing.dumps(parts, salt=FAREWELL_SALT, compress=True)


def read_farewell(sealed: str, browser: str) -> Farewell | None:
    """Read a farewell of this browser; None for another's, for one that is not ours, and when it is too old."""
    try:
        session, return_to, language, locales, but, mark = signing.loads(
            sealed, salt=FAREWELL_SALT, max_age=FAREWELL_SECONDS
        )
    except (signing.BadSignature, ValueError):
        return None
    if not constant_time_compare(mark, _mark(browser)):
        return None
    return Farewell(UUID(hex=session) if session else None, return_to, language, tuple(locales), but)


# -- after the end ----------------------------------------------------------------------------------------------


def leave(
    http: HttpRequest,
    session: UUID | None,
    *,
    return_to: str = "",
    ui_locales: tuple[str, ...] = (),
    but: str = "",
) -> HttpResponse:
    """Send a browser on after its session ended (None: there was none), and make it forget the session.

    Where it wants to return to, at once, unless an application must be told; else to the page that says who knows,
    in the language of the person who just left.
    """
    if return_to and (session is None or not outbox.is_anyone_to_tell(session, but)):
        response = HttpResponseRedirect(reverse("portal:signed_out"), status=303)
        response["Location"] = return_to  # any scheme that was registered, a private one too
    elif session is None and not ui_locales:
        response = HttpResponseRedirect(reverse("portal:signed_out"), status=303)
    else:
        browser = cookies.browser_of(http)
        language = LoginSession.objects.get(pk=session).user.language if session else ""
        farewell = Farewell(session, return_to, language, ui_locales, but)
        response = HttpResponseRedirect(signed_out_page(_seal_farewell(farewell, browser)), status=303)
        cookies.set_browser(response, browser)
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    cookies.end_session(response)
    return response


def signed_out_page(sealed: str, look: int = 0) -> str:
    """Return the address of the signed-out page, seen for the `look`-th time."""
    query = {"h": sealed, **({"look": str(look)} if look else {})}
    return f"{reverse('portal:signed_out')}?{urlencode(query)}"


def front_channels(farewell: Farewell) -> tuple[str, ...]:
    """Return the addresses that the browser itself must load, one an application. Spec: Front-Channel Logout §2."""
    joined = outbox.front_channel_clients(farewell.session) if farewell.session else ()
    return tuple(
        front_channel_address(uri, settings.IAM_ISSUER, sid)
        for client_id, uri, sid in joined
        if client_id != farewell.but
    )


# -- the page ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """The names, in the page's language, of applications that do not know yet."""

    being_told: tuple[str, ...]
    not_reached: tuple[str, ...]

    @property
    def all_know(self) -> bool:
        """Say whether nobody is left to tell."""
        return not self.being_told and not self.not_reached


def report(farewell: Farewell, language: str, wait_seconds: float = 0.0) -> Report:
    """Return who does not know yet; wait a little for the first attempts to end, if a place to wait is free."""
    deadline = time.monotonic() + wait_seconds
    tellings = _tellings(farewell)
    if wait_seconds and _places.acquire(blocking=False):
        try:
            while (
                any(one.progress is Progress.BEING_TOLD for one in tellings) and time.monotonic() < deadline
            ):
                time.sleep(_LOOK_EVERY)
                tellings = _tellings(farewell)
        finally:
            _places.release()
    names = _names({one.client_id for one in tellings}, language)

    def those(progress: Progress) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names[one.client_id] for one in tellings if one.progress is progress))

    return Report(those(Progress.BEING_TOLD), those(Progress.NOT_REACHED))


def _tellings(farewell: Farewell) -> tuple[outbox.Telling, ...]:
    joined = outbox.tellings(farewell.session) if farewell.session else ()
    return tuple(one for one in joined if one.client_id != farewell.but)


def _names(client_ids: set[str], language: str) -> dict[str, str]:
    """Return what people call these clients: the application's name, else the client's own."""
    clients = Client.objects.filter(client_id__in=client_ids).select_related("application")
    return {
        client.client_id: client.application.name_in(language) if client.application else client.name
        for client in clients
    }
