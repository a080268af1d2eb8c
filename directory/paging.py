"""Whole readings in pages, of servers that cannot stream their changes. Pure.

A reading is whole only when the server ended it with success and an empty paging cookie: an ending alone looks
the same after a thousand of ten thousand entries. Spec: RFC 2696.
"""

from collections.abc import Callable, Iterator

from directory import ber
from directory.changes import Change, Completeness, Ending
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason
from directory.syncrepl import raise_for_result

CONTROL = "1.2.840.113556.1.4.319"
PAGE_SIZE = 1000  # what Active Directory allows at most by default

PAGES_MAX = 100_000  # a server that turns in a circle is stopped


def build_request(cookie: bytes, size: int = PAGE_SIZE) -> bytes:
    """Write the value of the request control; the first page has an empty cookie."""
    return ber.write(ber.SEQUENCE, ber.write_number(size), ber.write(ber.OCTETS, cookie))


def read_cookie(value: bytes) -> bytes:
    """Read the cookie of the answer's control, empty after the last page; raises BERError."""
    parts = ber.read_sequence(value)
    if [part.tag for part in parts] != [ber.INTEGER, ber.OCTETS]:
        raise ber.BERError("a page's ending has not its two parts")
    return parts[1].body


class PagedReading:
    """Every entry, page by page: iterate once, then ask for the ending.

    `ask` sends the search for one page and returns its messages; `build` makes a change of an entry. Raises
    DirectoryError and BERError.
    """

    def __init__(
        self,
        ask: Callable[[bytes], Iterator[ber.Message]],
        build: Callable[[RawEntry], Change | None],
        *,
        may_be_empty: bool = False,
    ) -> None:
        self._ask, self._build, self._may_be_empty = ask, build, may_be_empty
        self._is_whole = False

    def __iter__(self) -> Iterator[Change]:
        """Yield the entries."""
        cookie, count = b"", 0
        for _ in range(PAGES_MAX):
            for message in self._ask(cookie):
                if message.operation == ber.SEARCH_ENTRY:
                    count += 1
                    change = self._build(ber.read_entry(message.body))
                    if change is not None:
                        yield change
                elif message.operation == ber.SEARCH_DONE:
                    break
                elif message.operation != ber.SEARCH_REFERENCE:
                    raise ber.BERError("an operation that belongs to no search")
            else:
                raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading broke off")
            raise_for_result(ber.read_result(message.body), has_cookie=False)
            controls = ber.read_controls(message.controls)
            if CONTROL not in controls:
                raise DirectoryError(
                    UnavailableReason.NONSENSE, "a page has no ending that says whether more come"
                )
            cookie = read_cookie(controls[CONTROL])
            if not cookie:
                break
        else:
            raise DirectoryError(UnavailableReason.NONSENSE, "the pages do not end")
        if not count and not self._may_be_empty:
            raise DirectoryError(UnavailableReason.NONSENSE, "the directory shows no entry at all")
        self._is_whole = True

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not."""
        if not self._is_whole:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading did not end")
        return Ending(Completeness.COMPLETE, b"")
