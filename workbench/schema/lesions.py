"""The kinds of lesion that masks mark and the detector finds, their colours, and the card of a detector."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from workbench.schema.config import Config

OPTIC_DISC: Final = "optic disc"
LESIONS: Final = ("microaneurysm", "haemorrhage", "hard exudate", "soft exudate")
"""What IDRiD marks and the detector looks for."""

LABELS: Final = ("", *LESIONS, "irma", "neovascularisation", OPTIC_DISC)
"""A label image holds the place in this list of what each pixel shows; 0: nothing."""

MASK_COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    OPTIC_DISC: (255, 255, 0),
    "soft exudate": (0, 255, 0),
    "hard exudate": (0, 0, 255),
    "haemorrhage": (255, 0, 0),
    "irma": (255, 0, 255),
    "neovascularisation": (0, 255, 255),
    "microaneurysm": (255, 255, 255),
}
"""RGB of each kind in a mask: IDRiD's colours, and magenta and cyan for what IDRiD does not mark. Where two kinds
meet, the later in this list shows."""

SOUGHT: Final = (*LESIONS, OPTIC_DISC)
"""The detector's channels, in order."""


class LesionCard(Config):
    """The content of a detector's ``lesions.json``."""

    format_version: int = 1
    name: str = "lesions"
    size: int = Field(256, ge=64, le=2048, description="side of its input, pixels; the field's diameter by its margin")
    channels: tuple[int, ...] = Field((8, 8, 16, 16, 24, 8), description="of the U-Net, MONAI's order")
    thresholds: tuple[float, ...] = Field((0.5,) * len(SOUGHT), description="probability from which a pixel counts")
    trained_on: str = "not stated"
    tested_on: str | None = None
    figures: dict[str, float | None] = Field(default_factory=dict, description="of the test: name of kind → value")
    weights_sha256: str = ""
