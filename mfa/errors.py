"""The one error of this package. Pure."""


class MFAError(Exception):
    """Say that a factor cannot be judged at all; the caller must refuse.

    `code` is stable and machine-readable; the text is for operators and carries no secret.
    """

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(hint)
        self.code = code
        self.hint = hint
