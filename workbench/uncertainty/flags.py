"""What a flag says, in one wording for a run, a table and a screen. No torch here."""

from __future__ import annotations

from typing import Final

from workbench.schema.words import SCORE_NAMES

UNLIKE: Final = "unlike the training photographs"


def flag_of(laterality: str | None, unlike: tuple[str, ...]) -> str | None:
    """Return the flag of an eye from its laterality's verdict and the scores that call it unlike; None for none.

    >>> flag_of(None, ("energy",)), flag_of(None, ())
    ('unlike the training photographs (energy of the logits)', None)
    """
    said = [laterality] if laterality else []
    if unlike:
        said.append(f"{UNLIKE} ({', '.join(SCORE_NAMES[name] for name in unlike)})")
    return "; ".join(said) or None
