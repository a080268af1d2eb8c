"""The smallest WSGI application: what granian costs when nothing is asked of it."""

from collections.abc import Callable, Iterable

StartResponse = Callable[[str, list[tuple[str, str]]], object]


def application(environ: dict[str, object], start_response: StartResponse) -> Iterable[bytes]:
    """Answer with nothing."""
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
