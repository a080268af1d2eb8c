"""The closed list of what the audit can say: `subject:object:action`. A new one is added here and nowhere else."""

from enum import StrEnum


class Outcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    REFUSED = "refused"
    ERROR = "error"


class Action(StrEnum):
    """What happened."""

    # signing in
    PASSWORD_VERIFY = "person:password:verify"
    PASSWORD_CHANGE = "person:password:change"
    PASSWORD_RESET = "administrator:password:reset"
    FACTOR_VERIFY = "person:factor:verify"
    FACTOR_ENROL = "person:factor:enrol"
    FACTOR_REMOVE = "person:factor:remove"
    RECOVERY_USE = "person:recovery:use"
    SESSION_OPEN = "person:session:open"
    SESSION_END = "person:session:end"
    DIRECTORY_ASK = "service:directory:ask"
    # the provider
    CODE_ISSUE = "person:code:issue"
    DEVICE_BEGIN = "client:device:begin"
    DEVICE_ANSWER = "person:device:answer"
    DEVICE_REPLAY = "client:device:replay"
    CONSENT_GIVE = "person:consent:give"
    REQUEST_PUSH = "client:request:push"
    TOKEN_ISSUE = "client:token:issue"
    TOKEN_REVOKE = "client:token:revoke"
    TOKEN_INTROSPECT = "client:token:introspect"
    LOGOUT_TELL = "client:logout:tell"
    CODE_REPLAY = "client:code:replay"
    REFRESH_REPLAY = "client:refresh:replay"
    ANONYMOUS_REFUSE = "anonymous:request:refuse"
    # people
    PERSON_CREATE = "directory:person:create"
    PERSON_CHANGE = "directory:person:change"
    PERSON_DEACTIVATE = "directory:person:deactivate"
    PERSON_REACTIVATE = "directory:person:reactivate"
    PERSON_LOCK = "administrator:person:lock"
    PERSON_RELEASE = "administrator:person:release"
    PERSON_EXPIRY = "administrator:person:expiry"
    REMOVAL_HOLD = "directory:removal:hold"
    READING_REFUSE = "directory:reading:refuse"
    REMOVAL_APPROVE = "administrator:removal:approve"
    REMOVAL_RESTORE = "administrator:removal:restore"
    LOGIN_RELEASE = "directory:login:release"
    OFFICE_MISSING = "directory:office:missing"
    POSTING_CHANGE = "directory:posting:change"
    THROTTLE_CLEAR = "administrator:throttle:clear"
    # rights
    ROLE_ASSIGN = "administrator:role:assign"
    ROLE_REVOKE = "administrator:role:revoke"
    OFFICE_CHANGE = "administrator:office:change"
    ROLE_CHANGE = "administrator:role:change"
    APPLICATION_CHANGE = "administrator:application:change"
    # the installation
    CLIENT_CREATE = "administrator:client:create"
    CLIENT_CHANGE = "administrator:client:change"
    DETAIL_TYPE_CHANGE = "administrator:type:change"
    CLIENT_REGISTER = "client:registration:create"
    REGISTRATION_CHANGE = "client:registration:change"
    REGISTRATION_END = "client:registration:end"
    INVITATION_CREATE = "administrator:invitation:create"
    INVITATION_END = "administrator:invitation:end"
    SECRET_ROTATE = "administrator:secret:rotate"
    ISSUER_CHANGE = "administrator:issuer:change"
    KEY_CREATE = "administrator:key:create"
    KEY_ACTIVATE = "administrator:key:activate"
    KEY_REPLACE = "administrator:key:replace"
    KEY_RETIRE = "administrator:key:retire"
    AUDIT_READ = "administrator:audit:read"
