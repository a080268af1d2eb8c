"""What a directory says about a password: in the control of its password policy, and in the words of Active Directory. Pure.

A directory refuses a new password for reasons that a person can act on ("too short", "used before"). They come as a
number in a control (draft-behera-ldap-password-policy), as a code in a text, or not at all.
Spec: draft-behera-ldap-password-policy-10 §6.2; RFC 3062.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

# The control's object identifier, of the request and of the response.
POLICY_CONTROL = "1.3.6.1.4.1.42.2.27.8.5.1"
PASSWORD_MODIFY = "1.3.6.1.4.1.4203.1.11.1"  # noqa: S105 -- RFC 3062's object identifier
SECONDS_MAX = 10 * 366 * 24 * 3600
# Active Directory puts its own code into the text of result 49: "... data 773, v4563".
_WINDOWS_CODE = re.compile(r"\bdata ([0-9a-f]{3})\b")
# ... and into that of a refused change: "0000052D: ..." (password restriction).
_WINDOWS_ERROR = re.compile(r"^0*([0-9A-Fa-f]{1,8}):")


class PasswordProblem(StrEnum):
    """Why a directory did not take a new password."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_SIMPLE = "too_simple"
    IN_HISTORY = "in_history"
    TOO_YOUNG = "too_young"  # the old one was set too lately to be changed again
    NOT_ALLOWED = "not_allowed"  # this person may not change it
    POLICY = "policy"  # it breaks a rule that the directory does not name


class Refusal(StrEnum):
    """Why a name and a password were not taken, where the directory says so only to who knew the password."""

    WRONG = "wrong"  # or anything that must look like it
    MUST_CHANGE = "must_change"  # right, and no longer good for signing in: a new one must be set
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class PasswordState:
    """What the directory says of a password that was right."""

    must_change: bool = False
    expires_in: timedelta | None = None
    sign_ins_left: int | None = None  # after it expired: so many times it still works


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """The control of a directory's password policy, read."""

    expires_in: timedelta | None = None
    sign_ins_left: int | None = None
    error: int | None = None

    @property
    def state(self) -> PasswordState:
        """Return what it says of a password that was taken."""
        return PasswordState(self.error == _CHANGE_AFTER_RESET, self.expires_in, self.sign_ins_left)

    @property
    def refusal(self) -> Refusal:
        """Return what it says of one that was not. A lock is told to nobody: it is said to wrong guesses too."""
        match self.error:
            case 0:
                return Refusal.EXPIRED
            case 2:
                return Refusal.MUST_CHANGE
            case _:
                return Refusal.WRONG

    @property
    def problem(self) -> PasswordProblem | None:
        """Return why a new password was not taken; None when it does not say."""
        return _PROBLEMS.get(self.error) if self.error is not None else None


NO_STATE = PasswordState()
NO_ANSWER = PolicyAnswer()
_CHANGE_AFTER_RESET = 2
_PROBLEMS = {
    3: PasswordProblem.NOT_ALLOWED,
    5: PasswordProblem.TOO_SIMPLE,
    6: PasswordProblem.TOO_SHORT,
    7: PasswordProblem.TOO_YOUNG,
    8: PasswordProblem.IN_HISTORY,
    9: PasswordProblem.TOO_LONG,
}


def read_policy(value: bytes) -> PolicyAnswer:
    """Read the value of the policy's control; what cannot be read says nothing.

    Nothing here lets anybody in: a control only explains a result.
    Spec: draft-behera-ldap-password-policy-10 §6.2.
    """
    expires_in = sign_ins_left = error = None
    for tag, body in _elements(_body(value, 0x30)):
        if tag == 0xA0:  # warning
            for kind, number in _elements(body):
                seconds = int.from_bytes(number[:8], "big")
                if kind == 0x80:
                    expires_in = timedelta(seconds=min(seconds, SECONDS_MAX))
                elif kind == 0x81:
                    sign_ins_left = min(seconds, 1000)
        elif tag == 0x81 and len(body) == 1:
            error = body[0]
    return PolicyAnswer(expires_in, sign_ins_left, error)


def read_windows_refusal(text: str) -> Refusal:
    """Read Active Directory's reason for result 49. Said of right passwords only: 532 expired, 773 must change."""
    found = _WINDOWS_CODE.search(text)
    return {"532": Refusal.EXPIRED, "773": Refusal.MUST_CHANGE}.get(found[1] if found else "", Refusal.WRONG)


def read_windows_problem(text: str) -> PasswordProblem | None:
    """Read Active Directory's reason for a refused change; it names no rule (0000052D)."""
    found = _WINDOWS_ERROR.match(text.strip())
    return PasswordProblem.POLICY if found and int(found[1], 16) == 0x52D else None


def write_change(dn: str, old: bytes | None, new: bytes) -> bytes:
    """Write the value of a password modify request; without `old` it is a reset. Spec: RFC 3062 §2."""
    parts = _element(0x80, dn.encode("utf-8"))
    if old is not None:
        parts += _element(0x81, old)
    return _element(0x30, parts + _element(0x82, new))


def write_windows_password(password: str) -> bytes:
    """Write a password as `unicodePwd` wants it: in quotes, UTF-16 little-endian."""
    return f'"{password}"'.encode("utf-16-le")


def _element(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    written = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(written))) + written + body


def _body(data: bytes, tag: int) -> bytes:
    for found, body in _elements(data):
        return body if found == tag else b""
    return b""


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Cut short elements (RFC 4511's control is a dozen bytes); stop at the first that does not fit."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while len(data) - at >= 2 and data[at + 1] < 0x80:
        end = at + 2 + data[at + 1]
        if end > len(data):
            break
        found.append((data[at], data[at + 2 : end]))
        at = end
    return found
