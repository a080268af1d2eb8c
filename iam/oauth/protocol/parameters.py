"""Read parameters from a query or a form: each at most once, real text, bounded. Pure.

Spec: RFC 6749 §3.1, §3.2 ("Request and response parameters MUST NOT be included more than once"), but for those that
an extension lets be repeated: RFC 8707 §2, RFC 8693 §2.1.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from .errors import OAuthError
from .messages import PARAMETERS_COUNT_MAX, PARAMETERS_SIZE_MAX, VALUE_LENGTH_MAX, Request
from .text import UNUSABLE

# These may be given several times; read them with `every`.
REPEATABLE = frozenset({"resource", "audience"})


class Parameters(Mapping[str, str]):
    """The parameters of one request; `doubled` and `unusable` name those that must be refused.

    An empty value counts as absent. Spec: RFC 6749 §3.1 ("sent without a value MUST be treated as omitted").
    A repeatable parameter is read with `every`; as a mapping one sees the first of them.
    """

    __slots__ = ("_repeated", "_values", "doubled", "unusable")

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        values: dict[str, str] = {}
        repeated: dict[str, list[str]] = {}
        doubled: set[str] = set()
        unusable: set[str] = set()
        for name, value in pairs:
            if name in REPEATABLE:
                if value:
                    repeated.setdefault(name, []).append(value)
            elif name in values:
                doubled.add(name)
            if len(value) > VALUE_LENGTH_MAX:
                unusable.add(name)
            values.setdefault(name, value)
        if UNUSABLE.search("".join([text for pair in pairs for text in pair])):
            unusable |= {name for name, value in pairs if UNUSABLE.search(name) or UNUSABLE.search(value)}
        self._values = {name: value for name, value in values.items() if value}
        for name, found in repeated.items():
            self._values[name] = found[0]
        self._repeated = repeated
        self.doubled = frozenset(doubled)
        self.unusable = frozenset(unusable)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def pairs(self) -> list[tuple[str, str]]:
        """Return names and values, a repeated one as often as it was given, to be kept and read back."""
        single = [(name, value) for name, value in self._values.items() if name not in REPEATABLE]
        return single + [(name, value) for name, values in self._repeated.items() for value in values]

    def every(self, name: str) -> tuple[str, ...]:
        """Return every value of a repeatable parameter, in order. Raises: KeyError for a name that is none."""
        if name not in REPEATABLE:
            raise KeyError(name)
        return tuple(self._repeated.get(name, ()))

    def require_clean(self, *only: str) -> None:
        """Refuse doubled and unusable parameters: all of them, or those named.

        Raises: OAuthError invalid_request.
        """
        doubled = self.doubled.intersection(only) if only else self.doubled
        unusable = self.unusable.intersection(only) if only else self.unusable
        if doubled:
            raise OAuthError(
                "invalid_request", f"Parameter given twice: {_names(doubled)}.", reason="doubled"
            )
        if unusable:
            raise OAuthError(
                "invalid_request",
                f"Parameter too long or not valid UTF-8 text: {_names(unusable)}.",
                reason="unusable",
            )


def _names(names: frozenset[str]) -> str:
    """Name at most a few, cut: they came from outside."""
    return ", ".join(sorted(name[:40] for name in names)[:3])


def parse(text: str) -> Parameters:
    """Read `application/x-www-form-urlencoded` text.

    Raises: OAuthError invalid_request when there is too much of it.
    """
    if len(text) > PARAMETERS_SIZE_MAX or text.count("&") >= PARAMETERS_COUNT_MAX:
        raise OAuthError("invalid_request", "The request is too large.", reason="too_large")
    return Parameters(_pairs(text))


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return names and values; where nothing is escaped, without looking for it in each. Spec: WHATWG URL §5.1."""
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True, errors="replace")
    found = []
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            found.append((name, value))
    return found


def parse_form(request: Request) -> Parameters:
    """Read the body of a POST.

    Raises: OAuthError invalid_request: wrong method (405), wrong content type, too large.
    """
    if request.method != "POST":
        raise OAuthError("invalid_request", "Use POST.", status=405, reason="method")
    if request.content_type.split(";", 1)[0].strip().lower() != "application/x-www-form-urlencoded":
        raise OAuthError(
            "invalid_request", "Use Content-Type application/x-www-form-urlencoded.", reason="content_type"
        )
    if len(request.body) > PARAMETERS_SIZE_MAX:
        raise OAuthError("invalid_request", "The request is too large.", reason="too_large")
    return parse(request.body.decode("utf-8", errors="replace"))


def words(text: str) -> tuple[str, ...]:
    """Split a space-delimited list, in order, each word once. Spec: RFC 6749 §3.3."""
    return tuple(dict.fromkeys(word for word in text.split(" ") if word))
