"""The form of what we answer, and requests that must not be refused for what they bring along. Spec: OIDC Core."""

import json
import unicodedata
from typing import Any
from urllib.parse import urlencode

import pytest

from iam import checks
from iam.accounts import cookies
from iam.oauth.clients import apply_all
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import ErrorPage, Interaction, Need, Request, Response

from .conftest import ISSUER, SECRET, World, answer_of, claims_of
from .test_hostile import register

pytestmark = pytest.mark.django_db
FORM = "application/x-www-form-urlencoded"


@pytest.mark.rules("core/3.1.2.1/get-and-post")
def test_authorize_by_post_is_answered_as_by_get(world: World) -> None:
    world.sign_in()
    body = urlencode(world.wanted()).encode()

    posted = world.ask(
        Request("POST", "/authorize", body=body, content_type=FORM, cookies={cookies.SESSION: world.cookie})
    )

    assert set(answer_of(posted)) == set(answer_of(world.authorize())) == {"code", "state", "iss"}
    assert world.exchange(answer_of(posted)["code"]).status == 200


@pytest.mark.parametrize(
    "parameter",
    [
        {"display": "page"}, {"display": "popup"}, {"display": "touch"}, {"display": "wap"}, {"display": "hologram"},
        {"ui_locales": "fr-CA fr en"}, {"ui_locales": "tlh x-none"}, {"claims_locales": "de ar"},
        {"claims_locales": "tlh"}, {"acr_values": "urn:nobody:knows aal1"}, {"login_hint": "somebody"},
        {"unheard_of": "x"}, {"response_mode": "query"}, {"claims": '{"id_token":{"shoe_size":{"essential":true}}}'},
        {"claims": '{"userinfo":{"phone_number":{"essential":true}},"elsewhere":{}}'},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.rules(
    "core/3.1.2.1/display",
    "core/3.1.2.1/ui-locales",
    "core/3.1.2.2/unknown-parameters",
    "core/5.2/claims-locales",
    "core/5.5/unknown-members",
    "core/5.5.1/essential-missing",
    "core/15.1/display",
    "core/15.1/locales",
    "core/15.1/acr-values",
    "rfc6749/3.1/unknown",
)
def test_what_is_optional_or_unknown_is_no_error(parameter: dict[str, str], world: World) -> None:
    world.sign_in()

    tokens = world.tokens(**parameter)

    assert claims_of(tokens["id_token"])["sub"] == world.person.sub


@pytest.mark.rules(
    "core/3.1.3.3/json",
    "core/3.1.3.3/token-type",
    "core/3.1.3.3/bearer",
    "core/3.1.3.3/id-token",
    "core/3.1.3.3/no-store",
    "core/13.3/no-null",
    "rfc6749/5.1/no-store",
)
def test_token_answer_is_json_that_nobody_keeps(world: World) -> None:
    world.sign_in()

    response = world.exchange(world.code())

    headers, value = dict(response.headers), json.loads(response.body)
    assert (response.status, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "application/json",
        "no-store",
    )
    assert value["token_type"] == "Bearer"
    assert headers["Pragma"] == "no-cache"
    assert {"access_token", "id_token", "refresh_token", "expires_in", "scope"} <= value.keys()
    assert None not in value.values()


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "authorization_code", "code": "ac_x", "code_verifier": "x" * 43}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "rt_x"}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "nothing"}, "unsupported_grant_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.rules("core/3.1.3.4/error", "core/12.3/errors")
def test_token_error_is_json_with_400_and_a_registered_code(form: dict, error: str, world: World) -> None:
    response = world.post("/token", **form)

    headers = dict(response.headers)
    assert (response.status, headers["Content-Type"], headers["Cache-Control"]) == (
        400,
        "application/json",
        "no-store",
    )
    assert json.loads(response.body)["error"] == error


# -- userinfo -------------------------------------------------------------------------------------------------------


def posted(world: World, body: bytes = b"", authorization: str = "") -> Response:
    answer = world.ask(
        Request(
            "POST", "/userinfo", body=body, content_type=FORM if body else "", authorization=authorization
        )
    )
    assert isinstance(answer, Response)
    return answer


@pytest.mark.rules(
    "core/5.3/get-and-post",
    "core/5.3/bearer",
    "core/5.3.2/json",
    "core/5.3.2/sub",
    "core/5.3.2/content-type",
    "core/5.3.2/utf-8",
    "rfc6750/2.1/header",
    "rfc6750/2.2/form",
)
def test_userinfo_is_the_same_by_get_and_by_post(world: World) -> None:
    world.sign_in()
    tokens = world.tokens(scope="openid profile email roles")
    token = tokens["access_token"]

    answers = [
        world.userinfo(token), posted(world, authorization=f"Bearer {token}"),
        posted(world, urlencode({"access_token": token}).encode()),
    ]  # fmt: skip

    assert [answer.status for answer in answers] == [200, 200, 200]
    first, *others = [json.loads(answer.body.decode("utf-8")) for answer in answers]
    assert others == [first, first]
    assert dict(answers[0].headers)["Content-Type"] == "application/json"
    assert first["sub"] == claims_of(tokens["id_token"])["sub"]
    assert "أمينة".encode() in answers[0].body


@pytest.mark.rules("core/5.3.2/omitted", "core/13.3/no-null")
def test_userinfo_leaves_out_what_has_no_value(world: World) -> None:
    world.sign_in()
    world.person.name_arabic = ""
    world.person.save()

    said = json.loads(world.userinfo(world.tokens(scope="openid profile email")["access_token"]).body)

    assert {"sub", "name", "locale", "preferred_username"} <= said.keys()
    assert not {"name#ar", "email", "email_verified"} & said.keys()
    assert None not in said.values()
    assert "" not in said.values()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sub", str), ("name", str), ("name#ar", str), ("locale", str), ("preferred_username", str)],
)
@pytest.mark.rules("core/5.1/types", "core/5.2/tags")
def test_standard_claims_have_their_types(name: str, kind: type, world: World) -> None:
    world.sign_in()

    said: dict[str, Any] = json.loads(
        world.userinfo(world.tokens(scope="openid profile")["access_token"]).body
    )

    assert isinstance(said[name], kind)


@pytest.mark.rules("core/5.3.3/errors", "rfc6750/3.1/invalid-token")
def test_userinfo_refuses_as_bearer_tokens_are_refused(world: World) -> None:
    world.sign_in()
    token = world.tokens()["access_token"]

    for answer in (world.userinfo(token[:-3] + "AAA"), world.later(minutes=6).userinfo(token)):
        assert answer.status == 401
        challenge = dict(answer.headers)["WWW-Authenticate"]
        assert challenge.startswith("Bearer ")
        assert 'error="invalid_token"' in challenge


# -- metadata -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]
)
@pytest.mark.rules(
    "core/2/no-none",
    "core/8/types-listed",
    "disco/3/authorization-endpoint",
    "disco/3/token-endpoint",
    "disco/3/userinfo-endpoint",
    "disco/3/jwks-uri",
    "disco/3/registration-endpoint",
    "disco/3/scopes",
    "disco/3/openid",
    "disco/3/response-types",
    "disco/3/subject-types",
    "disco/3/id-token-algs",
    "disco/3/id-token-none",
    "disco/3/auth-algs",
    "disco/3/auth-none",
    "disco/3/claims-supported",
    "disco/4/path",
    "disco/4.1/get",
    "disco/4.2/json",
    "disco/4.2/empty",
    "rfc8414/2/required",
    "rfc8414/3/well-known",
    "rfc8414/3.2/empty",
)
def test_metadata_has_what_is_required_and_nothing_empty(path: str, world: World) -> None:
    answer = world.ask(Request("GET", path))

    assert isinstance(answer, Response)
    assert (answer.status, dict(answer.headers)["Content-Type"]) == (200, "application/json")
    said = json.loads(answer.body)
    for name in (
        "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "registration_endpoint",
        "end_session_endpoint", "introspection_endpoint", "revocation_endpoint",
    ):  # fmt: skip
        assert said[name].startswith(said["issuer"] + "/")
    assert said["response_types_supported"] == ["code"]
    assert {"openid", "profile", "email"} <= set(said["scopes_supported"])
    assert set(said["subject_types_supported"]) == {"public", "pairwise"}
    assert "RS256" in said["id_token_signing_alg_values_supported"]
    assert "RS256" in said["token_endpoint_auth_signing_alg_values_supported"]
    for name, value in said.items():
        assert value not in ([], None, ""), name
        assert not (name.endswith("_alg_values_supported") and "none" in value), name
        assert not (isinstance(value, list) and any(str(one).startswith("HS") for one in value)), name
    assert {"sub", "iss", "auth_time", "acr", "name", "email"} <= set(said["claims_supported"])


@pytest.mark.rules("core/10.2.1/cache", "disco/3/jwks-use", "disco/3/jwks-public", "fapi/5.4.2/3")
def test_keys_are_public_for_signatures_and_may_be_kept_for_a_time(world: World) -> None:
    answer = world.ask(Request("GET", "/jwks"))

    assert isinstance(answer, Response)
    keys = json.loads(answer.body)["keys"]
    assert {key["kty"] for key in keys} == {"EC", "RSA", "OKP"}
    assert len({key["kid"] for key in keys}) == len(keys)
    for key in keys:
        assert key["use"] == "sig"
        assert not {"d", "p", "q", "dp", "dq", "qi", "k", "x5c"} & key.keys()
    assert "max-age=" in dict(answer.headers)["Cache-Control"]


# -- texts are compared as they are -----------------------------------------------------------------------------------


@pytest.mark.rules("core/14/no-normalization", "disco/5/no-normalization")
def test_texts_are_never_normalized_before_they_are_compared(world: World) -> None:
    composed, apart = (
        unicodedata.normalize(form, "https://web.example/caf\u00e9") for form in ("NFC", "NFD")
    )
    register(
        world, client_id="web", redirect_uris=["https://web.example/cb", composed.replace("\u00e9", "%C3%A9")]
    )
    world.sign_in()

    for uri in (composed, apart, apart.replace("e\u0301", "e%CC%81")):
        assert isinstance(world.authorize(redirect_uri=uri), ErrorPage)
    assert answer_of(world.authorize(scope="\uff4fpenid roles"))["error"] == "invalid_scope"


@pytest.mark.rules("core/3.1.2.1/hint-missing")
def test_prompt_none_without_a_hint_succeeds_for_who_is_signed_in(world: World) -> None:
    world.sign_in()

    assert "code" in answer_of(world.authorize(prompt="none"))


@pytest.mark.rules("core/3.1.3.1/registered-method", "core/9/post", "core/12.1/authenticate")
def test_client_that_registered_post_cannot_use_basic_nor_the_other_way_round(world: World) -> None:
    register(world, client_id="web", token_endpoint_auth_method="client_secret_post")
    world.sign_in()
    code, uri = world.code(), "https://web.example/cb"
    in_the_body = {"client_id": "web", "client_secret": SECRET, "redirect_uri": uri}

    assert world.exchange(code).status == 401
    assert world.exchange(code, None, None, **in_the_body).status == 200
    assert world.exchange(code, None, None, **{**in_the_body, "client_id": "other"}).status == 401


@pytest.mark.rules("core/3.1.2.4/consent")
def test_untrusted_client_is_told_nothing_before_the_person_agreed(world: World) -> None:
    world.sign_in()

    answer = world.authorize("other")

    assert isinstance(answer, Interaction)
    assert answer.need is Need.CONSENT
    assert answer_of(world.authorize("other", prompt="none"))["error"] == "consent_required"


@pytest.mark.rules("core/16.15/issuer", "disco/3/issuer", "disco/4.3/issuer-same")
def test_metadata_and_id_token_name_the_same_issuer(world: World) -> None:
    world.sign_in()
    answer = world.ask(Request("GET", "/.well-known/openid-configuration"))

    assert isinstance(answer, Response)
    said = json.loads(answer.body)["issuer"]
    assert claims_of(world.tokens()["id_token"])["iss"] == said == ISSUER
    assert "?" not in said
    assert "#" not in said


@pytest.mark.parametrize(
    ("mode", "address", "expected"),
    [
        ("production", "https://login.example", []),
        ("production", "http://login.example", ["iam.E003"]),
        ("production", "http://localhost:8000", ["iam.E003"]),
        ("demo", "http://localhost:8000", []),
        ("demo", "http://login.example", ["iam.E003"]),
        ("production", "https://login.example/path", ["iam.E002"]),
        ("production", "https://login.example?x=1", ["iam.E002"]),
    ],
)
@pytest.mark.rules("disco/3/issuer-https")
def test_issuer_of_a_service_is_https_or_the_start_is_refused(
    mode: str, address: str, expected: list[str], settings
) -> None:
    settings.IAM_MODE, settings.IAM_ISSUER = mode, address

    assert sorted({message.id for message in checks.issuer(None)}) == expected


@pytest.mark.rules("core/3.1.2.2/hint-expired")
def test_id_token_hint_that_has_expired_is_a_good_hint(world: World) -> None:
    world.sign_in()
    hint = world.tokens()["id_token"]

    answer = world.later(minutes=50).authorize(id_token_hint=hint, prompt="none")

    assert "code" in answer_of(answer)


# -- rules of OAuth 2.0 that no other file holds ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/token", "/par", "/introspect", "/revoke", "/device_authorization"])
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
@pytest.mark.rules("rfc6749/3.2/post")
def test_endpoints_of_machines_take_posts_only(path: str, method: str, world: World) -> None:
    answer = world.ask(Request(method, path, query="grant_type=client_credentials"))

    assert isinstance(answer, Response)
    assert answer.status in {400, 401, 405}
    assert b"access_token" not in answer.body


@pytest.mark.rules("rfc6749/4.4.2/confidential")
def test_client_credentials_of_a_public_client_are_refused(world: World) -> None:
    response = world.post("/token", "public", None, grant_type="client_credentials", scope="demo.read")

    assert json.loads(response.body)["error"] in {"unauthorized_client", "invalid_client"}
    with pytest.raises(MetadataError, match="client_credentials"):
        register(world, client_id="public", grant_types=["client_credentials"])


@pytest.mark.rules("rfc6749/4.4.3/no-refresh")
def test_client_credentials_get_no_refresh_token(world: World) -> None:
    response = world.post("/token", "service", grant_type="client_credentials")

    assert set(json.loads(response.body)) == {"access_token", "token_type", "expires_in", "scope"}


@pytest.mark.rules("rfc6750/2/one-way")
def test_userinfo_token_sent_twice_is_refused(world: World) -> None:
    world.sign_in()
    token = world.tokens()["access_token"]
    body = urlencode({"access_token": token}).encode()

    answer = posted(world, body, f"Bearer {token}")

    assert answer.status == 400
    assert 'error="invalid_request"' in dict(answer.headers)["WWW-Authenticate"]


@pytest.mark.rules("rfc9068/2.2/claims", "rfc9068/2.2.1/sign-in")
def test_access_token_has_what_every_resource_server_needs(world: World) -> None:
    session = world.sign_in()
    world.later(seconds=7)

    said = claims_of(world.tokens(scope="openid demo.read")["access_token"])

    at = int(world.now.timestamp())
    assert (said["iss"], said["sub"], said["client_id"]) == (ISSUER, world.person.sub, "web")
    assert (said["iat"], said["exp"], said["auth_time"]) == (
        at,
        at + 300,
        int(session.password_at.timestamp()),
    )
    assert (said["acr"], said["amr"], said["scope"]) == ("aal2", ["pwd", "otp", "mfa"], "openid demo.read")
    assert said["aud"] == ["resource", ISSUER]
    assert said["jti"] != claims_of(world.tokens(scope="openid demo.read")["access_token"])["jti"]


@pytest.mark.rules("rfc9207/2.3/metadata", "rfc9700/2.1.1/detect")
def test_metadata_says_what_protects_a_request(world: World) -> None:
    answer = world.ask(Request("GET", "/.well-known/openid-configuration"))

    assert isinstance(answer, Response)
    said = json.loads(answer.body)
    assert said["authorization_response_iss_parameter_supported"] is True
    assert said["code_challenge_methods_supported"] == ["S256"]


@pytest.mark.rules("rfc9700/2.6/client-id")
def test_client_that_is_named_like_a_person_is_refused(world: World) -> None:
    with pytest.raises(MetadataError, match="person"):
        apply_all(
            [{"client_id": world.person.sub, "redirect_uris": ["https://app.example/cb"], "scope": "openid"}],
            world.now, "system:test",
        )  # fmt: skip
