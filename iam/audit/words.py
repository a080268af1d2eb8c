"""What each action is, in words for somebody who reads the audit for the first time. Operators' words, not translated."""

from collections.abc import Mapping

from .tags import Action

WORDS: Mapping[Action, str] = {
    # signing in
    Action.PASSWORD_VERIFY: "a password was checked",
    Action.PASSWORD_CHANGE: "a person chose a new password",
    Action.PASSWORD_RESET: "an administrator gave a person a password, to be changed at once",
    Action.FACTOR_VERIFY: "a code of the second factor was checked",
    Action.FACTOR_ENROL: "a second factor was set up",
    Action.FACTOR_REMOVE: "a second factor was removed",
    Action.RECOVERY_USE: "a recovery code was used",
    Action.SESSION_OPEN: "a sign-in session began",
    Action.SESSION_END: "a sign-in session ended",
    Action.DIRECTORY_ASK: "the directory was asked",
    # the provider
    Action.CODE_ISSUE: "a person was sent on to an application",
    Action.DEVICE_BEGIN: "a device asked to be let in",
    Action.DEVICE_ANSWER: "a person answered for a device",
    Action.DEVICE_REPLAY: "a device's code was used a second time; what it had given was ended",
    Action.CONSENT_GIVE: "a person was asked what an application may learn",
    Action.REQUEST_PUSH: "an application sent an authorization request ahead",
    Action.TOKEN_ISSUE: "an application asked for tokens",
    Action.TOKEN_REVOKE: "an application gave tokens back",
    Action.TOKEN_INTROSPECT: "an application asked what a token is worth",
    Action.LOGOUT_TELL: "an application was told that a session ended",
    Action.CODE_REPLAY: "an authorization code was used a second time; what it had given was ended",
    Action.REFRESH_REPLAY: "a refresh token was used a second time; what it had given was ended",
    Action.ANONYMOUS_REFUSE: "somebody unknown was refused",
    # people
    Action.PERSON_CREATE: "an account was made from the directory",
    Action.PERSON_CHANGE: "an account's names were read again from the directory",
    Action.PERSON_CHOOSE: "a person chose something that is kept here and written back",
    Action.PERSON_DEACTIVATE: "an account was switched off, as the directory says",
    Action.PERSON_REACTIVATE: "an account was switched on again, as the directory says",
    Action.PERSON_LOCK: "an account was locked",
    Action.PERSON_RELEASE: "an account was released",
    Action.PERSON_EXPIRY: "the end of an account was set",
    Action.REMOVAL_HOLD: "people the directory would put out are held until an administrator approves",
    Action.READING_REFUSE: "what the directory sent was not believed, and nothing was done",
    Action.REMOVAL_APPROVE: "what was held was approved",
    Action.REMOVAL_RESTORE: "people who had left the directory were restored",
    Action.LOGIN_RELEASE: "a login name passed to somebody else in the directory",
    Action.OFFICE_MISSING: "the directory names an office that is not known here",
    Action.POSTING_CHANGE: "a person's home office changed in the directory",
    Action.THROTTLE_CLEAR: "the delay after failed sign-ins was lifted",
    # rights
    Action.ROLE_ASSIGN: "a role was given",
    Action.ROLE_REVOKE: "a role was taken away",
    Action.OFFICE_CHANGE: "an office was changed",
    Action.ROLE_CHANGE: "a role was changed",
    Action.APPLICATION_CHANGE: "an application was changed",
    # the installation
    Action.CLIENT_CREATE: "a client was made",
    Action.CLIENT_CHANGE: "a client was changed",
    Action.DETAIL_TYPE_CHANGE: "a type of authorization details was changed",
    Action.CLIENT_REGISTER: "a client registered itself",
    Action.REGISTRATION_CHANGE: "a client changed its own registration",
    Action.REGISTRATION_END: "a client ended its own registration",
    Action.INVITATION_CREATE: "an application team was invited to register clients",
    Action.INVITATION_END: "an invitation was withdrawn",
    Action.SECRET_ROTATE: "a client was given a new secret",
    Action.ISSUER_CHANGE: "a trusted issuer was changed",
    Action.KEY_CREATE: "a signing key was made",
    Action.KEY_ACTIVATE: "a signing key began to sign",
    Action.KEY_REPLACE: "a signing key was replaced",
    Action.KEY_RETIRE: "a signing key was retired",
    Action.AUDIT_READ: "the audit was read",
}


def in_words(action: str) -> str:
    """Return what an action is; a tag of a later release stands for itself."""
    known = {str(tag): words for tag, words in WORDS.items()}
    return known.get(action, action)
