"""Which reader a directory needs."""

from typing import assert_never

from directory.active_directory import ActiveDirectoryReader
from directory.changes import Reader
from directory.config import Flavour, Source
from directory.ds389 import DS389
from directory.openldap import SyncReader
from directory.servers import Gateway


def open_reader(source: Source, gateway: Gateway | None = None) -> Reader:
    """Return the reader of a directory; connects at the first question.

    Raises ValueError when the source cannot be followed.
    """
    match source.flavour:
        case Flavour.OPENLDAP:
            return SyncReader(source, gateway)
        case Flavour.DS389:
            return SyncReader(source, gateway, DS389)
        case Flavour.ACTIVE_DIRECTORY:
            return ActiveDirectoryReader(source, gateway)
        case _:
            assert_never(source.flavour)
