"""What every page of ours shows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import get_language

from iam.audit.facts import RequestFacts


def page(request: HttpRequest) -> dict[str, Any]:  # Any: a template's context
    """Return language, direction, where the language form returns to, and the reference number."""
    language = get_language() or settings.LANGUAGE_CODE
    facts = getattr(request, "facts", None)
    return {
        "lang": language,
        "dir": "rtl" if language == "ar" else "ltr",
        "languages": settings.LANGUAGES,
        "back": request.get_full_path() if request.method == "GET" else request.path,
        "reference": facts.request_id if isinstance(facts, RequestFacts) else "",
    }
