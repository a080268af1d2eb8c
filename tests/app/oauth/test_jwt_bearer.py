"""A platform vouches for a workload that is a client of ours. Spec: RFC 7523; A11, A18, A57."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from iam.audit.models import AuditEvent
from iam.oauth.clients import apply_all
from iam.oauth.issuers import apply_issuers
from iam.oauth.models import TokenFamily, TrustedIssuer
from iam.oauth.protocol import jose
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.trusted_issuers import GRANT_TYPE

from .conftest import SECRET, World, claims_of

pytestmark = pytest.mark.django_db

PLATFORM = "https://platform.example"
SUBJECT = "system:serviceaccount:reports:nightly"
WORKLOAD = {
    "client_id": "workload", "token_endpoint_auth_method": "none", "grant_types": [GRANT_TYPE], "scope": "demo.read",
    "application": "mail",
}  # fmt: skip
GUARDED = {
    **WORKLOAD,
    "client_id": "guarded",
    "token_endpoint_auth_method": "client_secret_basic",
    "client_secret": SECRET,
}
PRIVATE = jose.generate("ES256")
KEY = jose.load_private("p-1", "ES256", jose.private_bytes(PRIVATE))
OTHER = jose.generate("ES256")


def issuer(**changes: object) -> dict:
    value = {
        "issuer": PLATFORM, "jwks": {"keys": [KEY.jwk()]}, "subjects": {SUBJECT: "workload", "guard": "guarded"},
        "scope": "demo.read", **changes,
    }  # fmt: skip
    return {name: item for name, item in value.items() if item is not None}


@pytest.fixture
def world(world: World) -> World:
    apply_all([WORKLOAD, GUARDED], world.now, "system:test")
    apply_issuers([issuer()], world.now, "system:test")
    return world


def assertion(world: World, key: jose.Key = KEY, typ: str = "JWT", **changes: object) -> str:
    now = int(world.now.timestamp())
    claims = {
        "iss": PLATFORM, "sub": SUBJECT, "aud": "http://localhost:8000", "iat": now, "exp": now + 60,
        "jti": f"j-{world.now.timestamp()}-{id(changes)}", **changes,
    }  # fmt: skip
    return key.sign(typ, {name: value for name, value in claims.items() if value is not None})


def ask(world: World, text: str | None, client: str = "workload", secret: str | None = None, **form: str):
    return world.post("/token", client, secret, grant_type=GRANT_TYPE, assertion=text, **form)


def given(world: World, text: str, client: str = "workload", secret: str | None = None, **form: str) -> dict:
    response = ask(world, text, client, secret, **form)
    assert response.status == 200, response.body
    return json.loads(response.body)


def error_of(response) -> str:
    assert response.status == 400, response.body
    return json.loads(response.body)["error"]


# -- what is given ---------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7523", "2.1", "assertion as an authorization grant")
def test_assertion_gives_the_workload_a_machines_token(world):
    answer = given(world, assertion(world))

    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope"}
    claims = claims_of(answer["access_token"])
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("workload", "workload", ["resource"])
    assert (claims["roles"], claims["office"]) == ([], None)
    assert not {"sid", "acr", "amr", "auth_time"} & claims.keys()
    assert answer["expires_in"] == 300
    assert world.introspect(answer["access_token"])["active"] is True


@pytest.mark.spec("RFC 9864", "2.2", "Ed25519 is another name of EdDSA with that curve")
@pytest.mark.parametrize("allowed", [None, ["EdDSA"], ["Ed25519"]])
@pytest.mark.parametrize("written", ["EdDSA", "Ed25519"])
def test_assertion_of_an_issuer_may_use_either_name_of_eddsa(world, allowed, written):
    key = jose.load_private("e-1", "EdDSA", jose.private_bytes(jose.generate("EdDSA")))
    apply_issuers([issuer(jwks={"keys": [key.jwk()]}, algorithms=allowed)], world.now, "system:test")

    assert given(world, assertion(world, replace(key, algorithm=written)))["scope"] == "demo.read"


def test_assertion_of_a_confidential_client_needs_its_secret_too(world):
    text = assertion(world, sub="guard")

    assert world.post("/token", "guarded", None, grant_type=GRANT_TYPE, assertion=text).status == 401
    assert given(world, text, "guarded", SECRET)["scope"] == "demo.read"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "http://localhost:8000/token"},
        {"aud": ["http://localhost:8000"]},
        {"typ": "authorization-grant+jwt"},
    ],
    ids=["token endpoint", "list of one", "typ of the revision"],
)
@pytest.mark.spec("RFC 7523", "3", "audience is the issuer or its token endpoint")
def test_assertion_in_another_good_form(world, changes):
    assert given(world, assertion(world, **changes))["scope"] == "demo.read"


def test_issue_is_audited_with_who_vouched(world):
    given(world, assertion(world))

    event = AuditEvent.objects.get(action="client:token:issue", method="jwt_bearer")
    assert (event.actor, event.object, event.outcome) == ("client:workload", "client:workload", "success")


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"}, {"iss": None}, {"iss": 7}, {"iss": "http://localhost:8000"},
        {"sub": "system:serviceaccount:reports:other"}, {"sub": None}, {"sub": "guard"}, {"sub": "workload"},
        {"sub": ["a"]},
        {"aud": "https://other.example"}, {"aud": None}, {"aud": "http://localhost:8000/"}, {"aud": "resource"},
        {"aud": ["http://localhost:8000", "https://other.example"]}, {"aud": []},
        {"exp": None}, {"exp": "soon"}, {"exp": True}, {"exp": 1e300}, {"exp": -5},
        {"jti": None}, {"jti": ""}, {"jti": 7}, {"jti": "x" * 257},
        {"iat": 99_999_999_999}, {"nbf": 99_999_999_999}, {"iat": "then"},
        {"typ": "at+jwt"}, {"typ": "dpop+jwt"}, {"typ": "logout+jwt"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.spec("RFC 7523", "3", "each rule of the assertion")
def test_assertion_that_breaks_a_rule_is_refused(world, changes):
    assert error_of(ask(world, assertion(world, **changes))) == "invalid_grant"


@pytest.mark.spec("RFC 7523", "3", "expired, or living too long")
def test_assertion_that_has_expired_or_lives_too_long_is_refused(world):
    now = int(world.now.timestamp())

    for changes in ({"exp": now - 11}, {"exp": now + 311}, {"iat": now - 1000, "exp": now + 30}):
        assert error_of(ask(world, assertion(world, **changes))) == "invalid_grant"
    assert given(world, assertion(world, exp=now + 300))


def test_assertion_may_live_as_long_as_its_issuer_was_allowed(world):
    apply_issuers([issuer(max_life=60)], world.now, "system:test")
    now = int(world.now.timestamp())

    assert error_of(ask(world, assertion(world, exp=now + 90))) == "invalid_grant"
    assert given(world, assertion(world, exp=now + 60))


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"assertion": None}, "invalid_request"),
        ({"assertion": "x.y.z"}, "invalid_grant"),
        ({"assertion": "x"}, "invalid_grant"),
        ({"assertion": "x" * 9000}, "invalid_request"),
        ({"assertion": "a\0"}, "invalid_request"),
        ({"assertion": "é.é.é"}, "invalid_grant"),
    ],
)
def test_request_without_an_assertion_is_refused(world, form, error):
    assert error_of(world.post("/token", "workload", None, grant_type=GRANT_TYPE, **form)) == error


def test_a11_assertion_signed_by_another_key_or_none_is_refused(world):
    good = assertion(world)
    head, body, tail = good.split(".")
    none = jose.encode_segment(b'{"alg":"none"}')
    other = jose.load_private("p-1", "ES256", jose.private_bytes(OTHER))
    embedded = jose.encode_segment(json.dumps({"alg": "ES256", "jwk": other.jwk()}).encode())
    signed = other.sign("JWT", json.loads(jose.decode_segment(body)))

    for text in (
        f"{none}.{body}.", f"{head}.{body}.", f"{head}.{body}.{tail[:-4]}AAAA", signed,
        f"{embedded}.{body}.{signed.rpartition('.')[2]}",
    ):  # fmt: skip
        assert error_of(ask(world, text)) == "invalid_grant"
    assert given(world, good)


def test_a18_token_of_our_own_is_no_assertion(world):
    world.sign_in()
    tokens = world.tokens()

    for text in (tokens["access_token"], tokens["id_token"], tokens["refresh_token"]):
        assert error_of(ask(world, text)) == "invalid_grant"


@pytest.mark.spec("RFC 7523", "3", "jti is used once")
def test_assertion_is_good_once(world):
    text = assertion(world)

    assert given(world, text)
    assert error_of(ask(world, text)) == "invalid_grant"
    assert AuditEvent.objects.filter(method="jwt_bearer").count() == 1


def test_assertion_is_not_used_up_by_a_refusal_that_can_be_put_right(world):
    text = assertion(world)

    assert error_of(ask(world, text, scope="nothing")) == "invalid_scope"
    assert given(world, text, scope="demo.read")


def test_assertion_of_another_workload_is_refused_and_not_used_up(world):
    text = assertion(world, sub="guard")

    assert error_of(ask(world, text)) == "invalid_grant"
    assert given(world, text, "guarded", SECRET)


@pytest.mark.parametrize("scope", ["openid", "roles", "openid demo.read"])
def test_a57_assertion_gives_no_scope_of_a_person(world, scope):
    apply_all([{**WORKLOAD, "scope": "openid roles demo.read"}], world.now, "system:test")

    assert error_of(ask(world, assertion(world), scope=scope)) == "invalid_scope"
    assert given(world, assertion(world))["scope"] == "demo.read"
    assert not TokenFamily.objects.exists()


def test_a57_assertion_for_a_person_is_refused(world):
    assert error_of(ask(world, assertion(world, sub=world.person.sub))) == "invalid_grant"
    with pytest.raises(MetadataError, match="there is no client"):
        apply_issuers([issuer(subjects={"somebody": world.person.sub})], world.now, "system:test")


def test_issuer_vouches_for_no_more_than_its_scopes(world):
    apply_all(
        [
            {"client_id": "extra", "client_secret": SECRET, "grant_types": ["client_credentials"],
             "resource_server": ["extra.read"]},
            {**WORKLOAD, "scope": "demo.read extra.read"},
        ],
        world.now, "system:test",
    )  # fmt: skip

    assert error_of(ask(world, assertion(world), scope="extra.read")) == "invalid_scope"
    assert given(world, assertion(world))["scope"] == "demo.read"


def test_assertion_gives_no_authorization_details(world):
    response = ask(world, assertion(world), authorization_details='[{"type":"payment"}]')

    assert error_of(response) == "invalid_authorization_details"


def test_client_that_is_not_registered_for_the_grant_is_refused(world):
    assert error_of(ask(world, assertion(world), "service", SECRET)) == "unauthorized_client"


# -- the end of trust --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"enabled": False}, {"jwks": {"keys": [jose.Key("p-2", "ES256", OTHER.public_key()).jwk()]}},
     {"subjects": {"guard": "guarded"}}],
    ids=["switched off", "other keys", "subject taken out"],
)  # fmt: skip
def test_change_of_an_issuer_ends_what_was_given_on_its_word(world, changes):
    answer = given(world, assertion(world))

    apply_issuers([issuer(**changes)], world.now, "system:test")

    assert world.introspect(answer["access_token"]) == {"active": False}
    assert error_of(ask(world, assertion(world))) == "invalid_grant"


def test_a24_switched_off_workload_gets_and_keeps_nothing(world):
    answer = given(world, assertion(world))

    apply_all([{**WORKLOAD, "enabled": False}], world.now, "system:test")

    assert world.introspect(answer["access_token"]) == {"active": False}
    assert ask(world, assertion(world)).status == 401


# -- registration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"issuer": None}, "issuer"), ({"issuer": "a b"}, "issuer"), ({"issuer": ""}, "issuer"),
        ({"jwks": None}, "jwks or jwks_uri"), ({"jwks": {"keys": []}}, "jwks"),
        ({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}, "private or symmetric"),
        ({"jwks_uri": "https://platform.example/jwks"}, "exclude"),
        ({"jwks": None, "jwks_uri": "http://platform.example/jwks"}, "https"),
        ({"jwks": None, "jwks_uri": "https://10.0.0.1/jwks"}, "jwks_uri"),
        ({"subjects": None}, "subjects"), ({"subjects": {}}, "subjects"), ({"subjects": ["a"]}, "subjects"),
        ({"subjects": {"*": "workload"}}, "written out"), ({"subjects": {"a": 3}}, "client_id"),
        ({"subjects": {"a": "nobody"}}, "no client"), ({"subjects": {"a": "service"}}, "not registered for"),
        ({"scope": ""}, "scope"), ({"scope": "openid"}, "people"), ({"scope": "nothing"}, "no resource server"),
        ({"max_life": 5}, "whole number"), ({"max_life": 36_000}, "whole number"),
        ({"algorithms": ["HS256"]}, "not one of"), ({"algorithms": ["none"]}, "not one of"),
        ({"enabled": "yes"}, "true or false"), ({"audience": "x"}, "not known"),
    ],
    ids=str,
)  # fmt: skip
def test_issuer_that_cannot_be_is_not_registered(world, changes, text):
    with pytest.raises(MetadataError, match=text):
        apply_issuers([issuer(**changes)], world.now, "system:test")


@pytest.mark.parametrize("items", [{}, "x", None, ["x"], [3]])
def test_issuers_must_be_a_list_of_objects(world, items):
    with pytest.raises(MetadataError):
        apply_issuers(items, world.now, "system:test")


def test_keys_of_an_issuer_stand_in_one_place(world):
    with pytest.raises(IntegrityError, match="trusted_issuer_keys_in_one_place"), transaction.atomic():
        TrustedIssuer.objects.update(jwks=None)


def test_command_applies_lists_and_shows(world, tmp_path: Path):
    file = tmp_path / "issuers.json"
    file.write_text(json.dumps([issuer(max_life=120, _note="a comment")]))

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("issuer", *arguments, stdout=out)
        return out.getvalue()

    assert run("apply", str(file)) == f"{PLATFORM}: changed\n  ~ max_life\n"
    assert run("apply", str(file)) == f"{PLATFORM}: unchanged\n"
    assert "guarded, workload" in run("list")
    assert json.loads(run("show", PLATFORM))["max_life"] == 120
    for arguments in (["show", "nobody"], ["apply", str(tmp_path / "none")], ["apply", str(Path(__file__))]):
        with pytest.raises(CommandError):
            run(*arguments)
    file.write_text("[{}]")
    with pytest.raises(CommandError, match="Nothing was changed"):
        run("apply", str(file))
    event = AuditEvent.objects.filter(action="administrator:issuer:change").latest("sequence")
    assert event.object == f"issuer:{PLATFORM}"


def test_clock_of_the_platform_may_be_a_little_ahead(world):
    now = int(world.now.timestamp())

    assert given(world, assertion(world, iat=now + 30, exp=now + 90))
    assert given(world, assertion(world, iat=now - 30, exp=now - 5))
