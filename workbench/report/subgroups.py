"""The three rates and the AUC by camera, site, sex, age, quality and grade; a small group is said to be small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.audit.figures.subgroups import AGE_BANDS, QUALITY_ORDER
from workbench.report.figures import Figure, Figures
from workbench.report.headline import RATES
from workbench.report.words import SMALL_GROUP

ATTRIBUTES: Final = {
    "camera": "Camera",
    "site": "Site",
    "sex": "Sex",
    "age": "Age",
    "quality": "Quality of the worse photograph",
    "grade": "True grade of the worse eye",
}


@dataclass(frozen=True)
class Subgroup:
    """One group of clean exams: three rates and AUC."""

    name: str
    exams: int
    small: bool
    rates: tuple[Figure, Figure, Figure]
    auc: Figure


@dataclass(frozen=True)
class Attribute:
    """An attribute with its groups; without any, nobody's is known."""

    name: str
    words: str
    groups: tuple[Subgroup, ...]


def attributes(figures: Figures) -> list[Attribute]:
    """Return every attribute, those that no exam has included."""
    found: dict[str, list[Subgroup]] = {name: [] for name in ATTRIBUTES}
    for subgroup in figures.subgroups():
        attribute, _, value = subgroup.partition("=")
        found.setdefault(attribute, []).append(_subgroup(figures, subgroup, value))
    return [
        Attribute(name, ATTRIBUTES.get(name, name), tuple(sorted(groups, key=_place))) for name, groups in found.items()
    ]


_ORDER: Final = (*(name for _, _, name in AGE_BANDS), *QUALITY_ORDER)


def _place(group: Subgroup) -> int:
    """Return where ages and qualities stand in their own order; the sort keeps the rest as it is."""
    return _ORDER.index(group.name) if group.name in _ORDER else -1


def _subgroup(figures: Figures, subgroup: str, value: str) -> Subgroup:
    error, referral, silent = (figures.get(name, subgroup=subgroup) for name in RATES)
    return Subgroup(
        name=value,
        exams=referral.n,
        small=referral.n < SMALL_GROUP,
        rates=(error, referral, silent),
        auc=figures.get("auc_referable_exam", subgroup=subgroup),
    )
