"""Every stress by its strength and the three rates, as one table whose cells are the darker the worse."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.report.figures import Figure
from workbench.report.headline import Condition
from workbench.report.words import counted, full_words
from workbench.schema.specs import StressSpec
from workbench.schema.words import percent, stress_name, whose_words


@dataclass(frozen=True)
class Cell:
    """One rate under one stress at one strength.

    ``shade``: the rate over the largest of its kind in the matrix, 0 to 1; None where there is no value.
    """

    words: str
    told: str
    shade: float | None


@dataclass(frozen=True)
class Line:
    """One stress: of each rate a cell per strength of its block, None where the plan does not hold it."""

    words: str
    rates: tuple[tuple[Cell | None, ...], ...]


@dataclass(frozen=True)
class Block:
    """The stresses whose strength has one unit."""

    title: str
    unit: str
    strengths: tuple[str, ...]
    clean: tuple[Cell, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Matrix:
    """All blocks, and what the darkest cell of each rate stands for."""

    blocks: tuple[Block, ...]
    darkest: tuple[Figure, ...]


def matrix(found: tuple[Condition, ...]) -> Matrix | None:
    """Return the matrix of a run's conditions (clean first); None where nothing was stressed."""
    stressed: dict[tuple[str, str], list[Condition]] = {}
    for one in found:
        if one.measurement.stress is not None:
            stressed.setdefault(_unit(one), []).append(one)
    if not stressed:
        return None
    darkest = tuple(max(of_rate, key=lambda one: one.value or 0.0) for of_rate in zip(*map(_rates, found), strict=True))
    blocks = (_block(title, unit, of_unit, found[0], darkest) for (title, unit), of_unit in stressed.items())
    return Matrix(tuple(blocks), darkest)


def _unit(condition: Condition) -> tuple[str, str]:
    if condition.kind == "corruption":
        return "Corruptions", "severity, 1 to 5"
    norm = _stress(condition).aim.norm
    return "Attacks", {"linf": "ε, in 1/255", "l0": "pixels changed"}.get(norm, f"ε in {norm}")


def _block(title: str, unit: str, of_unit: list[Condition], clean: Condition, darkest: tuple[Figure, ...]) -> Block:
    strengths = sorted({_stress(one).strength for one in of_unit})
    families: dict[str, dict[float, Condition]] = {}
    for one in of_unit:
        families.setdefault(_family(_stress(one)), {})[_stress(one).strength] = one
    lines = (
        Line(words, _by_rate([by_strength.get(at) for at in strengths], darkest))
        for words, by_strength in families.items()
    )
    first = tuple(
        _cell(clean.words, figure, largest.value or 0.0) for figure, largest in zip(_rates(clean), darkest, strict=True)
    )
    return Block(title, unit, tuple(f"{at:g}" for at in strengths), first, tuple(lines))


def _by_rate(ladder: list[Condition | None], darkest: tuple[Figure, ...]) -> tuple[tuple[Cell | None, ...], ...]:
    return tuple(
        tuple(None if one is None else _cell(one.words, _rates(one)[place], largest.value or 0.0) for one in ladder)
        for place, largest in enumerate(darkest)
    )


def _cell(condition: str, figure: Figure, largest: float) -> Cell:
    told = f"{condition}: {full_words(figure)}, {counted(figure.n, 'exam')}"
    if figure.value is None:
        return Cell("–", told, None)
    return Cell(percent(figure.value).removesuffix(" %"), told, figure.value / largest if largest else 0.0)


def _rates(condition: Condition) -> tuple[Figure, Figure, Figure]:
    return condition.error, condition.referral, condition.silent


def _family(stress: StressSpec) -> str:
    return stress_name(stress.name) + whose_words(stress)


def _stress(condition: Condition) -> StressSpec:
    assert condition.measurement.stress is not None
    return condition.measurement.stress
