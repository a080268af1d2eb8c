"""What an ID token says, the first one and those after a refresh. Spec: OIDC Core §2, §12.2."""

import json
from datetime import timedelta

import jwt
import pytest

from iam.access.models import Posting
from iam.accounts.models import DirectoryLink, User
from iam.oauth import state

from .conftest import ISSUER, World, claims_of

pytestmark = pytest.mark.django_db


@pytest.mark.rules(
    "core/2/iss", "core/2/sub-length", "core/2/aud", "core/2/exp", "core/2/iat", "disco/3/openid"
)
def test_id_token_says_who_for_whom_and_when(world: World) -> None:
    session = world.sign_in()
    world.later(seconds=20)

    claims = claims_of(world.tokens()["id_token"])

    at = int(world.now.timestamp())
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, "web", world.person.sub)
    assert (claims["iat"], claims["exp"]) == (at, at + 300)
    assert claims["auth_time"] == int(session.password_at.timestamp()) == at - 20
    assert claims["sub"].isascii()
    assert 0 < len(claims["sub"]) <= 255


@pytest.mark.parametrize(
    "asked", [{"max_age": "600"}, {"claims": '{"id_token":{"auth_time":{"essential":true}}}'}]
)
@pytest.mark.rules("core/2/auth-time", "core/3.1.2.1/max-age-auth-time", "core/15.1/auth-time")
def test_id_token_says_when_the_person_signed_in_if_that_was_asked(asked: dict, world: World) -> None:
    session = world.sign_in()
    world.later(seconds=45)

    assert claims_of(world.tokens(**asked)["id_token"])["auth_time"] == int(session.password_at.timestamp())


@pytest.mark.rules("core/2/sub", "core/5.7/stable")
def test_sub_is_the_same_every_time_and_nobody_elses(world: World) -> None:
    world.sign_in()
    first = claims_of(world.tokens()["id_token"])["sub"]
    world.later(hours=1).sign_in()
    again = claims_of(world.tokens()["id_token"])["sub"]
    world.person = somebody_else(world)
    world.sign_in()
    other = claims_of(world.tokens(scope="openid")["id_token"])["sub"]

    assert first == again != other


def somebody_else(world: World) -> User:
    """Return a person of the same name at the same office: only the identifier tells them apart."""
    person = User.objects.create(
        name_latin=world.person.name_latin,
        name_arabic=world.person.name_arabic,
        language="fr",
        created_at=world.now,
    )
    DirectoryLink.objects.create(
        user=person, source="d", entry_uuid="e-2", login="amina2", dn="uid=amina2", created_at=world.now,
        checked_at=world.now,
    )  # fmt: skip
    started = world.now - timedelta(days=9)
    Posting.objects.create(person=person, office=world.office, valid_from=started, source="test")
    for assignment in world.person.assignments.all():
        assignment.pk, assignment.person = None, person
        assignment.save(force_insert=True)
    return person


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "PS256", "EdDSA"])
@pytest.mark.rules(
    "core/2/signed", "core/10.1/key-published", "core/10.1/kid", "core/15.1/rs256", "disco/3/jwks-uri"
)
def test_every_key_that_signs_is_published_under_the_kid_of_the_header(algorithm: str, world: World) -> None:
    from .test_hostile import register

    register(world, client_id="web", id_token_signed_response_alg=algorithm)
    world.sign_in()

    token = world.tokens()["id_token"]

    header = jwt.get_unverified_header(token)
    published = {key.kid: key.jwk() for key in state.DatabaseState().published_keys()}
    options = {"verify_exp": False, "verify_iat": False}
    said = jwt.decode(
        token, jwt.PyJWK(published[header["kid"]]), algorithms=[algorithm], audience="web", options=options
    )
    assert (header["alg"], said["iss"]) == (algorithm, ISSUER)


@pytest.mark.rules("core/12.2/iss-sub-aud", "core/12.2/iat", "core/12.2/auth-time", "core/12.2/no-nonce")
def test_refreshed_id_token_is_about_the_same_sign_in(world: World) -> None:
    world.sign_in()
    first = world.tokens()
    world.later(minutes=3)

    second = json.loads(world.refresh(first["refresh_token"]).body)

    before, after = claims_of(first["id_token"]), claims_of(second["id_token"])
    for name in ("iss", "sub", "aud", "auth_time", "acr", "amr", "sid"):
        assert after[name] == before[name], name
    assert after["iat"] == before["iat"] + 180 == int(world.now.timestamp())
    assert "nonce" in before
    assert "nonce" not in after
    assert "azp" not in after


@pytest.mark.rules("core/3.1.2.1/scope-openid", "core/3.1.3.2/oidc-code")
def test_request_without_openid_gets_no_id_token_and_no_userinfo(world: World) -> None:
    world.sign_in()

    tokens = world.tokens(scope="roles demo.read")

    assert "id_token" not in tokens
    answer = world.userinfo(tokens["access_token"])
    assert answer.status in {401, 403}
    assert world.person.sub not in answer.body.decode()


@pytest.mark.parametrize("scope", ["openid\troles", "openid,roles", "openid\u00a0roles", "openid\u2003roles"])
@pytest.mark.rules("core/14/one-space")
def test_scopes_are_divided_by_the_space_and_nothing_else(scope: str, world: World) -> None:
    world.sign_in()

    answer = world.authorize(scope=scope)

    assert "code=" not in dict(answer.headers)["Location"]  # type: ignore[union-attr]
    assert "error=invalid_" in dict(answer.headers)["Location"]  # type: ignore[union-attr]
