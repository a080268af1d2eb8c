"""What is agreed to counts for what was shown, and for nothing else (A10)."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.asked import Asked, RequestedClaim, RequestedClaims
from iam.oauth.protocol.consent import asked_disclosure, disclosure_digest, unagreed
from iam.oauth.protocol.messages import NO_DISCLOSURE, AuthorizationRequest, Disclosure

REQUEST = AuthorizationRequest(
    "app", "https://app.example/cb", ("openid", "email"), datetime(2026, 11, 25, tzinfo=UTC), "c" * 43
)
PAYMENT = {"type": "payment", "amount": "10.00", "to": "NE58"}


def missing(wanted, before=NO_DISCLOSURE, here=NO_DISCLOSURE, *, trusted=False, anew=False):
    return unagreed(wanted, before, here, trusted=trusted, anew=anew)


def test_disclosure_names_scopes_claims_beyond_them_and_details():
    claims = RequestedClaims(
        id_token={"acr": RequestedClaim(), "email": RequestedClaim()},
        userinfo={"locale": RequestedClaim(), "name": RequestedClaim()},
    )
    request = replace(
        REQUEST,
        scopes=("openid", "email", "offline_access"),
        asked=Asked(claims=claims, authorization_details=(PAYMENT,)),
    )

    assert asked_disclosure(request) == Disclosure(("openid", "email"), ("locale", "name"), (PAYMENT,))


@pytest.mark.parametrize(
    ("wanted", "before", "here", "flags"),
    [
        (Disclosure(("openid",)), Disclosure(("openid", "email")), NO_DISCLOSURE, {}),
        (Disclosure(("openid",)), NO_DISCLOSURE, Disclosure(("openid",)), {}),
        (Disclosure(("a", "b")), Disclosure(("a",)), Disclosure(("b",)), {}),
        (Disclosure(("openid",), ("name",)), Disclosure(("openid",), ("name",)), NO_DISCLOSURE, {}),
        (Disclosure(("openid",), ("name",)), Disclosure(("openid", "profile")), NO_DISCLOSURE, {}),
        (Disclosure(("openid",), (), (PAYMENT,)), NO_DISCLOSURE, Disclosure(("openid",), (), (PAYMENT,)), {}),
        (Disclosure(("openid",)), NO_DISCLOSURE, Disclosure(("openid",)), {"anew": True}),
        (Disclosure(("openid",), ("name",), (PAYMENT,)), NO_DISCLOSURE, NO_DISCLOSURE, {"trusted": True}),
        (NO_DISCLOSURE, NO_DISCLOSURE, NO_DISCLOSURE, {}),
    ],
)
def test_unagreed_what_was_shown_and_agreed_to_is_not_asked_again(wanted, before, here, flags):
    assert missing(wanted, before, here, **flags) == NO_DISCLOSURE


@pytest.mark.parametrize(
    ("wanted", "before", "here", "flags"),
    [
        (Disclosure(("openid", "email")), Disclosure(("openid",)), NO_DISCLOSURE, {}),
        (Disclosure(("openid",), ("name",)), Disclosure(("openid",)), NO_DISCLOSURE, {}),
        (Disclosure(("openid",), ("name",)), Disclosure(("openid",), ("locale",)), NO_DISCLOSURE, {}),
        (Disclosure(("profile",)), Disclosure(("openid",), ("name",)), NO_DISCLOSURE, {}),
        (Disclosure(("openid",)), Disclosure(("openid",)), NO_DISCLOSURE, {"anew": True}),
        (Disclosure(("openid",)), Disclosure(("openid",)), NO_DISCLOSURE, {"anew": True, "trusted": True}),
        (Disclosure(("openid",), (), (PAYMENT,)), Disclosure(("openid",), (), (PAYMENT,)), NO_DISCLOSURE, {}),
        (Disclosure((), (), ({**PAYMENT, "amount": "99.00"},)), NO_DISCLOSURE, Disclosure((), (), (PAYMENT,)), {}),
        (Disclosure((), (), ({"type": "t", "a": True},)), NO_DISCLOSURE, Disclosure((), (), ({"type": "t", "a": 1},)), {}),
        (Disclosure((), (), (PAYMENT, {**PAYMENT, "to": "B"})), NO_DISCLOSURE, Disclosure((), (), (PAYMENT,)), {}),
    ],
    ids=[
        "another scope", "another claim", "another claim than that", "a claim is not its scope", "prompt=consent",
        "prompt=consent, trusted", "details of the past", "another amount", "true is not one", "one more detail",
    ],
)  # fmt: skip
def test_a10_agreement_to_one_thing_is_not_agreement_to_another(wanted, before, here, flags):
    assert missing(wanted, before, here, **flags) == wanted


parts = st.lists(st.sampled_from(["openid", "profile", "email", "roles"]), max_size=3, unique=True).map(tuple)
claims = st.lists(st.sampled_from(["name", "email", "roles", "locale"]), max_size=3, unique=True).map(tuple)
details = st.lists(st.sampled_from([PAYMENT, {"type": "t", "n": 1}]), max_size=2).map(tuple)
disclosures = st.builds(Disclosure, parts, claims, details)


@given(disclosures, disclosures, disclosures)
def test_a10_whatever_was_agreed_before_details_are_asked_in_every_flow(wanted, before, here):
    answer = missing(wanted, before, here)

    assert answer in (NO_DISCLOSURE, wanted)
    if not answer and wanted:
        assert set(wanted.scopes) <= set(before.scopes) | set(here.scopes)
        assert all(detail in here.details for detail in wanted.details)


@given(disclosures, disclosures)
def test_digest_is_the_same_for_the_same_content_alone(one, other):
    same = (set(one.scopes), set(one.claims), one.details) == (
        set(other.scopes),
        set(other.claims),
        other.details,
    )

    assert (disclosure_digest(one) == disclosure_digest(other)) == same
