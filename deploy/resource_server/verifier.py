"""Verify an access token of the sign-in service offline, with what was proved beside it, and what this request needs.

What cannot be seen offline: that a session ended, a right was taken or a client was switched off less than a token's
life ago, five minutes. Where that matters, ask the service's introspection as well.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .challenge import Challenge, header
from .jws import ALGORITHMS, BadToken, check_signature, split
from .keys import KeySource, Unavailable, check_address
from .proofs import (
    PROOF_SECONDS,
    BadProof,
    MemoryReplayStore,
    Nonces,
    ReplayStore,
    certificate_thumbprint,
    read_proof,
)
from .tokens import OfficesAbove, Token, read_token

ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})  # RFC 9068 §4
WELL_KNOWN = "/.well-known/oauth-protected-resource"
RETRY_SECONDS = 10
# RFC 6750 §2.1, RFC 9449 §7.1. Two headers arrive joined by a comma, and do not match.
_AUTHORIZATION = re.compile(r"([A-Za-z]+) +([A-Za-z0-9\-._~+/]+=*)", re.ASCII)
_WORD = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+", re.ASCII)
_CONFIRMATIONS = frozenset({"jkt", "x5t#S256"})


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request must bring beyond a valid token.

    `acr`: the lowest level of the sign-in. `max_age`: how many seconds ago it may have been at most. `role`: a role that
    must be held, in `office` if one is named. `person`: no machine.
    """

    scopes: tuple[str, ...] = ()
    acr: str = ""
    max_age: int | None = None
    role: str = ""
    office: str = ""
    person: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be met, or not be sent in a header. Raises: ValueError."""
        for word in (*self.scopes, *filter(None, [self.acr])):
            if not _WORD.fullmatch(word):
                raise ValueError(f"{word!r} cannot stand in a challenge")
        if self.max_age is not None and self.max_age < 0:
            raise ValueError("max_age must not be negative")
        if self.office and not self.role:
            raise ValueError("an office needs a role to be held there")


NOTHING = Needs()


class Verifier:
    """Verifies requests to one protected resource. Make one for the process; threads share it."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        resource: str,
        *,
        jwks_uri: str = "",
        algorithms: Collection[str] = ("ES256",),
        proof_algorithms: Collection[str] = ("ES256", "PS256", "EdDSA", "Ed25519"),
        leeway_seconds: float = 10,
        require_dpop: bool = False,
        require_certificate: bool = False,
        replay: ReplayStore | None = None,
        nonces: Nonces | None = None,
        offices_above: OfficesAbove | None = None,
        scopes_supported: Collection[str] = (),
        name: str = "",
        documentation: str = "",
        keys: KeySource | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the settings; nothing is fetched yet.

        In: `audience` is your client id or resource address at the service, as `aud` names it; `resource` is the address under
        which clients reach you, without a slash at the end: the host of a request is never believed. `offices_above` returns
        the codes of the offices above one. Raises: ValueError for a setting that is unsafe or makes no sense.
        """
        for algorithm in (*algorithms, *proof_algorithms):
            if algorithm not in ALGORITHMS:
                raise ValueError(f"{algorithm!r} is not one of {', '.join(ALGORITHMS)}")
        if not audience or not algorithms or audience == issuer:
            raise ValueError("an audience of your own and an algorithm are needed")
        self.issuer, self.audience = issuer, audience
        self.resource = check_address(resource).rstrip("/")
        parts = urlsplit(self.resource)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.metadata_path = WELL_KNOWN + parts.path
        self.nonces = nonces
        self._algorithms, self._proof_algorithms = tuple(algorithms), tuple(proof_algorithms)
        self._leeway, self._clock = leeway_seconds, clock
        self._require_dpop, self._require_certificate = require_dpop, require_certificate
        self._replay = replay or MemoryReplayStore()
        self._offices_above = offices_above
        self._described = {"resource_name": name, "resource_documentation": documentation}
        self._scopes_supported = tuple(scopes_supported)
        self._keys = keys or KeySource(issuer, jwks_uri)

    # -- what an application calls --------------------------------------------------------------------------------

    def verify(
        self,
        authorization: str,
        method: str,
        url: str,
        dpop: str = "",
        certificate: bytes = b"",
        needs: Needs = NOTHING,
    ) -> Token:
        """Return the token of a request that may go on.

        In: `authorization` and `dpop` are the headers' values, "" when they were not sent and joined by a comma when there were
        several; `url` is the address as the client knows it; `certificate` is the DER of the connection's client certificate.
        Raises: Challenge. Spec: RFC 9068 §4, RFC 6750 §2.1, RFC 9449 §7, RFC 8705 §3, RFC 9470 §3.
        """
        now = self._clock()
        scheme, text = self._presented(authorization)
        try:
            claims = self._claims(text, now)
            confirmation = _confirmation(claims)
        except BadToken as problem:
            raise self._invalid(scheme, f"The access token is not acceptable here: {problem}.") from problem
        except Unavailable as problem:
            raise Challenge(
                503, "temporarily_unavailable", "The keys of the sign-in service cannot be had just now.",
                [("Retry-After", str(RETRY_SECONDS))],
            ) from problem  # fmt: skip
        bound = self._prove(scheme, text, confirmation, method, url, dpop, certificate, now)
        try:
            token = read_token(claims, bound)
        except BadToken as problem:
            raise self._invalid(scheme, f"The access token is not acceptable here: {problem}.") from problem
        self._check_needs(scheme, token, needs, now)
        return token

    def metadata(self) -> dict[str, Any]:  # Any: JSON
        """Return the metadata of the resource, to be served at `metadata_path`. Spec: RFC 9728 §2."""
        document: dict[str, Any] = {
            "resource": self.resource,
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": list(self._proof_algorithms),
            **{name: value for name, value in self._described.items() if value},
        }
        if self._scopes_supported:
            document["scopes_supported"] = list(self._scopes_supported)
        if self._require_dpop:
            document["dpop_bound_access_tokens_required"] = True
        if self._require_certificate:
            document["tls_client_certificate_bound_access_tokens"] = True
        return document

    # -- the token ------------------------------------------------------------------------------------------------

    def _presented(self, authorization: str) -> tuple[str, str]:
        """Return the scheme ("Bearer" or "DPoP") and the token; one in a query or a body is never read (A20)."""
        found = _AUTHORIZATION.fullmatch(authorization.strip(" \t"))
        scheme = {"bearer": "Bearer", "dpop": "DPoP"}.get(found[1].lower()) if found else None
        if found is None or scheme is None:
            if authorization.split(" ", 1)[0].lower() not in {"bearer", "dpop"}:
                raise self._challenge(401, "", "", self._schemes())
            raise self._challenge(
                400, "invalid_request", "The Authorization header cannot be read.", self._schemes()
            )
        return scheme, found[2]

    def _claims(self, text: str, now: float) -> Mapping[str, Any]:  # Any: JSON
        """Return the claims of a token that is the issuer's, for us, an access token, and in force. Raises: BadToken, Unavailable."""
        signed = split(text)
        typ, kid = signed.header.get("typ"), signed.header.get("kid")
        if not isinstance(typ, str) or typ.lower() not in ACCESS_TOKEN_TYPES:
            raise BadToken("its type is not at+jwt")
        if signed.header.get("alg") not in self._algorithms or not isinstance(kid, str):
            raise BadToken("its algorithm is not allowed, or it names no key")
        key = self._keys.key(kid)
        if key is None:
            raise BadToken("it was signed with an unknown key")
        claims = check_signature(signed, key, self._algorithms)
        if claims.get("iss") != self.issuer:
            raise BadToken("it has another issuer")
        audiences = claims.get("aud")
        if self.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise BadToken("it was made for another audience")
        expires, issued, begins = _number(claims, "exp"), _number(claims, "iat"), claims.get("nbf")
        if expires is None or now >= expires + self._leeway:
            raise BadToken("it has expired")
        if issued is None or issued > now + self._leeway:
            raise BadToken("it was made in the future")
        if begins is not None and ((starts := _number(claims, "nbf")) is None or starts > now + self._leeway):
            raise BadToken("it is not in force yet")
        return claims

    # -- what was proved beside it ----------------------------------------------------------------------------------

    def _prove(
        self,
        scheme: str,
        text: str,
        confirmation: Mapping[str, str],
        method: str,
        url: str,
        dpop: str,
        certificate: bytes,
        now: float,
    ) -> tuple[str, ...]:
        """Return what was proved. Raises: Challenge, when the token asks for more, or this resource does."""
        jkt, x5t = confirmation.get("jkt"), confirmation.get("x5t#S256")
        if jkt is not None and scheme != "DPoP":  # RFC 9449 §7.2: no downgrade
            raise self._challenge(
                401,
                "invalid_token",
                "The token is bound to a key: use the DPoP scheme and send a proof.",
                ("DPoP",),
            )
        if jkt is None and (scheme == "DPoP" or self._require_dpop):
            raise self._challenge(
                401, "invalid_token", "The token is not bound to a DPoP key.", self._schemes()
            )
        if x5t is None and self._require_certificate:
            raise self._invalid(scheme, "The token is not bound to a client certificate.")
        if x5t is not None and (not certificate or certificate_thumbprint(certificate) != x5t):
            raise self._invalid(scheme, "The token is bound to another client certificate.")
        if jkt is not None:
            self._prove_key(jkt, text, method, url, dpop, now)
        return tuple(name for name, value in (("dpop", jkt), ("mtls", x5t)) if value is not None)

    def _prove_key(self, jkt: str, text: str, method: str, url: str, dpop: str, now: float) -> None:
        if not dpop:
            raise self._bad_proof("A DPoP proof is needed.", now)
        try:
            proof = read_proof(
                dpop, method=method, url=url, token=text, algorithms=self._proof_algorithms, leeway=self._leeway, now=now
            )  # fmt: skip
        except BadProof as problem:
            raise self._bad_proof(f"The DPoP proof is not acceptable: {problem}.", now) from problem
        if proof.jkt != jkt:
            raise self._invalid("DPoP", "The token is bound to another key than the proof's.")
        if self.nonces is not None and not self.nonces.accepts(proof.nonce, now):
            raise self._challenge(
                401, "use_dpop_nonce", "Send the proof again with this nonce.", ("DPoP",),
                more=[("DPoP-Nonce", self.nonces.issue(now))],
            )  # fmt: skip
        # With the key in it, so that nobody can use up an identifier for somebody else.
        if not self._replay.use(f"{proof.jkt}:{proof.jti}", 2 * PROOF_SECONDS + self._leeway):
            raise self._bad_proof("The DPoP proof was used before.", now)

    def _bad_proof(self, description: str, now: float) -> Challenge:
        more = [("DPoP-Nonce", self.nonces.issue(now))] if self.nonces else []
        return self._challenge(401, "invalid_dpop_proof", description, ("DPoP",), more=more)

    # -- what the request needs -------------------------------------------------------------------------------------

    def _check_needs(self, scheme: str, token: Token, needs: Needs, now: float) -> None:
        """Spec: RFC 6750 §3.1 (insufficient_scope), RFC 9470 §3 (insufficient_user_authentication)."""
        if not set(needs.scopes) <= token.scopes:
            raise self._challenge(
                403,
                "insufficient_scope",
                "The token lacks a scope.",
                (scheme,),
                [("scope", " ".join(needs.scopes))],
            )
        if (needs.person or needs.role) and not token.is_person:
            raise self._challenge(
                403, "insufficient_scope", "Nobody is signed in behind this token.", (scheme,)
            )
        if not self._is_fresh_and_strong(token, needs, now):
            age = "" if needs.max_age is None else str(needs.max_age)
            raise self._challenge(
                401, "insufficient_user_authentication", "A stronger or more recent sign-in is needed.", (scheme,),
                [("acr_values", needs.acr), ("max_age", age)],
            )  # fmt: skip
        if needs.role:
            above = self._offices_above(needs.office) if self._offices_above and needs.office else ()
            if not token.has_role(needs.role, needs.office, above):
                where = f" in {needs.office}" if needs.office else ""
                raise self._challenge(
                    403, "insufficient_scope", f"The role {needs.role}{where} is needed.", (scheme,)
                )

    def _is_fresh_and_strong(self, token: Token, needs: Needs, now: float) -> bool:
        if needs.acr and not token.reaches(needs.acr):
            return False
        if needs.max_age is None:
            return True
        return (
            token.auth_time is not None and now - token.auth_time.timestamp() <= needs.max_age + self._leeway
        )

    # -- refusals ---------------------------------------------------------------------------------------------------

    def _schemes(self) -> tuple[str, ...]:
        return ("DPoP",) if self._require_dpop else ("Bearer", "DPoP")

    def _invalid(self, scheme: str, description: str) -> Challenge:
        return self._challenge(401, "invalid_token", description, (scheme,))

    def _challenge(
        self,
        status: int,
        error: str,
        description: str,
        schemes: tuple[str, ...],
        parameters: Collection[tuple[str, str]] = (),
        more: Collection[tuple[str, str]] = (),
    ) -> Challenge:
        """Build a refusal: one WWW-Authenticate header a scheme, each with where the resource describes itself."""
        common = [
            ("error", error),
            ("error_description", description),
            *parameters,
            ("resource_metadata", self.origin + self.metadata_path),
        ]
        offered = [
            header(
                scheme, [*common, ("algs", " ".join(self._proof_algorithms))] if scheme == "DPoP" else common
            )
            for scheme in schemes
        ]
        return Challenge(status, error, description, [*offered, *more])


def _number(claims: Mapping[str, Any], name: str) -> float | None:  # Any: JSON
    value = claims.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _confirmation(claims: Mapping[str, Any]) -> Mapping[str, str]:  # Any: JSON
    """Return `cnf`; {} when the token is bound to nothing.

    Raises: BadToken for a binding that is not understood: to leave it out would be to take the lock away. Spec: RFC 7800 §3.1.
    """
    if "cnf" not in claims:
        return {}
    found = claims["cnf"]
    if not isinstance(found, dict) or not found or not found.keys() <= _CONFIRMATIONS:
        raise BadToken("it is bound to a key in a way that is not understood")
    if not all(isinstance(value, str) and value for value in found.values()):
        raise BadToken("it is bound to a key that cannot be read")
    return found
