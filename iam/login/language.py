"""Which language a page speaks.

Order: explicit choice, profile, the application's `ui_locales`, the browser, the installation's default (Arabic).
"""

from collections.abc import Iterable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.translation.trans_real import parse_accept_lang_header

LANGUAGES = frozenset(code for code, _ in settings.LANGUAGES)


def choose_language(explicit: str, profile: str, asked: Iterable[str], accept: str) -> str:
    """Return the first of our languages that somebody asked for. Never raises, whatever the header holds."""
    for code in (explicit, profile, *asked):
        if code in LANGUAGES:
            return code
    for wish, quality in parse_accept_lang_header(accept[:500].lower()):
        primary = wish.split("-", 1)[0]
        if quality > 0 and primary in LANGUAGES:
            return primary
    return settings.LANGUAGE_CODE


def settle_language(request: HttpRequest, profile: str = "", asked: tuple[str, ...] = ()) -> str:
    """Activate the language of a page and return it; a choice made in this very request comes first."""
    chosen = choose_language(
        getattr(request, "language_chosen", "") or request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, ""),
        profile,
        asked,
        request.META.get("HTTP_ACCEPT_LANGUAGE", ""),
    )
    translation.activate(chosen)
    return chosen


def keep_choice(response: HttpResponse, chosen: str) -> None:
    """Remember an explicit choice for a year; anything that is none of our languages is no choice."""
    if chosen in LANGUAGES:
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            chosen,
            max_age=31_536_000,
            secure=settings.IAM_HTTPS,
            httponly=True,
            samesite="Lax",
        )
