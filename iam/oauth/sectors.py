"""The sector of a pairwise client, proved when the client is saved: whoever has the address lists whom it stands for.

Spec: OIDC Core §8.1, OIDC Registration §5.
"""

from . import outbound
from .protocol.fields import MetadataError
from .protocol.registration import ClientMetadata
from .protocol.subjects import problem_with_sector


def check_sector(metadata: ClientMetadata) -> None:
    """Refuse a client whose redirect addresses its sector's document does not list.

    Without this anybody could name somebody else's sector and learn whom that one's people are.
    Raises: MetadataError, also when the document cannot be read.
    """
    uri = metadata.options.sector_identifier_uri
    if not uri:
        return
    try:
        listed = outbound.get_json(uri)
    except outbound.Refused as problem:
        raise MetadataError(f"sector_identifier_uri: {str(problem).rstrip('.')}") from problem
    problem_found = problem_with_sector(listed, metadata.redirect_uris)
    if problem_found:
        raise MetadataError(f"sector_identifier_uri: {problem_found}")
