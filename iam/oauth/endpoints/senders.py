"""Which key the sender of a request holds: where tokens are made, and where they are used.

Every request that brings or needs a proof comes through here, so no grant and no resource reads a proof itself.
Spec: RFC 9449 §5, §7, §10; RFC 8705 §3. Why so: docs/adr/0025.
"""

from dataclasses import dataclass
from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.dpop import InvalidProof, check_proof
from iam.oauth.protocol.errors import BearerError, OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request
from iam.oauth.protocol.mtls import certificate_thumbprint
from iam.oauth.protocol.parameters import parse_form

# Answers to a DPoP request at these carry the nonce to use next (RFC 9449 §8.2, §9).
PROVING = frozenset({"/token", "/par", "/userinfo"})


def proved_sender(request: Request, state: State, client: ClientFacts, now: datetime) -> Binding:
    """Return the key that the tokens of this request are bound to, having used up its proof.

    Raises: InvalidProof, NonceNeeded, OAuthError invalid_request: what the client's registration demands is missing.
    """
    by_certificate = client.options.tls_client_certificate_bound_access_tokens and request.certificate
    sender = Binding(
        proved_key(request, state, client, now) if request.dpop else "",
        certificate_thumbprint(request.certificate) if by_certificate else "",
    )
    issuance.require_binding(client, sender)  # here too, so that no code is consumed in vain
    return sender


def proved_key(
    request: Request, state: State, client: ClientFacts, now: datetime, access_token: str | None = None
) -> str:
    """Check the DPoP proof of a request, use it up, and return the thumbprint of its key.

    Raises: InvalidProof, NonceNeeded. Spec: RFC 9449 §4.3, §11.1.
    """
    proof = check_proof(
        request.dpop,
        method=request.method,
        addresses=[base + request.path for base in (state.issuer, state.certificate_address) if base],
        nonce_key=state.nonce_key,
        nonce_required=client.options.profile == "high",
        access_token=access_token,
        now=now,
    )
    # The key is part of the name, so that nobody can use up the jti of somebody else.
    if not state.store.use_once("dpop", f"{proof.jkt}\0{proof.jti}", proof.expires_at):
        raise InvalidProof("This proof was used before.", reason="dpop_replayed")
    return proof.jkt


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as it came: `scheme` is "Bearer" or "DPoP"."""

    scheme: str
    unverified_token: str


def presented_bearer(request: Request, state: State, now: datetime) -> issuance.BearerToken:
    """Return what the token of a request to a resource stands for, its sender having proved its key.

    Raises: BearerError, also when it is not, or no longer, one of ours.
    """
    presented = presented_token(request)
    bearer = issuance.known_bearer(state, presented.unverified_token, now)
    if bearer is None:
        raise BearerError(
            "invalid_token",
            "The access token is not, or no longer, valid here.",
            status=401,
            scheme=presented.scheme,
        )
    _require_key(request, state, presented, bearer, now)
    return bearer


def _require_key(
    request: Request, state: State, presented: Presented, bearer: issuance.BearerToken, now: datetime
) -> None:
    """Refuse whoever does not hold the key that the token is bound to.

    Raises: BearerError. Spec: RFC 9449 §7.1, §7.2 (a bound token sent as Bearer is refused), RFC 8705 §3.
    """
    scheme, binding = presented.scheme, bearer.binding
    if (scheme == "DPoP") != bool(binding.jkt):
        description = (
            "This token is bound to a key: send it as DPoP, with a proof."
            if binding.jkt
            else "This token is not bound to a DPoP key: send it as Bearer."
        )
        raise BearerError("invalid_token", description, status=401, scheme=scheme, reason="dpop_scheme")
    proved = Binding(
        _key_at_resource(request, state, presented, bearer.clearance.client, now) if binding.jkt else "",
        certificate_thumbprint(request.certificate) if binding.x5t and request.certificate else "",
    )
    if not binding.is_met_by(proved):
        raise BearerError(
            "invalid_token",
            "This token is bound to another key than the sender's.",
            status=401,
            scheme=scheme,
            reason="binding_mismatch",
        )


def _key_at_resource(
    request: Request, state: State, presented: Presented, client: ClientFacts, now: datetime
) -> str:
    try:
        return proved_key(request, state, client, now, presented.unverified_token)
    except OAuthError as problem:
        raise BearerError(
            problem.error, problem.description, status=401, scheme="DPoP", reason=problem.reason
        ) from problem


def named_client(request: Request, state: State) -> str:
    """Return the client whose access token, good or not any more, came with a request; "" when none can be told.

    For the count of refusals, which the client's owner may read; nothing is let in by it.
    """
    try:
        presented = presented_token(request)
    except OAuthError:
        return ""
    return issuance.client_named_by(state, presented.unverified_token)


def presented_token(request: Request) -> Presented:
    """Return the token of the header or the form; one in the query is never read (RFC 9700 §4.3.2).

    Raises: BearerError: none was sent (no code), or two were (RFC 6750 §2, §3.1; RFC 9449 §7.1).
    """
    if request.method not in {"GET", "POST"}:
        raise BearerError("invalid_request", "Use GET or POST.", status=405)
    found = []
    scheme, _, value = request.authorization.partition(" ")
    named = {"bearer": "Bearer", "dpop": "DPoP"}.get(scheme.lower())
    if named and value.strip():
        found.append(Presented(named, value.strip()))
    if request.method == "POST" and request.content_type.startswith("application/x-www-form-urlencoded"):
        form = parse_form(request)
        if "access_token" in form.doubled:
            raise BearerError("invalid_request", "access_token was given twice.")
        if "access_token" in form:
            found.append(Presented("Bearer", form["access_token"]))
    if len(found) > 1:
        raise BearerError("invalid_request", "Send the token once, in one way.")
    if not found:
        raise BearerError("", "", status=401)
    return found[0]
