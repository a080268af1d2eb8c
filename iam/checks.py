"""System checks: a wrong or unsafe setting stops the start (iam.E…), or fails `check --deploy`.

Each says what to do. The list stands in docs/settings.md. A server's entry point calls `require_sound`, because
Django runs its checks for commands only.
"""

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from django.conf import settings
from django.core.checks import ERROR, CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.checks.registry import registry
from django.db import DatabaseError, connections

from iam.oauth import keyring
from iam.oauth.protocol.outbound_rules import read_rules
from iam.settings import Mode

_SECRET_KEY_LENGTH_MIN = 50


@register(Tags.security)
def issuer(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:  # Any: Django's signature
    """Judge the issuer: the one address that everything else trusts. Spec: OIDC Discovery §3, RFC 8414 §2."""
    parts = urlsplit(settings.IAM_ISSUER)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return [
            Error(
                "IAM_ISSUER is missing or no address.",
                hint="Set it to https://HOST of this service.",
                id="iam.E001",
            )
        ]
    found: list[CheckMessage] = []
    if parts.path or parts.query or parts.fragment:
        found.append(Error("IAM_ISSUER must be scheme and host only.", hint="Drop the path.", id="iam.E002"))
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        found.append(
            Error("IAM_ISSUER uses http.", hint="Only a loopback issuer may; use https.", id="iam.E003")
        )
    if parts.scheme == "http" and settings.IAM_MODE == Mode.PRODUCTION:
        found.append(Error("IAM_ISSUER uses http in production.", hint="Use https.", id="iam.E003"))
    if _is_address(parts.hostname):
        found.append(
            CheckWarning("IAM_ISSUER is an address.", hint="Passkeys need a host name.", id="iam.W001")
        )
    return found


@register(Tags.security)
def certificate_address(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge the second address, at which connections have client certificates. Spec: RFC 8705 §5."""
    address = settings.IAM_CLIENT_CERTIFICATE_ADDRESS
    if not address:
        return []
    parts = urlsplit(address)
    wrong = ""
    if parts.scheme != "https" or not parts.hostname or parts.path or parts.query or parts.fragment:
        wrong = "IAM_CLIENT_CERTIFICATE_ADDRESS is not https://HOST."
    elif not settings.IAM_TRUSTED_PROXIES:
        wrong = "IAM_CLIENT_CERTIFICATE_ADDRESS is set, but no proxy hands certificates on."
    if not wrong:
        return []
    return [
        Error(wrong, hint="Set IAM_TRUSTED_PROXIES too, or neither. See docs/settings.md.", id="iam.E014")
    ]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@register(Tags.security)
def secrets_present(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge the keys that everything stored depends on."""
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < _SECRET_KEY_LENGTH_MIN:
        found.append(
            Error(
                f"IAM_SECRET_KEY is shorter than {_SECRET_KEY_LENGTH_MIN} characters.",
                hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(64))'",
                id="iam.E004",
            )
        )
    keys = settings.IAM_ENCRYPTION_KEYS
    if not keys or any(len(key) != 32 for key in keys.values()):
        found.append(
            Error(
                "IAM_ENCRYPTION_KEYS must hold id:base64 pairs of 32 bytes each.",
                hint="Make one with: python -c 'import base64,os; print(\"k1:\"+base64.b64encode(os.urandom(32)).decode())'",
                id="iam.E005",
            )
        )
    return found


@register(Tags.security)
def pkcs11_token(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Refuse half a PKCS#11 token: its module, its label and its PIN go together."""
    module, label, pin = settings.IAM_PKCS11_MODULE, settings.IAM_PKCS11_TOKEN_LABEL, settings.IAM_PKCS11_PIN
    if not (module or label or pin):
        return []
    if not (module and label and pin):
        text = "IAM_PKCS11_MODULE, IAM_PKCS11_TOKEN_LABEL and IAM_PKCS11_PIN go together; one is missing."
    elif not Path(module).is_file():
        text = f"IAM_PKCS11_MODULE names {module}, which is no file."
    else:
        return []
    return [Error(text, hint="Set all three, or none. See docs/keys.md.", id="iam.E020")]


@register(Tags.database, deploy=True)
def key_store(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Try every signing key: one that is missing, damaged or does not sign stops the start (F11)."""
    if not databases:
        return []
    try:
        problems = keyring.problems()
    except DatabaseError as problem:
        problems = [f"The signing keys cannot be read from the database: {problem}".rstrip()]
    return [
        Error(text, hint="See docs/keys.md, when the service does not start.", id="iam.E021")
        for text in problems
    ]


def require_sound() -> None:
    """Refuse to start, with the exact reasons, when a setting is wrong or the signing keys are not all there.

    Raises: SystemExit. What only `check --deploy` judges does not stop a start, the key store apart.
    """
    ours = [check for check in registry.get_checks() if check.__module__ == __name__]
    found = [message for check in ours for message in check(app_configs=None, databases=None)]
    errors = [message for message in found if message.level >= ERROR]
    if not errors:  # without sound settings the keys could not even be read
        errors = key_store(app_configs=None, databases=["default"])
        connections.close_all()  # a server may fork afterwards
    if errors:
        raise SystemExit("\n".join(["The service does not start:", *(str(error) for error in errors)]))


@register(Tags.database)
def database_engine(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Refuse SQLite in production: no roles, no exclusion constraints, one writer."""
    if settings.IAM_MODE == Mode.PRODUCTION and "sqlite" in settings.DATABASES["default"]["ENGINE"]:
        return [
            Error(
                "Production does not run on SQLite.",
                hint="Set IAM_DATABASE_URL=postgresql://iam_runtime:…@HOST/NAME.",
                id="iam.E006",
            )
        ]
    return []


@register(Tags.security)
def directory_sources(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a directory whose certificate could not be checked."""
    found: list[CheckMessage] = []
    for source in settings.DIRECTORY_SOURCES:
        for url in source.urls:
            scheme = urlsplit(url).scheme
            if scheme not in {"ldap", "ldaps"} or (scheme == "ldap" and not source.starttls):
                found.append(
                    Error(
                        f"Directory {source.name}: {url} would carry passwords in clear.",
                        hint="Use ldaps://, or ldap:// with IAM_LDAP_STARTTLS=true.",
                        id="iam.E007",
                    )
                )
        if not source.bind_dn or not source.base_dn:
            found.append(
                Error(
                    f"Directory {source.name}: IAM_LDAP_BIND_DN or IAM_LDAP_BASE_DN is missing.",
                    hint="Give the service account that searches, and where people are.",
                    id="iam.E008",
                )
            )
    return found


@register(Tags.security)
def outbound_calls(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge what the service may call, and whose certificates it believes."""
    found: list[CheckMessage] = []
    try:
        read_rules(settings.IAM_OUTBOUND_ALLOW)
    except ValueError as problem:
        found.append(
            Error(
                f"IAM_OUTBOUND_ALLOW: {problem}.",
                hint="Write hosts, and networks for private addresses: app.example.org app2.example.org:8443 10.1.0.0/16",
                id="iam.E012",
            )
        )
    for name in ("IAM_OUTBOUND_CA_FILE", "IAM_CLIENT_CERTIFICATE_CA_FILE"):
        file = getattr(settings, name)
        try:
            if file and not x509.load_pem_x509_certificates(Path(file).read_bytes()):
                raise ValueError("no certificate in it")
        except (OSError, ValueError) as problem:
            found.append(
                Error(
                    f"{name} cannot be read: {problem}.",
                    hint="Name a file of PEM certificates that the service may read.",
                    id="iam.E013",
                )
            )
    return found


@register(Tags.security, deploy=True)
def deploy_only(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge what is meant for tests and demonstrations only."""
    found: list[CheckMessage] = []
    if settings.IAM_THROTTLE_EXEMPT_NETWORKS:
        found.append(
            Error(
                "IAM_THROTTLE_EXEMPT_NETWORKS is set: guesses from there are not slowed.",
                hint="Leave it empty; it exists for load tests.",
                id="iam.E009",
            )
        )
    if settings.IAM_MODE != Mode.PRODUCTION:
        found.append(Error("IAM_MODE is not production.", hint="Set IAM_MODE=production.", id="iam.E010"))
    if not settings.DIRECTORY_SOURCES:
        found.append(
            Error("No directory is configured.", hint="Set IAM_LDAP_URLS and the rest.", id="iam.E011")
        )
    if settings.IAM_MODE == Mode.PRODUCTION and not settings.IAM_DATABASE_RUNTIME_ROLE:
        found.append(
            CheckWarning(
                "IAM_DATABASE_RUNTIME_ROLE is empty: the service and its migrations share one database role.",
                hint="See docs/settings.md, two database roles.",
                id="iam.W002",
            )
        )
    return found
