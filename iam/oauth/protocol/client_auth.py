"""Authenticate a client. Pure but for the look-ups that are handed in.

Spec: RFC 6749 §2.3, §3.2.1; RFC 7523 §2.2, §3; OIDC Core §9; RFC 8705 §2; FAPI 2.0 §5.3.2.1.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import unquote_plus

from . import assertions, mtls
from .assertions import Assertion, BadAssertion, Expected
from .errors import InvalidClient, OAuthError
from .jose import FOREIGN_ALGORITHMS, names_of
from .messages import ClientFacts, Request
from .parameters import Parameters
from .profiles import HIGH_FOREIGN_ALGORITHMS

SECRET_METHODS = ("client_secret_basic", "client_secret_post")
CERTIFICATE_METHODS = ("tls_client_auth", "self_signed_tls_client_auth")
# client_secret_jwt never: its secret would have to be kept in clear.
METHODS = (*SECRET_METHODS, "private_key_jwt", *CERTIFICATE_METHODS, "none")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# What a request may say of its client; only these are judged before the client is known.
PARAMETERS = ("client_id", "client_secret", "client_assertion", "client_assertion_type")
_TYPES = frozenset({"client-authentication+jwt"})
_UNIFORM = "Unknown client, or wrong client authentication."

# Public keys printed in RFC 7515 A.2, A.3 and RFC 8037 A.2. An unknown client's assertion is checked with them, and
# refused whatever comes out: the time of the answer does not tell which clients exist.
_DECOYS: tuple[Mapping[str, Any], ...] = (  # Any: JWKs
    {
        "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    },
    {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {
        "kty": "RSA", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR"
        "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-U"
        "To7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM"
        "Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    },
)  # fmt: skip


class Registered(Protocol):
    """What is known of clients, asked while one is authenticated; the engine's `State` is one."""

    issuer: str

    def secret_digest(self, secret: str) -> str:
        """Return the keyed digest under which a client secret is stored."""

    def client_keys(self, client: ClientFacts, kid: str) -> tuple[Mapping[str, Any], ...]:
        """Return a client's public keys; `kid` is the one that is looked for."""

    def trusts_certificate(self, certificate: str, now: datetime) -> bool:
        """Say whether an authority that we trust for clients issued a certificate, and it is valid now."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request says of its client, not yet believed. `method` none: it says a name, and no more in its form."""

    client_id: str
    unverified_secret: str | None
    method: str
    assertion: Assertion | None = None


def read_credentials(authorization: str, form: Parameters) -> Credentials:
    """Read who the client says it is.

    Raises: OAuthError invalid_request when it says so twice (RFC 6749 §2.3: one method a request),
    InvalidClient when it does not say, or when its assertion cannot be read.
    """
    in_body = "client_secret" in form
    asserted = "client_assertion" in form or "client_assertion_type" in form
    if (bool(authorization), in_body, asserted).count(True) > 1:
        raise OAuthError(
            "invalid_request", "Use one client authentication method, not two.", reason="two_methods"
        )
    if authorization:
        credentials = _basic(authorization)
        if form.get("client_id", credentials.client_id) != credentials.client_id:
            raise OAuthError(
                "invalid_request", "client_id differs from the Authorization header.", reason="mismatch"
            )
        return credentials
    if asserted:
        return _asserted(form)
    client_id = form.get("client_id")
    if client_id is None:
        raise InvalidClient("The client did not say who it is.", reason="no_client")
    if in_body:
        return Credentials(client_id, form["client_secret"], "client_secret_post")
    return Credentials(client_id, None, "none")


def _basic(authorization: str) -> Credentials:
    """Read a Basic header, whose two halves are form-encoded. Spec: RFC 6749 §2.3.1, RFC 7617 §2."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic" or len(value) > 2000:
        raise InvalidClient("The Authorization header is not a Basic header.", reason="bad_header")
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as problem:
        raise InvalidClient("The Basic header is not base64 of UTF-8.", reason="bad_header") from problem
    name, separator, secret = decoded.partition(":")
    if not separator or "\0" in decoded:
        raise InvalidClient("The Basic header has no colon.", reason="bad_header")
    return Credentials(unquote_plus(name), unquote_plus(secret), "client_secret_basic")


def _asserted(form: Parameters) -> Credentials:
    """Read a client assertion; its `iss` and `sub` are the client. Spec: RFC 7521 §4.2, RFC 7523 §2.2, §3 (1, 2)."""
    if "client_assertion" not in form or "client_assertion_type" not in form:
        raise OAuthError("invalid_request", "client_assertion and client_assertion_type go together.")
    if form["client_assertion_type"] != ASSERTION_TYPE:
        raise InvalidClient(f"client_assertion_type must be {ASSERTION_TYPE}.", reason="assertion_type")
    try:
        assertion = assertions.read(form["client_assertion"])
    except BadAssertion as problem:
        raise InvalidClient(str(problem), reason=problem.reason) from problem
    client_id = assertion.unverified_subject
    if not client_id or assertion.unverified_issuer != client_id:
        raise InvalidClient(
            "The assertion's iss and sub must both be the client_id.", reason="assertion_issuer"
        )
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id differs from the assertion's sub.", reason="mismatch")
    return Credentials(client_id, None, "private_key_jwt", assertion)


def authenticate(
    credentials: Credentials, client: ClientFacts | None, request: Request, known: Registered, now: datetime
) -> ClientFacts:
    """Return the client if it is who it says, by the one method that it is registered for.

    An assertion is good here, and still to be used up: the caller owes `store.use_once`.
    Raises: InvalidClient, with the same text for an unknown client, a wrong proof and a disabled client.
    """
    if credentials.assertion is not None:
        reason = _problem_with_assertion(credentials.assertion, client, request, known, now)
    else:
        # The digest is taken also for an unknown client, so that the answer's time does not tell which it was.
        digest = known.secret_digest(credentials.unverified_secret or "")
        reason = _problem_with_proof(credentials, digest, client, request, known, now)
    if client is None:
        raise InvalidClient(_UNIFORM, reason="unknown_client")
    if reason:
        raise InvalidClient(_UNIFORM, reason=reason)
    if not client.enabled:
        raise InvalidClient(_UNIFORM, reason="client_disabled")
    return client


def _problem_with_proof(
    credentials: Credentials,
    digest: str,
    client: ClientFacts | None,
    request: Request,
    known: Registered,
    now: datetime,
) -> str:
    """Return why a secret, a certificate or a mere name does not prove the client, or ""."""
    if client is None:
        return "unknown_client"
    if client.auth_method in CERTIFICATE_METHODS and credentials.method == "none":
        return _problem_with_certificate(request.certificate, client, known, now)
    if credentials.method != client.auth_method:
        return "wrong_method"
    if client.auth_method != "none" and not (
        hmac.compare_digest(digest, client.secret_digest) or is_old_secret(digest, client, now)
    ):
        return "wrong_secret"
    return ""


def is_old_secret(digest: str, client: ClientFacts, now: datetime) -> bool:
    """Say whether this is the digest of the secret before the present one, and its time is not over."""
    until = client.old_secret_expires_at
    return until is not None and now < until and hmac.compare_digest(digest, client.old_secret_digest)


def _problem_with_certificate(certificate: str, client: ClientFacts, known: Registered, now: datetime) -> str:
    """Return why a certificate does not prove the client, or "". Spec: RFC 8705 §2.1, §2.2."""
    if not certificate:
        return "no_certificate"
    if client.auth_method == "self_signed_tls_client_auth":
        return "" if mtls.has_key(certificate, known.client_keys(client, "")) else "wrong_certificate"
    named = [(field, getattr(client.options, field)) for field in mtls.SUBJECT_FIELDS]
    expected = [(field, value) for field, value in named if value]
    if len(expected) != 1 or not mtls.has_subject(certificate, *expected[0]):
        return "wrong_certificate"
    return "" if known.trusts_certificate(certificate, now) else "untrusted_certificate"


def _problem_with_assertion(
    assertion: Assertion, client: ClientFacts | None, request: Request, known: Registered, now: datetime
) -> str:
    """Return why an assertion does not prove the client, or "".

    Raises: InvalidClient for what is wrong whoever sent it, in words that help its developer.
    """
    high = client is not None and client.options.profile == "high"
    try:
        assertions.judge(assertion, _expected(known.issuer, request.path, high=high), now)
    except BadAssertion as problem:
        raise InvalidClient(str(problem), reason=problem.reason) from problem
    usable = client is not None and client.auth_method == "private_key_jwt"
    keys = known.client_keys(client, assertion.kid) if client is not None and usable else _DECOYS
    try:
        assertions.verify(
            assertion, keys, allowed_algorithms(client) if client is not None else FOREIGN_ALGORITHMS
        )
    except BadAssertion as problem:
        return problem.reason if usable and keys else "no_client_keys" if usable else "wrong_method"
    return "" if usable else "wrong_method"


def _expected(issuer: str, path: str, *, high: bool) -> Expected:
    """Return what a client assertion must say.

    Spec: FAPI 2.0 §5.3.2.1 (the issuer as a string); OIDC Core §9 (the token endpoint's address);
    RFC 9126 §2 (the issuer, the token endpoint's or that endpoint's address).
    """
    audiences = {issuer} if high else {issuer, f"{issuer}/token", f"{issuer}{path}"}
    return Expected(frozenset(audiences), _TYPES, list_allowed=not high)


def allowed_algorithms(client: ClientFacts) -> tuple[str, ...]:
    """Return the algorithms with which this client may sign its assertions."""
    only = client.options.token_endpoint_auth_signing_alg
    allowed = HIGH_FOREIGN_ALGORITHMS if client.options.profile == "high" else FOREIGN_ALGORITHMS
    return tuple(algorithm for algorithm in allowed if not only or algorithm in names_of(only))
