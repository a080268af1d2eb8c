"""What enters the engine and what leaves it, as plain values.

Spec: RFC 6749 §3, OIDC Core §3.1.2. A value is `Request` → one of `Response`, `FormPost`, `ErrorPage`, `Interaction`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from iam.access.policy import Requirement

from .asked import NOTHING, Asked
from .options import STANDARD, ClientOptions

# A request's parameters in all. The longest honest ones are id_token_hint and claims; a header of a
# common server ends at 8 KB, so nothing honest is near this. Checked before anything is parsed.
PARAMETERS_SIZE_MAX = 65_536
PARAMETERS_COUNT_MAX = 64
# Values that end in a column, a log or a page.
VALUE_LENGTH_MAX = 8_192

# Made once: `json.dumps` makes another one at each call that asks for anything unusual.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

NO_STORE = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
JSON_NOT_STORED = (("Content-Type", "application/json"), *NO_STORE)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to a protocol endpoint, whichever door it came through."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    content_type: str = ""
    authorization: str = ""
    cookies: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    request_id: str = ""
    dpop: str = ""  # the DPoP header; two of them arrive joined by a comma
    accept: str = ""  # the Accept header
    certificate: str = ""  # the client certificate, DER in base64, only from a trusted proxy (RFC 9440 §2.2)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, whichever door it leaves through. `cookies_ended`: names that the browser must forget."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cookies_ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FormPost:
    """An answer for the application that the browser is to post there: the door renders a page that does it.

    `uri` is the checked redirect address; no value is escaped yet. Spec: OAuth 2.0 Form Post Response Mode §2.
    """

    uri: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """A refusal that must not be redirected: the door renders it in the person's language.

    `error` is the registered code, `description` for the developer, `client_id` only when it is known to us.
    """

    status: int
    error: str
    description: str
    client_id: str = ""
    ui_locales: tuple[str, ...] = ()


class ResponseMode(StrEnum):
    """How the answer to an authorization request travels. Spec: OAuth 2.0 Multiple Response Types §2.1, JARM §2.3."""

    QUERY = "query"
    FORM_POST = "form_post"
    JWT = "jwt"  # for a code the same as query.jwt
    QUERY_JWT = "query.jwt"
    FORM_POST_JWT = "form_post.jwt"

    @property
    def is_signed(self) -> bool:
        """Say whether the answer is one signed `response`."""
        return self.value.endswith("jwt")

    @property
    def is_form(self) -> bool:
        """Say whether the browser posts the answer."""
        return self.value.startswith("form_post")


class Need(StrEnum):
    """What must happen in the browser before a code can be issued."""

    LOGIN = "login"  # password (again)
    FACTOR = "factor"  # a second factor (again); whether it must first be enrolled is the login's business
    ACCOUNT = "account"  # which account is to be used: the one that is signed in, or another
    CONSENT = "consent"
    DEVICE = "device"  # a device waits: let it in or not
    REFUSED = "refused"  # signed in, but no access to this application
    CONFIRM_LOGOUT = "confirm_logout"
    SIGNED_OUT = "signed_out"


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """A client as the engine sees it. Times in seconds."""

    pk: int
    client_id: str
    name: str
    application: str | None
    enabled: bool
    trusted: bool
    auth_method: str
    secret_digest: str
    grant_types: frozenset[str]
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    scopes: frozenset[str]
    is_resource_server: bool
    owned_scopes: frozenset[str]
    id_token_alg: str
    default_max_age: int | None
    default_acr_values: tuple[str, ...]
    generation: int
    options: ClientOptions = STANDARD
    jwks: tuple[Mapping[str, Any], ...] = ()  # Any: public JWKs, registered by value
    jwks_uri: str = ""
    # The secret before the present one, while both are good.
    old_secret_digest: str = ""
    old_secret_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A live sign-in session and its person. Times are aware and UTC."""

    id: UUID
    generation: int
    user_id: UUID
    sub: str
    user_generation: int
    password_at: datetime
    factor_at: datetime | None
    factor_kind: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """An authorization request that has passed every check that needs no person.

    Spec: OIDC Core §3.1.2.1. `started_at` is when it reached us: `prompt=login` is met by a sign-in since then.
    """

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    started_at: datetime
    code_challenge: str
    state: str | None = None
    nonce: str | None = None
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()
    login_hint: str = ""
    ui_locales: tuple[str, ...] = ()
    hinted_sub: str = ""
    asked: Asked = NOTHING
    response_mode: ResponseMode = ResponseMode.QUERY

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a form that survives JSON; `from_json` reads it back."""
        return {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scopes": list(self.scopes),
            "started_at": self.started_at.isoformat(),
            "code_challenge": self.code_challenge,
            "state": self.state,
            "nonce": self.nonce,
            "prompt": sorted(self.prompt),
            "max_age": self.max_age,
            "acr_values": list(self.acr_values),
            "login_hint": self.login_hint,
            "ui_locales": list(self.ui_locales),
            "hinted_sub": self.hinted_sub,
            "asked": self.asked.as_json(),
            "response_mode": self.response_mode.value,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "AuthorizationRequest":  # Any: JSON
        """Read what `as_json` wrote."""
        return cls(
            client_id=value["client_id"],
            redirect_uri=value["redirect_uri"],
            scopes=tuple(value["scopes"]),
            started_at=datetime.fromisoformat(value["started_at"]),
            code_challenge=value["code_challenge"],
            state=value["state"],
            nonce=value["nonce"],
            prompt=frozenset(value["prompt"]),
            max_age=value["max_age"],
            acr_values=tuple(value["acr_values"]),
            login_hint=value["login_hint"],
            ui_locales=tuple(value["ui_locales"]),
            hinted_sub=value["hinted_sub"],
            asked=Asked.from_json(value.get("asked", {})),
            # Absent in what the release before parked.
            response_mode=ResponseMode(value.get("response_mode", ResponseMode.QUERY)),
        )

    def without_prompt(self, value: str) -> "AuthorizationRequest":
        """Return the request with one prompt value met."""
        return replace(self, prompt=self.prompt - {value})


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a person agrees to, or is asked to agree to: scopes, single claims, and details (RFC 9396)."""

    scopes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    details: tuple[Mapping[str, Any], ...] = ()  # Any: JSON

    def __bool__(self) -> bool:
        return bool(self.scopes or self.claims or self.details)


NO_DISCLOSURE = Disclosure()


@dataclass(frozen=True, slots=True)
class Interaction:
    """Something must be asked of the person. The door parks `request` and shows the page for `need`.

    `reason` is a stable word (why this is asked, or why access is refused); `disclosure` what is to be agreed.
    """

    need: Need
    client: ClientFacts | None
    request: AuthorizationRequest | None = None
    requirement: Requirement | None = None
    reason: str = ""
    disclosure: Disclosure = NO_DISCLOSURE
    # Sign-out only: where to go afterwards, already checked; the languages that the client asked for; the session
    # that ended (SIGNED_OUT), or that the client's hint proves to be its own (CONFIRM_LOGOUT).
    return_to: str = ""
    ui_locales: tuple[str, ...] = ()
    session: UUID | None = None


# What an application gets in the end.
ClientAnswer = Response | FormPost
Answer = ClientAnswer | ErrorPage | Interaction


def json_response(
    status: int,
    value: Mapping[str, Any],
    headers: tuple[tuple[str, str], ...] = NO_STORE,  # Any: JSON
) -> Response:
    """Build a JSON answer, by default one that no cache may keep."""
    whole = JSON_NOT_STORED if headers is NO_STORE else (("Content-Type", "application/json"), *headers)
    return Response(status, whole, _JSON(value).encode())


def json_text(value: Mapping[str, Any]) -> str:  # Any: JSON
    """Write JSON as short as it can be."""
    return _JSON(value)


def document(content_type: str, text: str) -> Response:
    """Build an answer that is one signed or encrypted text, which no cache may keep."""
    return Response(200, (("Content-Type", content_type), *NO_STORE), text.encode())


def accepts(accept: str, content_type: str) -> bool:
    """Say whether an Accept header names a type itself; a wildcard asks for nothing particular. Spec: RFC 9110 §12.5.1."""
    for part in accept.lower().split(",")[:32]:
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == content_type and not any(re.fullmatch(r"q=0(\.0*)?", one) for one in parameters):
            return True
    return False


def redirect(uri: str, parameters: Mapping[str, str]) -> Response:
    """Build a 303 to `uri` with `parameters` added to its query; 303 so that no form is ever re-posted.

    `uri` has no fragment. It is added to, never taken apart and put together: what was registered would
    otherwise not be what is sent. Spec: RFC 6749 §3.1.2 (its query is retained), §4.1.2; RFC 9700 §4.12.
    """
    joint = "" if not parameters or uri.endswith("?") else "&" if "?" in uri else "?"
    return Response(
        303,
        (("Location", uri + joint + urlencode(parameters)), *NO_STORE, ("Referrer-Policy", "no-referrer")),
    )
