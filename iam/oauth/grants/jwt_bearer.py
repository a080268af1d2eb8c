"""The JWT bearer grant: a platform that we know vouches for one of its workloads. Spec: RFC 7523 §2.1, §3.

The workload is a client of ours and gets a machine's token, as with client credentials; the assertion stands where
a secret would. Nobody's sign-in is replaced by it (docs/adr/0024).
"""

from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol import assertions
from iam.oauth.protocol.asked import Asked
from iam.oauth.protocol.assertions import BadAssertion
from iam.oauth.protocol.authorization import check_scopes
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.claims import PERSON_SCOPES
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.jose import names_of
from iam.oauth.protocol.messages import ClientFacts, Request, Response, json_response
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.trusted_issuers import TrustedIssuerFacts, expected, judge_life

from .tokens import refuse_details


def exchange(
    request: Request, state: State, client: ClientFacts, form: Parameters, sender: Binding, now: datetime
) -> Response:
    """Return an access token for the client that the assertion's subject is; each assertion once.

    Raises: OAuthError invalid_request, invalid_grant, invalid_scope, invalid_target. Spec: RFC 7523 §3.1.
    """
    refuse_details(form)
    text = form.get("assertion")
    if text is None:
        raise OAuthError("invalid_request", "assertion is missing.")
    try:
        assertion = assertions.read(text)
        issuer = state.trusted_issuer(assertion.unverified_issuer)
        if issuer is None:
            raise BadAssertion("issuer_unknown", "The assertion's issuer is not registered here.")
        _verify(state, client, assertion, issuer, now)
    except BadAssertion as problem:
        raise OAuthError("invalid_grant", str(problem), reason=problem.reason) from problem
    scopes = _scopes(state, client, form, issuer)
    resources = issuance.resources_asked(state, client, form, scopes)
    clearance = issuance.clear_machine(client, scopes, now, Asked(resources))
    claims = assertion.unverified_claims  # verified above
    # Last, so that what an honest client can put right does not cost it the assertion.
    if not state.store.use_once(
        "jwt_bearer", f"{issuer.issuer}\0{claims['jti']}", assertions.use_until(claims)
    ):
        raise OAuthError("invalid_grant", "The assertion was used before.", reason="assertion_used")
    token, life = issuance.access_token(state, clearance, "m", sender)
    state.record(
        "client:token:issue",
        "success",
        actor=f"client:{client.client_id}",
        now=now,
        request_id=request.request_id,
        source=request.source,
        object=f"client:{client.client_id}",
        method="jwt_bearer",
        application=client.application or "",
        details={"issuer": issuer.issuer, "subject": assertion.unverified_subject},
    )
    return json_response(
        200,
        {
            "access_token": token,
            "token_type": sender.token_type,
            "expires_in": life,
            "scope": " ".join(issuance.address(state, clearance).scopes),
        },
    )


def _verify(
    state: State,
    client: ClientFacts,
    assertion: assertions.Assertion,
    issuer: TrustedIssuerFacts,
    now: datetime,
) -> None:
    """Judge what the assertion says, and who signed it. Raises: BadAssertion. Spec: RFC 7523 §3."""
    assertions.judge(assertion, expected(state.issuer), now)
    judge_life(assertion, issuer, now.timestamp())
    keys = state.issuer_keys(issuer, assertion.kid)
    if not keys:
        raise BadAssertion("issuer_keys", "The issuer's keys cannot be had now.")
    allowed = [name for algorithm in issuer.algorithms for name in names_of(algorithm)]
    assertions.verify(assertion, keys, allowed)
    # An assertion is no good for whoever found it: it names one client, which is the one that asks.
    if issuer.subjects.get(assertion.unverified_subject) != client.client_id:
        raise BadAssertion("subject_unknown", "The issuer may not speak for this client with that sub.")


def _scopes(
    state: State, client: ClientFacts, form: Parameters, issuer: TrustedIssuerFacts
) -> tuple[str, ...]:
    """Return the scopes asked for, or all that client and issuer have in common."""
    if "scope" not in form:
        scopes = tuple(sorted(s for s in client.scopes & issuer.scopes if state.scope_owner(s)))
        if not scopes:
            raise OAuthError(
                "invalid_scope", "Client and issuer have no scope in common.", reason="scope_missing"
            )
        return scopes
    scopes = check_scopes(form["scope"], client, lambda scope: issuance.is_known_scope(state, scope))
    if not set(scopes) - set(PERSON_SCOPES) <= issuer.scopes:
        raise OAuthError("invalid_scope", "The issuer may not vouch for this scope.", reason="issuer_scope")
    return scopes
