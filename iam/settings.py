"""Every setting of the service: read from the environment once, typed, none with a default secret.

Each name is explained in docs/settings.md. A secret may also be given as a file: `IAM_X_FILE=/run/secrets/x`.
"""

import base64
import ipaddress
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from directory.config import Source
from directory.sources import read_sources

BASE_DIR = Path(__file__).resolve().parent.parent


class Mode(StrEnum):
    """Where the service runs; only `production` is meant for real people."""

    PRODUCTION = "production"
    DEMO = "demo"  # `make run`
    TEST = "test"


# Files that are read where they are used, and are no secrets.
_FILES = frozenset({"IAM_LDAP_CA_FILE", "IAM_OUTBOUND_CA_FILE", "IAM_CLIENT_CERTIFICATE_CA_FILE"})


def _environment() -> dict[str, str]:
    """Return IAM_* variables, with the content of every IAM_*_FILE under the name without `_FILE`."""
    found = {name: value for name, value in os.environ.items() if name.startswith("IAM_")}
    for name in [name for name in found if name.endswith("_FILE") and name not in _FILES]:
        found[name.removesuffix("_FILE")] = Path(found.pop(name)).read_text(encoding="utf-8").strip()
    return found


class Environment(BaseSettings):
    """What may differ between two installations."""

    model_config = SettingsConfigDict(env_prefix="IAM_", extra="ignore")

    mode: Mode = Mode.PRODUCTION
    issuer: str = ""
    secret_key: SecretStr = SecretStr("")
    encryption_keys: SecretStr = SecretStr("")
    database_url: SecretStr = SecretStr("")
    database_runtime_role: str = ""
    key_rotation_days: int = Field(default=90, ge=2, le=365)
    pkcs11_module: str = ""
    pkcs11_token_label: str = ""
    pkcs11_pin: SecretStr = SecretStr("")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    client_certificate_ca_file: str = ""
    client_certificate_address: str = ""
    client_certificate_header: str = Field(default="Client-Cert", pattern=r"^[A-Za-z0-9-]{1,64}$")
    throttle_exempt_networks: Annotated[tuple[str, ...], NoDecode] = ()
    outbound_allow: Annotated[tuple[str, ...], NoDecode] = ()
    outbound_ca_file: str = ""
    static_root: str = ""
    log_level: str = "INFO"

    directories_file: str = ""
    ldap_urls: Annotated[tuple[str, ...], NoDecode] = ()
    ldap_starttls: bool = False
    ldap_ca_file: str = ""
    ldap_bind_dn: str = ""
    ldap_bind_password: SecretStr = SecretStr("")
    ldap_base_dn: str = ""
    ldap_writer_dn: str = ""
    ldap_writer_password: SecretStr = SecretStr("")
    ldap_group_base_dn: str = ""
    ldap_user_filter: str = "(&(objectClass=inetOrgPerson)(uid={login}))"
    ldap_source_name: str = "directory"

    password_words: Annotated[tuple[str, ...], NoDecode] = ()
    session_hours: int = Field(default=12, ge=1, le=24)
    session_idle_minutes: int = Field(default=60, ge=1, le=720)
    default_language: str = "ar"

    @field_validator("*", mode="before")
    @classmethod
    def _split(cls, value: Any, info: Any) -> Any:  # Any: pydantic hands over what the variable held
        if isinstance(value, str) and info.field_name in _LISTS:
            return tuple(part for part in value.replace(",", " ").split() if part)
        return value


_LISTS = {"trusted_proxies", "throttle_exempt_networks", "outbound_allow", "ldap_urls", "password_words"}


def _text_of(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _database(url: str) -> dict[str, Any]:  # Any: Django's own shape
    """Turn `sqlite:///path` or `postgresql://user:password@host:port/name` into Django's shape."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = unquote(parts.path)
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": ":memory:" if path in {"", "/:memory:"} else path,
            "OPTIONS": {
                # A writer takes its lock at BEGIN: two requests that read first and write later would
                # otherwise fail each other with "database is locked" whatever the time-out.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            },
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or "")
        if not parts.query.startswith("host=")
        else unquote(parts.query[5:]),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 5,
            "application_name": "iam",
            # What is prepared (sql.py) is planned once: planning the walk up the offices costs more than walking.
            "options": "-c plan_cache_mode=force_generic_plan",
        },
    }


def _keys(text: str) -> dict[str, bytes]:
    """Read `id:base64,id:base64`; the first key encrypts, every key decrypts."""
    pairs = (part.split(":", 1) for part in text.replace("\n", ",").split(",") if ":" in part)
    return {key_id.strip(): base64.b64decode(value.strip()) for key_id, value in pairs}


_given = _environment()
os.environ.update({name: value for name, value in _given.items() if name not in os.environ})
IAM = Environment()

# -- who we are ---------------------------------------------------------------------------------------
IAM_MODE = IAM.mode
IAM_ISSUER = IAM.issuer.rstrip("/")
_issuer = urlsplit(IAM_ISSUER)
IAM_HTTPS = _issuer.scheme == "https"
SECRET_KEY = IAM.secret_key.get_secret_value()
IAM_ENCRYPTION_KEYS = _keys(IAM.encryption_keys.get_secret_value())
IAM_KEY_ROTATION_DAYS = IAM.key_rotation_days
IAM_PKCS11_MODULE = IAM.pkcs11_module
IAM_PKCS11_TOKEN_LABEL = IAM.pkcs11_token_label
IAM_PKCS11_PIN = IAM.pkcs11_pin.get_secret_value()
IAM_TRUSTED_PROXIES = tuple(ipaddress.ip_network(text, strict=False) for text in IAM.trusted_proxies)
# The same header as WSGI spells it.
IAM_CLIENT_CERTIFICATE_VARIABLE = "HTTP_" + IAM.client_certificate_header.upper().replace("-", "_")
IAM_THROTTLE_EXEMPT_NETWORKS = tuple(
    ipaddress.ip_network(text, strict=False) for text in IAM.throttle_exempt_networks
)
IAM_CLIENT_CERTIFICATE_CA_FILE = IAM.client_certificate_ca_file
IAM_OUTBOUND_ALLOW = IAM.outbound_allow
IAM_OUTBOUND_CA_FILE = IAM.outbound_ca_file
IAM_CLIENT_CERTIFICATE_ADDRESS = IAM.client_certificate_address.rstrip("/")
IAM_PASSWORD_WORDS = IAM.password_words
IAM_SESSION_HOURS = IAM.session_hours
IAM_SESSION_IDLE_MINUTES = IAM.session_idle_minutes

# -- Django ---------------------------------------------------------------------------------------------
DEBUG = False
ALLOWED_HOSTS = [
    host for host in {_issuer.hostname or "", "testserver" if IAM_MODE == Mode.TEST else ""} if host
]
ALLOWED_HOSTS += [host for host in [urlsplit(IAM_CLIENT_CERTIFICATE_ADDRESS).hostname] if host]
if _issuer.hostname == "localhost":  # the same machine by its other names, for health checks and scripts
    ALLOWED_HOSTS += ["127.0.0.1", "[::1]"]
ROOT_URLCONF = "iam.urls"
WSGI_APPLICATION = "iam.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS: list[str] = []  # nobody signs in through django.contrib.auth

INSTALLED_APPS = [
    "iam",  # first: its commands (cleartokens) come before those of the same name
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.staticfiles",
    "rest_framework",
    "oauth2_provider",
    "directory",
    "mfa",
    "iam.audit",
    "iam.accounts",
    "iam.access",
    "iam.oauth",
    "iam.login",
    "iam.portal",
]

MIDDLEWARE = [
    "iam.portal.middleware.RequestFactsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "iam.portal.middleware.PageGZipMiddleware",
    "iam.portal.middleware.LanguageMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "iam.portal.middleware.PageHeadersMiddleware",
    "django.middleware.common.CommonMiddleware",  # last: its refusal of a Host is a page like any other
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["iam.portal.context.page"]},
    }
]

DATABASES = {"default": _database(IAM.database_url.get_secret_value() or "sqlite://")}
IAM_DATABASE_RUNTIME_ROLE = IAM.database_runtime_role

# Secret cookies: `__Host-` and Secure on https, neither on an http loopback issuer (a browser would drop them).
IAM_COOKIE_PREFIX = "__Host-iam-" if IAM_HTTPS else "iam-"
CSRF_COOKIE_NAME = f"{IAM_COOKIE_PREFIX}csrf"
CSRF_COOKIE_SECURE = IAM_HTTPS
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_AGE = None
CSRF_FAILURE_VIEW = "iam.portal.views.csrf_failure"
SESSION_COOKIE_SECURE = IAM_HTTPS  # Django's sessions are not installed; written out for `check --deploy`
LANGUAGE_COOKIE_NAME = f"{IAM_COOKIE_PREFIX}lang"

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"  # Django's CSRF check reads the origin; applications get nothing
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 63072000 if IAM_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IAM_HTTPS
SECURE_HSTS_PRELOAD = IAM_HTTPS
SECURE_SSL_REDIRECT = False  # the reverse proxy's work: behind it every request looks like http
SILENCED_SYSTEM_CHECKS = [
    "security.W008"
]  # which asks for the redirect that the line above leaves to the proxy
CSRF_TRUSTED_ORIGINS = [IAM_ISSUER] if IAM_ISSUER else []  # for the same reason: the browser says https
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 262_144
DATA_UPLOAD_MAX_NUMBER_FIELDS = 100
DATA_UPLOAD_MAX_NUMBER_FILES = 0

STATIC_URL = "/static/"
STATIC_ROOT = Path(IAM.static_root) if IAM.static_root else BASE_DIR / "var" / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True

# -- languages ------------------------------------------------------------------------------------------
LANGUAGE_CODE = IAM.default_language
LANGUAGES = [("ar", "العربية"), ("fr", "Français"), ("en", "English")]
LOCALE_PATHS = [BASE_DIR / "iam" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# -- the leaves -------------------------------------------------------------------------------------------
if IAM.directories_file and IAM.ldap_urls:
    raise ImproperlyConfigured(
        "IAM_DIRECTORIES_FILE describes every directory: IAM_LDAP_URLS must then be empty."
    )
DIRECTORY_SOURCES: tuple[Source, ...]
if IAM.directories_file:
    try:
        DIRECTORY_SOURCES = read_sources(_text_of(IAM.directories_file), _text_of)
    except (OSError, ValueError) as problem:
        raise ImproperlyConfigured(f"IAM_DIRECTORIES_FILE: {problem}") from None
else:
    DIRECTORY_SOURCES = (
        (
            Source(
                name=IAM.ldap_source_name,
                urls=IAM.ldap_urls,
                starttls=IAM.ldap_starttls,
                ca_file=IAM.ldap_ca_file,
                bind_dn=IAM.ldap_bind_dn,
                bind_password=IAM.ldap_bind_password.get_secret_value(),
                base_dn=IAM.ldap_base_dn,
                group_base_dn=IAM.ldap_group_base_dn or IAM.ldap_base_dn,
                user_filter=IAM.ldap_user_filter,
                writer_dn=IAM.ldap_writer_dn,
                writer_password=IAM.ldap_writer_password.get_secret_value(),
            ),
        )
        if IAM.ldap_urls
        else ()
    )
MFA_ENCRYPTION_KEYS = IAM_ENCRYPTION_KEYS
MFA_ISSUER_NAME = "Secretariat"

# -- django-oauth-toolkit: its models are ours, its endpoints are never routed (docs/adr/0003) --------------
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth.Client"
OAUTH2_PROVIDER_GRANT_MODEL = "oauth.Grant"
OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL = "oauth.AccessToken"  # noqa: S105 -- a model's name
OAUTH2_PROVIDER_REFRESH_TOKEN_MODEL = "oauth.RefreshToken"  # noqa: S105 -- a model's name
OAUTH2_PROVIDER_ID_TOKEN_MODEL = "oauth.IDToken"  # noqa: S105 -- a model's name
OAUTH2_PROVIDER_DEVICE_GRANT_MODEL = "oauth.DeviceGrant"
OAUTH2_PROVIDER = {
    # Written out even where they equal today's default: a library's changed default must not change us.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_SCHEME": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_MATCHING": True,
    "COMPLIANT_BCP_RFC9700_PKCE_REQUIRED": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],  # loopback http is judged by our own matcher (RFC 8252 §7.3)
    "ALLOW_URI_WILDCARDS": False,
    "PKCE_REQUIRED": True,
    "ACCESS_TOKEN_EXPIRE_SECONDS": 300,
    "OIDC_ENABLED": False,  # its OIDC endpoints are not ours
}

# -- logs -------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": IAM.log_level},
}
