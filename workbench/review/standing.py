"""How far a reader has come with an exam under a protocol: what may be shown now, and what may be said."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from workbench.review.protocols import STAGES, VISIBLE, is_blind

REVEALS: Final = ("grade", "uncertainty", "map")
"""Stages of the blinded protocol that show more of the model, each by a press of its own."""

FINAL_STAGE: Final[dict[str, str]] = {protocol: stages[-1] for protocol, stages in STAGES.items()}
"""The stage whose read ends an exam for a reader."""


@dataclass(frozen=True)
class Standing:
    """One reader, one exam, now.

    Args:
        protocol: of this run of the app.
        form: the stage at which a read may be saved; None while the reader is looking at a reveal.
        visible: the stage whose rule says what of the model may be on the page.
        next_reveal: what may be revealed by the next press; None for nothing.
    """

    protocol: str
    form: str | None
    visible: str
    next_reveal: str | None = None

    @property
    def blind(self) -> bool:
        """Whether nothing of the model may reach the browser."""
        return is_blind(self.visible)

    def shows(self, what: str) -> bool:
        """Return whether a key of the model's answer may be shown, e.g. ``maps``."""
        return what in VISIBLE[self.visible]


def standing(protocol: str, saved: Collection[str], revealed: Collection[str]) -> Standing:
    """Return where a reader stands.

    Args:
        protocol: one of `STAGES`.
        saved: stages of this protocol at which this reader has saved a read of the exam.
        revealed: stages of this protocol that this reader was shown.

    >>> standing("blinded", {"first"}, ("grade",)).next_reveal
    'uncertainty'
    """
    if protocol == "adjudication":
        shown = "adjudication" in revealed
        return Standing(protocol, "adjudication", "adjudication" if shown else "first", None if shown else protocol)
    if protocol != "blinded":
        return Standing(protocol, STAGES[protocol][0], STAGES[protocol][0])
    if "first" not in saved:
        return Standing(protocol, "first", "first")
    seen = [stage for stage in REVEALS if stage in revealed]
    if len(seen) < len(REVEALS):
        return Standing(protocol, None, seen[-1] if seen else "first", REVEALS[len(seen)])
    return Standing(protocol, "second", "second")
