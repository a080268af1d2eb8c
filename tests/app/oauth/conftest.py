"""An organisation in miniature, and a client that drives the engine as a door would."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from iam.access.models import Application, Assignment, Office, Posting, Role
from iam.accounts import cookies
from iam.accounts.models import DirectoryLink, LoginSession, User
from iam.accounts.services import mark_factor, open_session
from iam.oauth import engine, keyring, state
from iam.oauth.clients import apply_all
from iam.oauth.protocol.messages import Answer, FormPost, Request, Response
from tests.app.oauth import doors
from tests.proofs import Prover

ISSUER = "http://localhost:8000"
SECRET = "s" * 40
SERVER_SECRET = "r" * 40
NAMES = {"name_ar": "ا", "name_fr": "F", "name_en": "E"}
CLIENTS = [
    {
        "client_id": "resource", "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["demo.read"], "application": "registry", "trusted": True,
    },
    {
        "client_id": "web", "client_secret": SECRET, "redirect_uris": ["https://web.example/cb"],
        "post_logout_redirect_uris": ["https://web.example/bye"],
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid profile email roles demo.read", "application": "mail", "trusted": True,
    },
    {
        "client_id": "other", "client_secret": SECRET, "redirect_uris": ["https://other.example/cb"],
        "grant_types": ["authorization_code", "refresh_token"], "scope": "openid roles", "trusted": False,
    },
    {
        "client_id": "public", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb"],
        "grant_types": ["authorization_code", "refresh_token"], "scope": "openid roles demo.read", "trusted": True,
    },
    {
        "client_id": "service", "client_secret": SECRET, "grant_types": ["client_credentials"],
        "scope": "demo.read", "trusted": True,
    },
]  # fmt: skip


@dataclass
class World:
    """What a test needs to know; `now` is moved by hand."""

    now: datetime
    person: User
    office: Office
    session: LoginSession | None = None
    cookie: str = ""
    source: str = "192.0.2.1"
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(40))
    prover: Prover | None = None  # proves its key in every request
    certificate: str = ""  # of every request's connection

    def later(self, **delta: float) -> "World":
        self.now += timedelta(**delta)
        return self

    def sign_in(self, *, factor: bool = True) -> LoginSession:
        self.session, self.cookie = open_session(self.person, self.now, timedelta(hours=12))
        if factor:
            self.cookie = mark_factor(self.session, "otp", self.now)
        return self.session

    def ask(self, request: Request) -> Answer:
        state.forget()
        request = replace(request, source=self.source, request_id="r-1")
        if self.prover is not None and not request.dpop:
            scheme, _, token = request.authorization.partition(" ")
            proof = self.prover.proof(
                request.method, ISSUER + request.path, self.now, token if scheme == "DPoP" else ""
            )
            request = replace(request, dpop=proof)
        if self.certificate:
            request = replace(request, certificate=self.certificate)
        doors.compare(request, self.now)
        return engine.handle(request, state.DatabaseState(), self.now)

    def wanted(self, client: str = "web", **changes: str | None) -> dict[str, str]:
        """Return the parameters of an honest authorization request, but for what a test changes."""
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        )
        redirects = {"web": "https://web.example/cb", "other": "https://other.example/cb"}
        parameters: dict[str, str | None] = {
            "client_id": client, "redirect_uri": redirects.get(client, "http://127.0.0.1:5000/cb"),
            "response_type": "code", "scope": "openid roles", "state": "st", "nonce": "no",
            "code_challenge": challenge, "code_challenge_method": "S256", **changes,
        }  # fmt: skip
        return {name: value for name, value in parameters.items() if value is not None}

    def authorize(self, client: str = "web", **changes: str | None) -> Answer:
        return self.visit(**self.wanted(client, **changes))

    def visit(self, **parameters: str) -> Answer:
        """Send the browser to the authorization endpoint with exactly these parameters; a list is repeated."""
        cookie = {cookies.SESSION: self.cookie} if self.cookie else {}
        return self.ask(Request("GET", "/authorize", query=urlencode(parameters, doseq=True), cookies=cookie))

    def push(self, client: str = "web", secret: str | None = SECRET, **changes: str | None) -> Response:
        return self.post("/par", client, secret, **self.wanted(client, **changes))

    def pushed(self, client: str = "web", secret: str | None = SECRET, **changes: str | None) -> str:
        """Push a request and return its name."""
        response = self.push(client, secret, **changes)
        assert response.status == 201, response.body
        return json.loads(response.body)["request_uri"]

    def code(self, client: str = "web", **changes: str | None) -> str:
        return answer_of(self.authorize(client, **changes))["code"]

    def post(
        self, path: str, client: str | None = "web", secret: str | None = SECRET, **form: str | None
    ) -> Response:
        authorization = ""
        if client is not None and secret is not None:
            authorization = "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()
        elif client is not None:
            form = {"client_id": client, **form}
        body = urlencode({n: v for n, v in form.items() if v is not None}, doseq=True).encode()
        answer = self.ask(
            Request(
                "POST",
                path,
                body=body,
                content_type="application/x-www-form-urlencoded",
                authorization=authorization,
            )
        )
        assert isinstance(answer, Response)
        return answer

    def exchange(
        self, code: str, client: str = "web", secret: str | None = SECRET, **changes: str | None
    ) -> Response:
        redirects = {"web": "https://web.example/cb", "other": "https://other.example/cb"}
        form: dict[str, str | None] = {
            "grant_type": "authorization_code", "code": code, "code_verifier": self.verifier,
            "redirect_uri": redirects.get(client, "http://127.0.0.1:5000/cb"), **changes,
        }  # fmt: skip
        return self.post("/token", client, secret, **form)

    def tokens(self, client: str = "web", secret: str | None = SECRET, **changes: str | None) -> dict:
        response = self.exchange(self.code(client, **changes), client, secret)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def refresh(self, token: str, client: str = "web", secret: str | None = SECRET, **form: str) -> Response:
        return self.post("/token", client, secret, grant_type="refresh_token", refresh_token=token, **form)

    def introspect(self, token: str, client: str = "resource", secret: str = SERVER_SECRET) -> dict:
        return json.loads(self.post("/introspect", client, secret, token=token).body)

    def userinfo(self, token: str, scheme: str = "Bearer", **changes: str) -> Response:
        answer = self.ask(Request("GET", "/userinfo", authorization=f"{scheme} {token}", **changes))
        assert isinstance(answer, Response)
        return answer


def answer_of(answer: Answer) -> dict[str, str]:
    """Return the parameters of a redirect or of a form."""
    if isinstance(answer, FormPost):
        return dict(answer.fields)
    assert isinstance(answer, Response), answer
    assert answer.status == 303, answer
    return dict(parse_qsl(urlsplit(dict(answer.headers)["Location"]).query, keep_blank_values=True))


def claims_of(token: str) -> dict:
    """Return a token's claims without verifying it: what it says, not whether."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


@pytest.fixture
def world(db) -> World:
    """One person of Niamey, below the headquarters, with roles of two applications and one of the organisation."""
    now = datetime.now(UTC).replace(microsecond=0)
    state.forget()
    keyring.ensure(now, "system:test")
    headquarters = Office.objects.create(code="GS", kind="headquarters", **NAMES)
    office = Office.objects.create(code="NIM", kind="humanitarian", parent=headquarters, **NAMES)
    mail = Application.objects.create(code="mail", **NAMES)
    registry = Application.objects.create(code="registry", **NAMES)
    person = User.objects.create(
        name_latin="Amina Diallo", name_arabic="أمينة ديالو", language="fr", created_at=now
    )
    DirectoryLink.objects.create(
        user=person,
        source="d",
        entry_uuid="e-1",
        login="amina",
        dn="uid=amina",
        created_at=now,
        checked_at=now,
    )
    Posting.objects.create(person=person, office=office, valid_from=now - timedelta(days=9), source="test")
    for code, application, staff in (
        ("staff", None, True),
        ("mail.reader", mail, False),
        ("registry.clerk", registry, False),
    ):
        role = Role.objects.create(code=code, application=application, is_staff=staff, **NAMES)
        Assignment.objects.create(
            person=person, role=role, office=office, valid_from=now - timedelta(days=9), created_at=now
        )
    apply_all(CLIENTS, now, "system:test")
    return World(now, person, office)
