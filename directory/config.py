"""How one directory is reached and read. Pure: `iam.settings` builds these from the environment."""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from directory.brake import DEFAULT_BRAKE, Brake

DEFAULT_PORTS = {"ldap": 389, "ldaps": 636}
# Whatever people and groups may stand below.
DEFAULT_UNIT_FILTER = (
    "(|(objectClass=organizationalUnit)(objectClass=organization)(objectClass=dcObject)(objectClass=domain)"
    "(objectClass=container)(objectClass=locality)(objectClass=country))"
)


# What may be written back at all. Names, mail and status are the directory's, whatever the settings say.
WRITABLE = frozenset({"language", "telephone"})


class EntryIdForm(StrEnum):
    """How the immutable id of an entry is written on the wire."""

    TEXT = "text"  # entryUUID (RFC 4530), nsUniqueId, ipaUniqueID
    GUID = "guid"  # objectGUID of Active Directory: 16 bytes, the first three fields little-endian


class Flavour(StrEnum):
    """Which server product a directory is: how it tells changes, and what its immutable ids look like."""

    OPENLDAP = "openldap"
    DS389 = "389ds"
    ACTIVE_DIRECTORY = "active_directory"


@dataclass(frozen=True, slots=True)
class StatusRule:
    """When an attribute says that a person is disabled.

    Values are compared without regard to case. `disabled`: one of these disables. `active`: when not empty,
    any value outside it disables, so that a status nobody told us about denies. `disabled_bits`: a number with
    one of these bits set disables; what is no number disables too. An absent attribute never does.
    """

    attribute: str
    disabled: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()
    disabled_bits: int = 0


DEFAULT_STATUS_RULES = (
    StatusRule("orgAccountStatus", active=frozenset({"active", "enabled"})),
    # ppolicy: locked for good by an administrator. Other times there are passing locks, which the bind judges.
    StatusRule("pwdAccountLockedTime", disabled=frozenset({"000001010000z"})),
    StatusRule("nsAccountLock", disabled=frozenset({"true"})),  # 389 Directory Server, FreeIPA
    StatusRule("userAccountControl", disabled_bits=0x2),  # Active Directory: ACCOUNTDISABLE
)


class PasswordForm(StrEnum):
    """How a directory wants to hear a new password."""

    MODIFY_PASSWORD = "modify_password"  # noqa: S105 -- the extended operation of RFC 3062
    UNICODE_PWD = "unicode_pwd"  # noqa: S105 -- Active Directory's attribute, over TLS only


class TimeForm(StrEnum):
    """How a directory writes an instant."""

    GENERALIZED = "generalized"  # 20271231235959Z (RFC 4517 §3.3.13)
    FILETIME = "filetime"  # Active Directory: 100 ns since 1601; 0 and 2**63-1 are never
    DAYS = "days"  # shadow: days since 1970; negative is never


@dataclass(frozen=True, slots=True)
class TimeRule:
    """An attribute that holds an instant. One that cannot be read counts as long past: errors deny."""

    attribute: str
    form: TimeForm = TimeForm.GENERALIZED


DEFAULT_END_RULES = (
    TimeRule("orgContractEnd"),
    TimeRule("pwdEndTime"),  # ppolicy
    TimeRule("accountExpires", TimeForm.FILETIME),  # Active Directory
    TimeRule("shadowExpire", TimeForm.DAYS),
    TimeRule("krbPrincipalExpiration"),  # FreeIPA
)
DEFAULT_PASSWORD_END_RULES = (
    TimeRule("msDS-UserPasswordExpiryTimeComputed", TimeForm.FILETIME),
    TimeRule("passwordExpirationTime"),  # 389 Directory Server
    TimeRule("krbPasswordExpiration"),
)
# The person must choose a new password before anything else: attribute, and the value that says so.
DEFAULT_MUST_CHANGE = (("pwdReset", "true"), ("pwdLastSet", "0"), ("shadowLastChange", "0"))
# A lock that passes by itself. It refuses a sign-in and ends nothing: whoever can guess wrongly three times must
# not be able to sign a minister out.
DEFAULT_LOCK_RULES = (StatusRule("msDS-User-Account-Control-Computed", disabled_bits=0x10),)


@dataclass(frozen=True, slots=True)
class AttributeNames:
    """Which LDAP attributes hold what we use; the first that has a value wins."""

    login: tuple[str, ...] = ("uid",)
    name_latin: tuple[str, ...] = ("displayName", "cn")
    name_arabic: tuple[str, ...] = ("displayName;lang-ar", "cn;lang-ar")
    email: tuple[str, ...] = ("mail",)
    language: tuple[str, ...] = ("preferredLanguage",)
    telephone: tuple[str, ...] = ("telephoneNumber", "mobile")
    title_ar: tuple[str, ...] = ("title;lang-ar",)
    title_fr: tuple[str, ...] = ("title;lang-fr",)
    title_en: tuple[str, ...] = ("title;lang-en", "title")
    manager: tuple[str, ...] = ("manager",)
    office: tuple[str, ...] = ("orgOfficeCode", "physicalDeliveryOfficeName")
    group_name: tuple[str, ...] = ("cn",)


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a directory, read from its address."""

    host: str
    port: int
    is_ldaps: bool  # else StartTLS before anything else; there is no third way

    @property
    def url(self) -> str:
        """Return the address, for operators."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.is_ldaps else 'ldap'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Source:
    """One directory: its servers in order of preference, the service account, and where people and groups are.

    An empty `ca_file` means the authorities that the machine trusts; that the certificate is checked cannot be
    configured. `decoy_dn` may name an entry whose password nobody knows, hashed like the people's: unknown
    names are then tried against it. It is needed only where the hash is slow (ARGON2, PBKDF2), for else the
    time a wrong password takes would tell that the name exists.

    Raises ValueError with one clear sentence when the parts do not make a safe whole.
    """

    name: str
    urls: tuple[str, ...]
    bind_dn: str
    bind_password: str = field(repr=False)
    base_dn: str
    flavour: Flavour = Flavour.OPENLDAP
    starttls: bool = False
    ca_file: str = ""
    user_filter: str = "(&(objectClass=inetOrgPerson)(uid={login}))"
    group_base_dn: str = ""
    group_filter: str = "(objectClass=groupOfNames)"
    unit_filter: str = DEFAULT_UNIT_FILTER
    member_attribute: str = "member"
    entry_id_attribute: str = "entryUUID"
    entry_id_form: EntryIdForm = EntryIdForm.TEXT
    attributes: AttributeNames = AttributeNames()
    status_rules: tuple[StatusRule, ...] = DEFAULT_STATUS_RULES
    lock_rules: tuple[StatusRule, ...] = DEFAULT_LOCK_RULES
    end_rules: tuple[TimeRule, ...] = DEFAULT_END_RULES
    password_end_rules: tuple[TimeRule, ...] = DEFAULT_PASSWORD_END_RULES
    must_change: tuple[tuple[str, str], ...] = DEFAULT_MUST_CHANGE
    # The separate account that may set passwords and write what is owned here, and nothing else; "" = not at all.
    writer_dn: str = ""
    writer_password: str = field(default="", repr=False)
    password_form: PasswordForm = PasswordForm.MODIFY_PASSWORD
    # What the service owns of a person and writes back: of "language" and "telephone", none by default.
    write_back: tuple[str, ...] = ()
    rule_attributes: tuple[str, ...] = ("employeeType", "departmentNumber")
    brake: Brake = DEFAULT_BRAKE
    decoy_dn: str = ""
    budget_seconds: float = 3.0  # for one question, whatever number of servers
    connect_seconds: float = 1.0  # for the TCP connection to one address
    groups_max: int = 5000  # more groups than this of one person are an error, not a truncation
    kept_connections_max: int = 8  # of each kind, to each server, in each process

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError(f"Directory {self.name}: no address given.")
        _ = self.servers
        for what in ("name", "bind_dn", "bind_password", "base_dn"):
            value = getattr(self, what)
            # An empty name or password would turn the bind into an anonymous one (RFC 4513 §5.1.2).
            if not value.strip() or "\0" in value:
                raise ValueError(f"Directory {self.name}: {what} must not be empty.")
        if bool(self.writer_dn.strip()) != bool(self.writer_password.strip()):
            raise ValueError(f"Directory {self.name}: writer_dn and writer_password come together.")
        if set(self.write_back) - WRITABLE:
            raise ValueError(
                f"Directory {self.name}: only {', '.join(sorted(WRITABLE))} can be written back."
            )
        if self.write_back and not self.writer_dn:
            raise ValueError(
                f"Directory {self.name}: write_back needs writer_dn: nothing is written by who reads."
            )
        if "{login}" not in self.user_filter:
            raise ValueError(f"Directory {self.name}: user_filter must contain {{login}}.")
        if not 0 < self.connect_seconds <= self.budget_seconds <= 30:
            raise ValueError(f"Directory {self.name}: the time limits contradict each other.")

    @property
    def servers(self) -> tuple[Server, ...]:
        """Return the servers in order of preference."""
        return tuple(self._server(url) for url in self.urls)

    @property
    def group_base(self) -> str:
        """Return where groups are searched."""
        return self.group_base_dn or self.base_dn

    def _server(self, url: str) -> Server:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise ValueError(f"Directory {self.name}: {url!r} is no address.") from error
        if (
            parts.scheme not in DEFAULT_PORTS
            or not host
            or parts.path.strip("/")
            or parts.query
            or parts.username
        ):
            raise ValueError(f"Directory {self.name}: {url!r} must look like ldaps://host:port.")
        if parts.scheme == "ldap" and not self.starttls:
            raise ValueError(f"Directory {self.name}: {url!r} would send passwords in clear; set StartTLS.")
        return Server(host, port, parts.scheme == "ldaps")
