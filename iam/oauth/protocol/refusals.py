"""What each reason of a refusal means, for the developer of the client that was refused. Pure.

One row a reason: the registered error code that was sent, and one line of advice. A reason without a row fails the
build (tests/meta/test_refusals.py). No line here or anywhere near it names a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explained:
    """The error that was sent, "" for none, and what to do about it."""

    error: str
    advice: str


_REQUEST = "invalid_request"
_CLIENT = "invalid_client"
_GRANT = "invalid_grant"
_SCOPE = "invalid_scope"
_TARGET = "invalid_target"
_DENIED = "access_denied"
_DETAILS = "invalid_authorization_details"
_PROOF = "invalid_dpop_proof"
_TOKEN = "invalid_token"  # noqa: S105 -- an error's name
_OBJECT = "invalid_request_object"
_METADATA = "invalid_client_metadata"

_ROWS: Mapping[str, tuple[str, str]] = {
    # the request as such
    "invalid_request": (_REQUEST, "A parameter is missing or wrong; error_description of the answer names it."),
    "method": (_REQUEST, "The HTTP method is not one of this address; most endpoints take POST only."),
    "content_type": (_REQUEST, "Send Content-Type application/x-www-form-urlencoded (application/json to register)."),
    "too_large": (_REQUEST, "The request is larger than 64 KB, or has more than 64 parameters."),
    "doubled": (_REQUEST, "A parameter was sent twice."),
    "unusable": (_REQUEST, "A parameter is longer than 8 KB, or not UTF-8 text."),
    # who the client is
    "invalid_client": (_CLIENT, "The client could not be told from anybody else: check client_id and how it authenticates."),
    "no_client": (_CLIENT, "The request names no client: send client_id, an Authorization header or an assertion."),
    "unknown_client": (_CLIENT, "There is no client of this name here."),
    "client_disabled": ("unauthorized_client", "The client is switched off here; its owner or an operator did that."),
    "wrong_secret": (_CLIENT, "The client secret is not the current one."),
    "wrong_method": (_CLIENT, "The client authenticated in another way than token_endpoint_auth_method says."),
    "two_methods": (_REQUEST, "The client authenticated in two ways at once: use one."),
    "mismatch": (_REQUEST, "client_id in the form differs from the one that authenticated."),
    "bad_header": (_CLIENT, "The Authorization header is not Basic with base64 of CLIENT_ID:SECRET, each form-encoded."),
    "public_client": ("unauthorized_client", "A public client cannot do this: anybody could use its name."),
    "no_certificate": (_CLIENT, "No client certificate arrived: connect with the registered one, through the service's own proxy."),
    "wrong_certificate": (_CLIENT, "The client certificate is not the registered one."),
    "untrusted_certificate": (_CLIENT, "The client certificate has expired, or no trusted authority signed it."),
    "no_client_keys": (_CLIENT, "The client's keys cannot be had: check that jwks_uri answers, or register jwks."),
    "bad_assertion": (_CLIENT, "client_assertion is not a signed JWT in compact form."),
    "assertion_type": (_CLIENT, "client_assertion_type or the assertion's typ is not the one for JWT assertions."),
    "assertion_algorithm": (_CLIENT, "The assertion was signed with an algorithm that is not allowed."),
    "assertion_signature": (_CLIENT, "No registered key of the client signed the assertion."),
    "assertion_issuer": (_CLIENT, "iss and sub of the assertion must both be the client_id."),
    "assertion_audience": (_CLIENT, "aud of the assertion must be this issuer."),
    "assertion_expired": (_CLIENT, "The assertion has expired: make a new one for each request, and check the clock."),
    "assertion_time": (_CLIENT, "exp, iat or nbf of the assertion is missing, in the future or too far ahead."),
    "assertion_jti": (_CLIENT, "The assertion needs a jti that is new each time."),
    "assertion_replayed": (_CLIENT, "The assertion was used before: make a new one for each request."),
    # authorization requests
    "redirect_uri": (_REQUEST, "redirect_uri is missing, or not exactly one that is registered for the client."),
    "unauthorized_client": ("unauthorized_client", "The client is not registered for this grant type or endpoint."),
    "unsupported_response_type": ("unsupported_response_type", "response_type must be code."),
    "request_not_supported": ("request_not_supported", "A request object was sent where none is taken."),
    "request_uri_not_supported": ("request_uri_not_supported", "request_uri must be one that this service gave after a push."),
    "registration_not_supported": ("registration_not_supported", "The parameter registration is not taken."),
    "invalid_request_uri": ("invalid_request_uri", "The pushed request is unknown, was used before, or is older than 90 s."),
    "request_uri": (_REQUEST, "A pushed request cannot itself name a request_uri."),
    "not_pushed": (_REQUEST, "The client must push its requests (/par) before it sends people here."),
    "not_signed": (_REQUEST, "The client must send its requests as a signed object."),
    "response_mode": (_REQUEST, "response_mode is not one that this client may use."),
    "claims": (_REQUEST, "claims is not JSON of the form that OIDC Core §5.5 gives it."),
    "prompt": (_REQUEST, "prompt has an unknown value, or none together with another."),
    "max_age": (_REQUEST, "max_age must be a number of seconds."),
    "hint": (_REQUEST, "id_token_hint is not an ID token that this service made for this client."),
    "pkce_missing": (_REQUEST, "code_challenge (S256) is missing."),
    "pkce_method": (_REQUEST, "code_challenge_method must be S256."),
    "pkce_malformed": (_REQUEST, "code_challenge or code_verifier is not 43 to 128 of the allowed characters."),
    "profile": ("unauthorized_client", "The client's profile forbids this; `client check` says what is missing."),
    "server_error": ("server_error", "Something failed here; the operators see why."),
    "temporarily_unavailable": ("temporarily_unavailable", "Something that is needed does not answer just now; try again."),
    # request objects
    "invalid_request_object": (_OBJECT, "The request object cannot be taken; error_description says why."),
    "object_typ": (_OBJECT, "typ of the request object must be oauth-authz-req+jwt."),
    "object_issuer": (_OBJECT, "iss and client_id in the request object must both be the client."),
    "object_audience": (_OBJECT, "aud of the request object must be this issuer."),
    "object_subject": (_OBJECT, "The request object must not have the client as its sub."),
    "object_nested": (_OBJECT, "A request object must not name another one."),
    "object_signature": (_OBJECT, "No registered key of the client signed the request object with an allowed algorithm."),
    "object_encrypted": (_OBJECT, "Encrypted request objects are not taken."),
    "object_expired": (_OBJECT, "The request object has expired."),
    "object_future": (_OBJECT, "The request object is not in force yet: check the clock."),
    "object_times": (_OBJECT, "exp or nbf of the request object is missing or out of bounds."),
    "object_null": (_OBJECT, "A parameter in the request object is null or of the wrong type."),
    # what the person's side decided
    "access_denied": (_DENIED, "Access was refused, by the person or by a rule."),
    "login_required": ("login_required", "prompt=none, and somebody would have to sign in: ask again without it."),
    "interaction_required": ("interaction_required", "prompt=none, and a page would be needed: ask again without it."),
    "consent_required": ("consent_required", "prompt=none, and the person has not agreed yet: ask again without it."),
    "unmet_authentication_requirements": ("unmet_authentication_requirements", "The level that was asked for could not be reached."),
    "account_selection_required": ("account_selection_required", "prompt=none, and an account would have to be chosen."),
    "no_access": (_DENIED, "The application does not admit the person who signed in."),
    "no_role": (_DENIED, "The application admits certain roles only, and the person holds none of them."),
    "no_staff_role": (_DENIED, "The application admits staff only, and the person holds no staff role in the own office."),
    "level": (_DENIED, "A second factor is asked for, and the sign-in had none."),
    "session_ended": (_DENIED, "The sign-in session has ended: send the person to sign in again."),
    "session_lives": (_DENIED, "The session goes on: there is nothing to tell of its end."),
    "no_person": (_DENIED, "Nobody is signed in behind this."),
    "declined": (_DENIED, "The person did not agree."),
    "cancelled": (_DENIED, "The person went back."),
    # scopes and resources
    "invalid_scope": (_SCOPE, "A scope cannot be granted; error_description names it."),
    "scope_missing": (_SCOPE, "No scope that can be granted was asked for."),
    "scope_not_allowed": (_SCOPE, "A scope is not registered for the client."),
    "scope_of_person": (_SCOPE, "A scope that describes a person was asked for where nobody is signed in."),
    "scope_unknown": (_SCOPE, "Nobody owns a scope of this name."),
    "scope_widened": (_SCOPE, "A refresh cannot ask for more scopes than were granted."),
    "invalid_target": (_TARGET, "The resource cannot be addressed by this client."),
    "resource": (_TARGET, "The client may not ask for a token for this resource."),
    "resource_count": (_TARGET, "More resources were named than one token may be for."),
    "resource_malformed": (_TARGET, "resource must be an absolute URI without a fragment."),
    "resource_not_allowed": (_DENIED, "The client may no longer ask for a token for this resource."),
    "details_of_several": (
        _TARGET,
        "A signed token for several resource servers would show each the details of the others: name one with resource.",
    ),
    "resource_widened": (_TARGET, "A refresh cannot name a resource that was not granted."),
    "resource_without_scope": (_TARGET, "No scope and no detail that was asked for belongs to the resource named."),
    "invalid_authorization_details": (_DETAILS, "authorization_details does not fit its type."),
    "details_malformed": (_DETAILS, "authorization_details must be a list of at most 10 objects in 4 KB, each with a type."),
    "details_type": (_DETAILS, "A type is unknown here, or not among the client's authorization_details_types."),
    "details_schema": (_DETAILS, "An object does not fit the schema of its type; error_description says where."),
    "details_deceiving": (_DETAILS, "A text has control signs or marks that turn the direction of writing."),
    "details_locations": (_DETAILS, "locations must be the resource_uri of the resource server that owns the type."),
    "details_of_grant": (_DETAILS, "This grant type takes no authorization_details; use scope."),
    "details_widened": (_DETAILS, "A token request named details that were not granted exactly so."),
    "detail_type_not_allowed": (_DENIED, "The client may no longer ask for this type of authorization details."),
    # grants
    "invalid_grant": (_GRANT, "The grant is not, or no longer, good; error_description says why."),
    "unsupported_grant_type": ("unsupported_grant_type", "This grant type is not offered."),
    "code_unknown": (_GRANT, "There is no such code."),
    "code_expired": (_GRANT, "The code is older than 60 s."),
    "code_mismatch": (_GRANT, "redirect_uri or code_verifier is not the one of the authorization request."),
    "code_of_other_client": (_GRANT, "The code was made for another client."),
    "code_replayed": (_GRANT, "The code was used before; everything that came of it has ended."),
    "refresh_unknown": (_GRANT, "There is no such refresh token."),
    "refresh_ended": (_GRANT, "The refresh token has ended with its session, or was revoked."),
    "refresh_of_other_client": (_GRANT, "The refresh token was made for another client."),
    "refresh_replayed": (_GRANT, "A refresh token was used again after its successor; the whole family has ended."),
    "device_unknown": (_GRANT, "There is no such device code."),
    "device_of_other_client": (_GRANT, "The device code was made for another client."),
    "device_replayed": (_GRANT, "The device code was used before; everything that came of it has ended."),
    "device_denied": (_DENIED, "The person refused the device."),
    "device_expired": ("expired_token", "Nobody confirmed the device in time."),
    "expired_token": ("expired_token", "The code has expired: begin again."),
    "slow_down": ("slow_down", "The device asks more often than its interval allows."),
    "too_many_waiting": ("temporarily_unavailable", "Too many devices of this client wait at once."),
    "device_gone": (_DENIED, "The device was answered before, or nobody answered it in time."),
    "token_kind": (_REQUEST, "Only access tokens are exchanged, for access tokens."),
    "actor_token": (_REQUEST, "Who acts is the client that authenticates: send no actor_token."),
    "subject_invalid": (_REQUEST, "The subject token has expired, was revoked, or is not one of this service."),
    "subject_machine": (_REQUEST, "The subject token is of a machine: use client_credentials."),
    "subject_foreign": (_REQUEST, "The subject token does not have this client among its audiences."),
    "exchange_chain": (_REQUEST, "The subject token was exchanged before; token_exchange_depth allows no more."),
    "exchange_pair": (_TARGET, "The target is not among token_exchange_targets, or not in the subject token's audience."),
    "target": (_TARGET, "The target is no resource server that this client may name."),
    "target_missing": (_REQUEST, "Name the target by audience or resource."),
    "issuer_unknown": (_GRANT, "The assertion's iss is not registered here; `issuer list` shows those that are."),
    "issuer_keys": (_GRANT, "The issuer's keys cannot be had: check that its jwks_uri answers."),
    "subject_unknown": (_GRANT, "The issuer may not speak for this client with that sub."),
    "issuer_life": (_GRANT, "The assertion lives longer than the issuer's max_life allows."),
    "assertion_used": (_GRANT, "The assertion was used before: get a new one for each request."),
    "issuer_scope": (_SCOPE, "The issuer may not vouch for this scope."),
    "no_encryption_key": (_REQUEST, "The client registered no key with which its answer could be encrypted."),
    # keys that must be proved
    "invalid_dpop_proof": (_PROOF, "The DPoP proof cannot be taken."),
    "use_dpop_nonce": ("use_dpop_nonce", "The proof must carry the nonce of the answer's DPoP-Nonce header; then try again."),
    "dpop_nonce": ("use_dpop_nonce", "The proof must carry the nonce of the answer's DPoP-Nonce header; then try again."),
    "dpop_malformed": (_PROOF, "The DPoP header is not one signed JWT in compact form."),
    "dpop_typ": (_PROOF, "typ of the proof must be dpop+jwt."),
    "dpop_alg": (_PROOF, "The proof was signed with an algorithm that is not allowed."),
    "dpop_jwk": (_PROOF, "jwk of the proof must be a public key that fits its algorithm."),
    "dpop_signature": (_PROOF, "The proof was not signed with the key that it shows."),
    "dpop_htm": (_PROOF, "htm of the proof is not the request's method."),
    "dpop_htu": (_PROOF, "htu of the proof is not the request's address."),
    "dpop_iat": (_PROOF, "iat of the proof is missing or in the future: check the clock."),
    "dpop_expired": (_PROOF, "The proof is too old: make one for each request, and check the clock."),
    "dpop_jti": (_PROOF, "The proof needs a jti that is new each time."),
    "dpop_ath": (_PROOF, "ath of the proof is not the hash of the access token."),
    "dpop_replayed": (_PROOF, "The proof was used before: make a new one for each request."),
    "dpop_missing": (_PROOF, "The client must prove a DPoP key, and sent no proof."),
    "dpop_jkt": (_REQUEST, "dpop_jkt is not the thumbprint of the key that was proved."),
    "dpop_scheme": (_TOKEN, "A token that is bound to a DPoP key goes with the scheme DPoP, any other with Bearer."),
    "binding_mismatch": (_GRANT, "The key that was proved is not the one that the code or token is bound to."),
    "binding_missing": (_REQUEST, "The client must prove a key, by DPoP or by its certificate."),
    "certificate_missing": (_REQUEST, "The client's tokens are bound to its certificate, and none arrived."),
    # userinfo and other resources
    "no_token": ("", "A request without an access token."),
    "invalid_token": (_TOKEN, "The access token has expired, was revoked, or is not for this resource."),
    "insufficient_scope": ("insufficient_scope", "The access token lacks the scope openid."),
    # registration
    "invalid_client_metadata": (_METADATA, "A field of the metadata cannot be taken; error_description names it."),
    "invalid_redirect_uri": ("invalid_redirect_uri", "A redirect address cannot be registered; error_description says why."),
    "software_statement": ("unapproved_software_statement", "Software statements are not taken here."),
    "not_json": (_METADATA, "The body is not a JSON object in which each name stands once."),
    "house_only": (_METADATA, "A field is the operators' to choose."),
    "given_by_us": (_METADATA, "A field is given by this service, and cannot be chosen."),
    "client_id": (_METADATA, "A change must carry the client's own client_id."),
    "grant_not_invited": (_METADATA, "The invitation does not allow this grant type."),
    "scope_not_invited": (_METADATA, "The invitation does not allow this scope."),
    "invitation": (_TOKEN, "The initial access token is unknown, used up or has expired."),
    "invitation_used_up": (_TOKEN, "The initial access token was used up by another registration."),
    "registration_access": (_TOKEN, "The registration access token is not this client's current one."),
}  # fmt: skip
REFUSALS: Mapping[str, Explained] = {reason: Explained(*row) for reason, row in _ROWS.items()}
_UNKNOWN = Explained("", "A reason of a later day; error_description of the answer says more.")


def explained(reason: str) -> Explained:
    """Return what a reason means; a word of a later release still has a line."""
    return REFUSALS.get(reason, _UNKNOWN)
