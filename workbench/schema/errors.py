"""The one error that a user may see."""

from __future__ import annotations


class WorkbenchError(Exception):
    """A mistake in a file, a flag or a folder, told in one line with its remedy.

    Args:
        what: what was found, with the value received.
        remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} — {remedy}")
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[WorkbenchError], tuple[str, str]]:
        # An exception is rebuilt from its one message; a worker process must be able to send this one home.
        return type(self), (self.what, self.remedy)
