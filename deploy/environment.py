"""Run a command in an example environment: `python -m deploy.environment production|offline COMMAND…`.

The values are examples: enough for the system checks to judge production's settings, good for nothing else.
"""

import base64
import os
import secrets
import sys


def production() -> dict[str, str]:
    """Return what an installation sets, with secrets made now."""
    return {
        "DJANGO_SETTINGS_MODULE": "iam.settings",
        "IAM_MODE": "production",
        "IAM_ISSUER": "https://signin.example.org",
        "IAM_SECRET_KEY": secrets.token_urlsafe(64),
        "IAM_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "IAM_DATABASE_URL": "postgresql://iam_runtime:example@127.0.0.1:5432/iam",
        "IAM_DATABASE_RUNTIME_ROLE": "iam_runtime",
        "IAM_LDAP_URLS": "ldaps://ldap1.example.org ldaps://ldap2.example.org",
        "IAM_LDAP_BIND_DN": "cn=svc-sync,dc=example,dc=org",
        "IAM_LDAP_BIND_PASSWORD": secrets.token_urlsafe(24),
        "IAM_LDAP_BASE_DN": "ou=people,dc=example,dc=org",
    }


def offline() -> dict[str, str]:
    """Return what a command needs that only looks at the code: no database server is asked for anything."""
    return {**production(), "IAM_MODE": "test", "IAM_DATABASE_URL": "sqlite:///:memory:"}


KINDS = {"production": production, "offline": offline}


def main() -> None:
    """Replace this process by the command."""
    if len(sys.argv) < 3 or sys.argv[1] not in KINDS:
        raise SystemExit(f"usage: python -m deploy.environment {'|'.join(KINDS)} COMMAND [ARGUMENT…]")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IAM_")}
    os.execvpe(sys.argv[2], sys.argv[2:], {**inherited, **KINDS[sys.argv[1]]()})


if __name__ == "__main__":
    main()
