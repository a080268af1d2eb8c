"""Whatever metadata arrives with a good invitation, it is registered within its bounds or refused in words."""

import json
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iam.oauth.models import Client
from iam.oauth.protocol.dynamic_registration import GIVEN_BY_US, HOUSE_ONLY, SELF_CHOSEN

from .conftest import World
from .test_registration_endpoint import BOUNDS, GOOD, invitation, register

pytestmark = pytest.mark.django_db
LIKELY = [
    "", "\x00", "\ud800", "\u202e", "x" * 5_000, "https://app.example/cb", "https://app.example", "http://127.0.0.1/cb", "code", "openid",
    "openid roles", "authorization_code", "refresh_token", "client_credentials", "private_key_jwt", "none", "tls_client_auth", "ES256",
    "RSA-OAEP-256", "A256GCM", "pairwise", "aal2", "native", 0, -1, 1e400, 2**70, None, True, [], {}, [[]], {"keys": []}, {"keys": [{}]},
]  # fmt: skip
json_values = st.recursive(
    st.one_of(st.sampled_from(LIKELY), st.text(max_size=12), st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(
    sorted(SELF_CHOSEN | HOUSE_ONLY | GIVEN_BY_US | {"client_id", "software_statement", "unknown"})
)


def test_fuzz_any_metadata_is_registered_within_bounds_or_refused(world: World) -> None:
    token = invitation(world, uses=1_000)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, json_values, max_size=4))
    def run(changes: dict[str, Any]) -> None:
        with transaction.atomic():
            answer = register(world, token, {**GOOD, **changes})
            value = json.loads(answer.body)
            assert answer.status in {201, 400}
            if answer.status == 400:
                assert value["error"].startswith(
                    ("invalid_client_metadata", "invalid_redirect_uri", "unapproved_software")
                )
                assert "reference r-1" in value["error_description"]
            else:
                row = Client.objects.get(client_id=value["client_id"])
                assert not row.trusted
                assert not row.is_resource_server
                assert set(row.scope_list) <= set(BOUNDS.scopes)
                assert set(row.grant_types) <= set(BOUNDS.grant_types)
                assert row.application is not None
                assert not HOUSE_ONLY & row.options.keys()
            transaction.set_rollback(True)

    run()
