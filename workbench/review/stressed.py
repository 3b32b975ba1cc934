"""An exam under attack as pairs of pictures to flicker between: clean and attacked, both as the model saw them."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

from workbench.audit.results import Run
from workbench.review.pictures import Picture
from workbench.review.viewer import Comparison, Shown
from workbench.schema.grades import EYES
from workbench.schema.words import strength_words, stress_name

CLEAN: Final = "Clean, as the model saw it"


def stressed_pairs(run: Run, exam_id: str) -> dict[str, tuple[Comparison, ...]]:
    """Return eye → its pairs, one per attack of which the run kept photographs; empty where it kept none."""
    found: dict[str, tuple[Comparison, ...]] = {}
    for eye in EYES:
        pairs = []
        for stress in run.kept_stresses():
            kept = run.stressed_photograph(exam_id, eye, stress.measurement_id)
            if kept is not None:
                name = f"{stress_name(stress.name)}, {strength_words(stress)}"
                pairs.append(Comparison(name, Shown(name, _picture(kept[1])), Shown(CLEAN, _picture(kept[0]))))
        if pairs:
            found[eye] = tuple(pairs)
    return found


def _picture(png: bytes) -> Picture:
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
    return Picture(png, width, height, (0.0, 0.0, float(width)), original=False)
