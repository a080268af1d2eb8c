"""The one base of the service's errors. Pure."""


class IAMError(Exception):
    """Carry what an error means to a program, a person and an operator.

    `code` is stable and machine-readable, `status` the HTTP status, `public` may be shown to
    anybody, `hint` is for operators: it is logged and printed by commands, never sent.
    """

    code = "server_error"
    status = 500
    public = "The service could not do this."

    def __init__(
        self,
        hint: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        public: str | None = None,
    ) -> None:
        super().__init__(hint or public or self.public)
        self.code = code or self.code
        self.status = status or self.status
        self.public = public or self.public
        self.hint = hint


class NotKnown(IAMError):
    """Say that something named by the caller does not exist (or is not visible to the caller)."""

    code = "not_known"
    status = 404
    public = "There is no such thing."


class Conflict(IAMError):
    """Say that a change contradicts what is already there."""

    code = "conflict"
    status = 409
    public = "This contradicts what is already there."


class NotAllowed(IAMError):
    """Say that the actor may not do this."""

    code = "not_allowed"
    status = 403
    public = "You may not do this."
