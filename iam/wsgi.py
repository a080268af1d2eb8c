"""The entry point of a server: `iam.wsgi:application`. Importing this starts nothing; asking for it does."""

import os
from functools import cache
from typing import Any, cast

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iam.settings")


class Utf8Request(WSGIRequest):
    """A request whose query and form are UTF-8, whatever its Content-Type claims.

    Django decodes both with the codec that a client names, before any middleware runs: `charset=hex`, which is
    no encoding of text, ends in a bare 500. Spec: WHATWG URL §5.1 (forms are UTF-8)
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:  # Any: a WSGI environment
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:  # parameters that cannot be read (RFC 2231): a content type that no form has
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    """Django's handler with our request."""

    request_class = Utf8Request


django.setup(set_prefix=False)

from iam.oauth.fastpath import Application, FastPath  # noqa: E402 -- models can be imported only now


def start() -> FastPath:
    """Return the application, once settings and signing keys are found sound. Raises: SystemExit with the reasons."""
    from iam.checks import require_sound
    from iam.oauth import sightings

    require_sound()
    sightings.serve()
    return FastPath(cast("Application", Handler()))


@cache
def __getattr__(name: str) -> FastPath:
    if name == "application":
        return start()
    raise AttributeError(name)
