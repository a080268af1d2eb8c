"""The sector of a pairwise client, proved when the client is saved: whoever has the address lists whom it stands for.

The document is read before a transaction begins, because reading may take seconds, and judged inside it.
Spec: OIDC Core §8.1, OIDC Registration §5; docs/adr/0048.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from . import outbound
from .protocol.fields import MetadataError
from .protocol.registration import ClientMetadata
from .protocol.subjects import problem_with_sector

# What was read at an address, or why nothing was.
Documents = Mapping[str, Any]  # Any: JSON from outside, or outbound.Refused
NO_DOCUMENTS: Documents = {}


def read_documents(addresses: Iterable[str]) -> Documents:
    """Read the documents of sectors, each address once; one that cannot be read is no error yet."""
    return {address: _read(address) for address in set(addresses)}


def _read(address: str) -> Any:  # Any: as above
    try:
        return outbound.get_json(address)
    except outbound.Refused as problem:
        return problem


def check_sector(metadata: ClientMetadata, documents: Documents) -> None:
    """Refuse a client whose redirect addresses its sector's document does not list.

    Without this anybody could name somebody else's sector and learn whom that one's people are.
    Raises: MetadataError, also when the document could not be read.
    """
    uri = metadata.options.sector_identifier_uri
    if not uri:
        return
    if uri not in documents:  # the client was another one a moment ago
        raise MetadataError("sector_identifier_uri: the client was changed meanwhile; try again")
    listed = documents[uri]
    if isinstance(listed, outbound.Refused):
        raise MetadataError(f"sector_identifier_uri: {str(listed).rstrip('.')}") from listed
    problem_found = problem_with_sector(listed, metadata.redirect_uris)
    if problem_found:
        raise MetadataError(f"sector_identifier_uri: {problem_found}")
