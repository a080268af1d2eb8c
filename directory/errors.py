"""The one error of this package, and why a directory could not answer. Pure."""

from enum import StrEnum


class UnavailableReason(StrEnum):
    """Why a directory gave no answer that can be believed."""

    UNREACHABLE = "unreachable"  # no connection, or it broke
    TIMEOUT = "timeout"  # no whole answer in time
    TLS = "tls"  # no protected channel: certificate, StartTLS, protocol version
    NONSENSE = "nonsense"  # what came is not LDAP, or not what was asked for
    REFUSED = "refused"  # it answered, and would not serve: service account, limits, rights, busy
    LAGGING = "lagging"  # a replica that has not yet what another server told us: wait, keep the cookie


class DirectoryError(Exception):
    """Say that a directory gave no answer; the caller must refuse, and must not say "wrong password".

    `hint` is for operators and holds neither passwords nor what a person typed. `may_try_next` says whether
    another server of the same directory may be asked; `is_dead_connection` that a connection had ended before
    an answer came, as a kept one does when the server was restarted.
    """

    def __init__(
        self,
        reason: UnavailableReason,
        hint: str,
        *,
        may_try_next: bool = True,
        is_dead_connection: bool = False,
    ) -> None:
        super().__init__(f"{reason}: {hint}")
        self.reason = reason
        self.hint = hint
        self.may_try_next = may_try_next
        self.is_dead_connection = is_dead_connection
