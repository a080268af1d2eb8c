"""Make the demonstration's database what this version expects, in one process: a management command takes a second to start.

Run by `run.py` in the service's environment: `python -m deploy.demo.prepare VAR`. Writes `VAR/demo.json` atomically.
"""

import io
import json
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.demo import organisation
from deploy.demo.device import CLIENT as DEVICE_CLIENT
from deploy.demo.device import GRANT_TYPE as DEVICE_CODE

SOURCE = "directory"


def main() -> None:
    """Migrate, seed, apply the clients, enrol the sample factors, write demo.json."""
    import django

    django.setup()
    from django.core.management import call_command

    var = Path(sys.argv[1])
    secret_file = var / "secrets.json"
    given = json.loads(secret_file.read_text(encoding="utf-8"))
    people = organisation.build_people(given["seed"])
    quiet = io.StringIO()
    call_command("migrate", verbosity=0, stdout=quiet)
    call_command("collectstatic", verbosity=0, interactive=False, stdout=quiet)
    seed_file = var / "seed.json"
    seed_file.write_text(json.dumps(organisation.build_seed(SOURCE), ensure_ascii=False), encoding="utf-8")
    call_command("seed", str(seed_file), stdout=quiet)
    call_command("keys", "ensure", stdout=quiet)
    clients = build_clients(given, int(os.environ["DEMO_PORT"]))
    clients_file = var / "clients.json"
    clients_file.touch(mode=0o600)
    types_file = var / "detail-types.json"
    types_file.write_text(json.dumps(organisation.DETAIL_TYPES, ensure_ascii=False), encoding="utf-8")
    # A type belongs to a resource server, and clients name types: one after the other.
    clients_file.write_text(
        json.dumps([one for one in clients if "resource_server" in one]), encoding="utf-8"
    )
    call_command("client", "apply", str(clients_file), stdout=quiet)
    call_command("client", "detail-type", "apply", str(types_file), stdout=quiet)
    clients_file.write_text(json.dumps(clients, indent=2), encoding="utf-8")
    call_command("client", "apply", str(clients_file), stdout=quiet)
    enrol(people)
    write_demo(var, given, people, clients)


def build_clients(given: dict[str, Any], port: int) -> list[dict[str, Any]]:  # Any: JSON
    """Return the sample clients; the demonstration's redirects follow the port."""
    secret = given["client_secrets"]
    person = "openid profile email roles"
    return [
        {
            "client_id": "test-resource", "client_name": "Test resource server", "client_secret": secret["test-resource"],
            "grant_types": ["client_credentials"], "resource_server": ["demo.read"], "application": "demo", "trusted": True,
        },
        *(
            {
                "client_id": f"{name}-app", "client_name": label, "client_secret": secret[f"{name}-app"],
                "redirect_uris": [f"http://localhost:{port + offset}/callback"],
                "post_logout_redirect_uris": [f"http://localhost:{port + offset}/"],
                "initiate_login_uri": f"http://localhost:{port + offset}/login",
                "backchannel_logout_uri": f"http://127.0.0.1:{port + offset}/backchannel-logout",
                "backchannel_logout_session_required": True,
                "grant_types": ["authorization_code", "refresh_token"], "scope": person + more,
                "application": name, "trusted": True,
            }
            for name, label, offset, more in (
                ("correspondence", "Correspondence", 1, ""), ("finance", "Finance", 2, " payments.approve"),
            )
        ),
        {
            "client_id": "finance-api", "client_name": "Finance: payments", "token_endpoint_auth_method": "none",
            "grant_types": [], "resource_server": ["payments.approve"], "resource_uri": f"http://localhost:{port + 2}/api",
            "application": "finance", "trusted": True,
        },
        {
            "client_id": "test-web", "client_name": "Test web application", "client_secret": secret["test-web"],
            "token_endpoint_auth_method": "client_secret_basic",
            "redirect_uris": ["http://127.0.0.1:9900/callback"],
            "post_logout_redirect_uris": ["http://127.0.0.1:9900/"],
            "grant_types": ["authorization_code", "refresh_token"], "scope": f"{person} demo.read",
            "application": "demo", "trusted": True,
        },
        {
            "client_id": "test-public", "client_name": "Test native application", "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback", "http://[::1]/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "scope": f"{person} demo.read",
            "application": "demo", "trusted": True,
        },
        {
            "client_id": "test-service", "client_name": "Test service", "client_secret": secret["test-service"],
            "grant_types": ["client_credentials"], "scope": "demo.read", "application": "demo", "trusted": True,
        },
        {
            # Not of our own house: people are asked, at its first use and for each payment.
            "client_id": "test-consent", "client_name": "Test application of a partner", "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback", "http://[::1]/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "scope": person,
            "authorization_details_types": ["payment"], "application": "demo", "trusted": False,
        },
        {
            # The screen of `python -m deploy.demo.device`.
            "client_id": DEVICE_CLIENT, "client_name": "Screen of the meeting room", "token_endpoint_auth_method": "none",
            "grant_types": [DEVICE_CODE, "refresh_token"], "scope": person, "application": "correspondence", "trusted": True,
        },
    ]  # fmt: skip


CLIENTS_WITH_SECRET = ("test-resource", "correspondence-app", "finance-app", "test-web", "test-service")


def new_secrets() -> dict[str, Any]:  # Any: JSON
    """Return what an installation of the demonstration makes once."""
    return {
        "seed": secrets.token_hex(16),
        "client_secrets": {name: secrets.token_urlsafe(32) for name in CLIENTS_WITH_SECRET},
        "session_keys": {name: secrets.token_urlsafe(32) for name in ("correspondence", "finance")},
    }


def enrol(people: list[organisation.DemoPerson]) -> None:
    """Give the sample people who have one their second factor, through the service's own doors. Idempotent."""
    import mfa.service
    from directory.service import Found, find
    from iam.accounts.selectors import person_by_login
    from iam.lifecycle import admit_from_directory

    now = datetime.now(UTC)
    for person in people:
        if person.totp_secret is None:
            continue
        user = person_by_login(person.login)
        if user is None:
            found = find(person.login)
            if not isinstance(found, Found):
                raise SystemExit(f"The sample directory does not know {person.login}: {found}")
            user = admit_from_directory(found.person, now)
        if not mfa.service.has_second_factor(str(user.pk)):
            mfa.service.import_totp(str(user.pk), person.totp_secret, now)


def write_demo(
    var: Path, given: dict[str, Any], people: list[organisation.DemoPerson], clients: list[dict[str, Any]]
) -> None:
    """Replace demo.json in one step, readable by its owner only."""
    port = int(os.environ["DEMO_PORT"])
    demo = {
        "issuer": os.environ["IAM_ISSUER"],
        "people": [
            {
                "username": person.login,
                "password": person.password,
                "totp_secret": person.totp_secret,
                "dn": person.dn,
                "office": person.office,
                "roles": organisation.expected_roles(person),
                "language": person.language,
                "name": person.latin,
                "disabled": person.disabled,
                "must_change_password": person.must_change,
            }
            for person in people
        ],
        "clients": clients,
        "directory": {
            "url": os.environ["IAM_LDAP_URLS"],
            "ca_file": os.environ["IAM_LDAP_CA_FILE"],
            "base_dn": organisation.BASE_DN,
            "bind_dn": organisation.SERVICE_DN,
            "bind_password": os.environ["IAM_LDAP_BIND_PASSWORD"],
            "admin_dn": organisation.ADMIN_DN,
            "admin_password": os.environ["DEMO_LDAP_ADMIN_PASSWORD"],
        },
        "applications": [
            {"name": "Correspondence", "url": f"http://localhost:{port + 1}/"},
            {"name": "Finance", "url": f"http://localhost:{port + 2}/"},
        ],
    }
    draft = var / "demo.json.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        json.dump(demo, file, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()
