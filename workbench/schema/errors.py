"""The one error that a user may see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


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

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is rebuilt from its one message; a worker process must be able to send this one home.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[WorkbenchError], args: tuple[str, ...], state: dict[str, Any]) -> WorkbenchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def did_you_mean(given: str, known: Iterable[str], otherwise: str = "remove it") -> str:
    """Return a remedy that names the nearest of ``known``; ``otherwise`` where there is none.

    >>> did_you_mean("pdg", ["pgd", "fgsm"])
    "did you mean 'pgd'?"
    """
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}?" if near else otherwise
