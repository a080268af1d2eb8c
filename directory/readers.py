"""Which reader a directory needs."""

from typing import assert_never

from directory.changes import Reader
from directory.config import Flavour, Source
from directory.ds389 import DS389
from directory.openldap import SyncReader
from directory.servers import Gateway


def open_reader(source: Source, gateway: Gateway | None = None) -> Reader:
    """Return the reader of a directory; connects at the first question.

    Raises ValueError when the source cannot be followed, NotImplementedError for a product not built yet.
    """
    match source.flavour:
        case Flavour.OPENLDAP:
            return SyncReader(source, gateway)
        case Flavour.DS389:
            return SyncReader(source, gateway, DS389)
        case Flavour.ACTIVE_DIRECTORY:
            raise NotImplementedError(f"Directory {source.name}: {source.flavour} cannot be followed yet.")
        case _:
            assert_never(source.flavour)
