"""Pairwise names: stable, different in every sector, from a sector that belongs to one party."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.options import ClientOptions
from iam.oauth.protocol.registration import check_metadata
from iam.oauth.protocol.subjects import pairwise, sector_of

SALT = b"s" * 32
PAIRWISE = {"client_id": "app-1", "scope": "openid", "subject_type": "pairwise"}


@pytest.mark.spec("OIDC Core", "8.1", "a pairwise subject is stable and differs by sector, person and salt")
@pytest.mark.rules("core/8.1/by-sector", "core/8.1/irreversible", "core/8.1/deterministic")
def test_pairwise_is_stable_and_differs_by_sector_person_and_salt():
    name = pairwise(SALT, "a.example", "sub-1")

    assert name == pairwise(SALT, "a.example", "sub-1")
    others = {
        pairwise(SALT, "b.example", "sub-1"),
        pairwise(SALT, "a.example", "sub-2"),
        pairwise(b"t" * 32, "a.example", "sub-1"),
    }
    assert len(others | {name}) == 4
    assert len(name) == 43


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
@pytest.mark.rules("core/8.1/irreversible")
def test_pairwise_never_shows_the_sub(sector: str, sub: str):
    assert len(sub) < 8 or sub not in pairwise(SALT, sector, sub)


def test_pairwise_without_a_sector_is_refused():
    with pytest.raises(ValueError, match="sector"):
        pairwise(SALT, "", "sub-1")


@pytest.mark.parametrize(
    ("redirects", "sector"),
    [
        (("https://a.example/cb", "https://A.example:8443/other"), "a.example"),
        (("https://a.example/cb", "https://b.example/cb"), ""),
        (("https://a.example/cb", "http://127.0.0.1/cb"), ""),
        (("http://127.0.0.1/cb",), ""),
        (("org.example.app:/cb",), ""),
        ((), ""),
    ],
)
@pytest.mark.spec(
    "OIDC Core", "8.1", "without sector_identifier_uri the sector is the one host of redirect_uris"
)
@pytest.mark.rules("core/8.1/one-host")
def test_sector_of_redirect_addresses(redirects: tuple[str, ...], sector: str):
    assert sector_of(ClientOptions(), redirects) == sector


def test_sector_of_sector_identifier_uri_is_its_host():
    options = ClientOptions(sector_identifier_uri="https://sector.example/hosts.json")

    assert sector_of(options, ("https://a.example/cb", "https://b.example/cb")) == "sector.example"


def test_check_metadata_pairwise_with_one_host_is_taken():
    metadata = check_metadata({**PAIRWISE, "redirect_uris": ["https://a.example/cb"]})

    assert metadata.options.subject_type == "pairwise"


@pytest.mark.parametrize(
    "redirects",
    [["https://a.example/cb", "https://b.example/cb"], ["http://127.0.0.1/cb"], ["org.example.app:/cb"]],
    ids=["two hosts", "loopback", "private scheme"],
)
@pytest.mark.spec("OIDC Core", "8.1", "several hosts without a sector_identifier_uri are refused")
@pytest.mark.rules("core/8.1/one-host")
def test_check_metadata_pairwise_without_one_host_is_refused(redirects: list[str]):
    with pytest.raises(MetadataError, match="sector_identifier_uri"):
        check_metadata({**PAIRWISE, "redirect_uris": redirects})
