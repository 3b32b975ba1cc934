"""Where a case's maps lie, in sentences: the same on the case page and in the report."""

from __future__ import annotations

from typing import Final

import pandas as pd

from workbench.audit.results import Run
from workbench.schema.grades import EYES
from workbench.schema.lesions import LESIONS, OPTIC_DISC
from workbench.schema.maps import map_words
from workbench.schema.words import percent

FOUND_BY: Final = {"mask": "marked in the data set", "found": "found by an experimental detector"}
RIM_WORTH_TELLING: Final = 0.25
"""Share of a map on the rim or outside the field from which it is said; the rim is a tenth of the field."""


def attention_sentences(run: Run, exam_id: str, eye: str) -> tuple[str, ...]:
    """Return one sentence per method whose map of this eye is shown; none for a withheld map."""
    table = run.attention()
    own = table[(table["exam_id"] == exam_id) & (table["eye"] == eye)]
    told = []
    for method in run.methods():
        rows = own[own["method"] == method]
        heat = run.heat_map(exam_id, eye, method) if len(rows) else None
        if heat is not None and heat.values is not None:
            told.append(f"{map_words(method)}: {_sentence(rows)}.")
    return tuple(told)


def exam_sentences(run: Run, exam_id: str) -> dict[str, tuple[str, ...]]:
    """Return eye → its sentences: first what its answer owes to the other eye, then where its maps lie."""
    told = {}
    for eye in EYES:
        owed = influence_sentence(run, exam_id, eye)
        told[eye] = (*([owed] if owed else []), *attention_sentences(run, exam_id, eye))
    return told


def influence_sentence(run: Run, exam_id: str, eye: str) -> str | None:
    """Return what an eye's P(referable) becomes beside a healthy eye of other patients, in one sentence, or None."""
    row = run.influence(exam_id, eye)
    if row is None or row["p"] is None or row["p_healthy"] is None:
        return None
    before, after = percent(float(row["p"])), percent(float(row["p_healthy"]))
    if row["p"] == row["p_healthy"]:
        return f"The other eye has no part in this answer: beside a healthy one P(referable) stays {before}."
    return f"Beside a healthy eye of another patient, P(referable) would be {after} instead of {before}."


def _sentence(rows: pd.DataFrame) -> str:
    parts = []
    source = next((one for one in FOUND_BY if (rows["source"] == one).any()), None)
    of_source = rows[rows["source"] == source].set_index("kind")
    counts = [
        f"{int(of_source.at[kind, 'looked_at'])} of {int(of_source.at[kind, 'lesions'])} {kind}s"
        for kind in LESIONS
        if kind in of_source.index
    ]
    if source is not None:
        parts.append(f"looked at {', '.join(counts)} {FOUND_BY[source]}" if counts else f"no lesion {FOUND_BY[source]}")
    if OPTIC_DISC in of_source.index:
        energy, area = (percent(float(of_source.at[OPTIC_DISC, name])) for name in ("energy", "area"))
        parts.append(f"{energy} of its attention on the optic disc, which is {area} of the field")
    field = rows[rows["source"] == "field"]
    away = float(field["energy"].sum())
    if away >= RIM_WORTH_TELLING:
        parts.append(f"{percent(away)} of it on the rim of the field or outside")
    return "; ".join(parts) or "no lesions are known here"
