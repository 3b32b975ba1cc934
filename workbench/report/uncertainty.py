"""What the model's uncertainty is worth: referral by every score, calibration, sets of grades, net benefit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.audit.layout import CLEAN
from workbench.audit.results import Run
from workbench.report.figures import Figure, Figures
from workbench.report.headline import condition_words
from workbench.report.words import difference_words, full_words, signed, value_words
from workbench.schema.specs import UNLIKE_SCORES
from workbench.schema.words import CALIBRATION_NAMES, CONFORMAL_NAMES, SCORE_NAMES, percent

KEPT: Final = 0.8
"""A fifth of the exams referred: where referral is stated in words."""
NEAR: Final = 0.02
"""Ties and whole exams move a point of a curve a little off the share that was asked for."""


@dataclass(frozen=True)
class Line:
    """One row of a table: what it is of, and its figures in the order of the table's head."""

    words: str
    chosen: bool
    figures: tuple[Figure, ...]
    why: str | None


@dataclass(frozen=True)
class Uncertainty:
    """The section: sentences, and a table each for the scores, the calibrations, the sets and the sets under stress."""

    sentences: tuple[str, ...]
    scores: tuple[Line, ...]
    calibrations: tuple[Line, ...]
    sets: tuple[Line, ...]
    sets_under_stress: tuple[Line, ...]
    coverage_of_grade: tuple[Figure, ...]
    unlike: tuple[Line, ...]
    unlike_scores: tuple[str, ...]
    why_not_unlike: str | None


_OF_SCORE: Final = ("aurc", "excess_aurc", "augrc", "smallest_referral_nhs", "smallest_referral_nhs_team")
_OF_CALIBRATION: Final = (
    "expected_calibration_error",
    "expected_calibration_error_by_chance",
    "calibration_slope",
    "calibration_in_the_large",
    "brier",
    "brier_reliability",
    "brier_resolution",
    "log_loss",
)
_OF_SETS: Final = ("conformal_coverage", "conformal_coverage_patient", "conformal_set_size", "conformal_single_share")


def uncertainty(run: Run, figures: Figures) -> Uncertainty:
    """Return what the run's rows say of the model's uncertainty."""
    policy = run.manifest.policy
    scores = [_score_line(figures, name, name == policy.referral_score) for name in SCORE_NAMES]
    calibrations = [_line(figures, _OF_CALIBRATION, kind, CALIBRATION_NAMES, policy.calibration) for kind in _kinds()]
    sets = [_line(figures, _OF_SETS, kind, CONFORMAL_NAMES, policy.conformal) for kind in CONFORMAL_NAMES]
    stressed = [
        Line(
            condition_words(one),
            False,
            tuple(figures.get(name, one.id, of=policy.conformal) for name in _OF_SETS),
            None,
        )
        for one in run.manifest.measurements
        if one.kind == "draws" and one.id != CLEAN
    ]
    sentences = (
        *_referral_sentences(figures, policy.referral_score),
        *_target_sentences(figures),
        *_calibration_sentences(figures, policy.calibration),
        *_set_sentences(figures, policy.conformal, policy.conformal_coverage, stressed),
        *_benefit_sentences(figures),
        *_unlike_sentences(figures),
    )
    known = tuple(name for name in UNLIKE_SCORES if figures.get("unlike_training_rate", of=name).value is not None)
    return Uncertainty(
        sentences=sentences,
        scores=tuple(
            line for line in scores if line.figures[-1].value is not None or line.figures[0].value is not None
        ),
        calibrations=tuple(calibrations),
        sets=tuple(sets),
        sets_under_stress=tuple(line for line in stressed if line.figures[0].value is not None),
        coverage_of_grade=tuple(
            figures.get("conformal_coverage_of_grade", at=float(grade), of=policy.conformal) for grade in range(5)
        ),
        unlike=tuple(_unlike_lines(run, figures, known)),
        unlike_scores=tuple(SCORE_NAMES[name] for name in known),
        why_not_unlike=None if known else _why_not_unlike(run),
    )


def _kinds() -> tuple[str, ...]:
    return tuple(CALIBRATION_NAMES)


def _score_line(figures: Figures, name: str, chosen: bool) -> Line:
    kept = _at(figures, "error_rate_at_retained", KEPT, name)
    gain = figures.get("auc_gain_over_random", at=KEPT, of=name)
    rest = tuple(figures.get(one, of=name) for one in _OF_SCORE)
    return Line(SCORE_NAMES[name], chosen, (kept, gain, *rest), None)


def _at(figures: Figures, name: str, share: float, of: str | None = None) -> Figure:
    """Return a curve's point nearest to a share of retained exams."""
    points = [one for one in figures.along(name, of=of) if abs((one.at or 0.0) - share) <= NEAR]
    return min(points, key=lambda one: abs((one.at or 0.0) - share), default=figures.get(name, at=share, of=of))


def _line(figures: Figures, names: tuple[str, ...], kind: str, words: dict[str, str], chosen: str) -> Line:
    found = tuple(figures.get(name, of=kind) for name in names)
    why = found[0].reason if found[0].value is None else None
    return Line(words[kind], kind == chosen, found, why)


def _referral_sentences(figures: Figures, score: str) -> list[str]:
    kept, before = (_at(figures, "auc_at_retained", share) for share in (KEPT, 1.0))
    random, gain = _at(figures, "auc_at_retained", KEPT, "random"), figures.get("auc_gain_over_random", at=KEPT)
    error, chance, oracle = (_at(figures, "error_rate_at_retained", KEPT, of) for of in (None, "random", "oracle"))
    if kept.value is None or gain.value is None:
        return [f"Whether referral helps is not assessed ({gain.reason or kept.reason})."]
    verdict = "changes the AUC of the rest by no more than chance would"
    if gain.low is not None and gain.low > 0:
        verdict = "raises the AUC of the rest"
    elif gain.high is not None and gain.high < 0:
        verdict = "lowers the AUC of the rest"
    sentences = [
        f"Referring the 20 % of exams with the highest {SCORE_NAMES[score]} {verdict}: {full_words(kept)}, where all "
        f"exams have {value_words(before)} and referring at random leaves {value_words(random)}; the gain over random "
        f"is {difference_words(gain)}."
    ]
    if error.value is not None:
        sentences.append(
            f"The error rate of what is kept is then {_share(error)}; at random it would be {_percent(chance)}, and if "
            f"every error were referred first, {_percent(oracle)}."
        )
    if verdict.startswith("lowers") and error.value is not None and chance.value is not None:
        sentences.append(
            "An AUC can fall although errors are caught: exams that are easy to rank by their P(referable) leave with "
            "the unsure ones, so read the two figures together."
        )
    return sentences


def _target_sentences(figures: Figures) -> list[str]:
    alone, team = figures.get("smallest_referral_nhs"), figures.get("smallest_referral_nhs_team")
    if alone.reason == "not in this run":
        return []
    kept = f"with {_share(alone)} referred" if alone.value is not None else f"at no share ({alone.reason})"
    both = f"with {_share(team)} referred" if team.value is not None else f"at no share ({team.reason})"
    return [
        f"The exams that are kept meet the NHS standard (85 % sensitivity, 80 % specificity) {kept}; the whole of "
        f"machine and human, if humans read what is referred rightly, meets it {both}."
    ]


def _calibration_sentences(figures: Figures, chosen: str) -> list[str]:
    slope, error = (figures.get(name, of="none") for name in ("calibration_slope", "expected_calibration_error"))
    chance = figures.get("expected_calibration_error_by_chance", of="none")
    if error.value is None:
        return []
    sentence = f"As the model answers, the calibration error is {full_words(error)}"
    if chance.value is not None:
        sentence += f"; a perfectly calibrated model would show {value_words(chance)} on as many eyes"
    if slope.value is not None and slope.low is not None and slope.high is not None:
        extreme = "too extreme" if slope.high < 1 else "too timid" if slope.low > 1 else None
        said = f"its probabilities are {extreme}" if extreme else "neither too extreme nor too timid is shown"
        sentence += f". The calibration slope is {full_words(slope)}: {said}"
    sentences = [f"{sentence}."]
    after = figures.get("expected_calibration_error", of=chosen)
    if chosen != "none" and after.value is not None:
        sentences.append(
            f"After {CALIBRATION_NAMES[chosen]}, fitted on other patients of this run each time, the error is "
            f"{full_words(after)}. Decisions stay on the probabilities as they were, where the threshold was chosen."
        )
    return sentences


def _set_sentences(figures: Figures, kind: str, promised: float, stressed: list[Line]) -> list[str]:
    covered, size = (figures.get(name, of=kind) for name in ("conformal_coverage", "conformal_set_size"))
    if covered.value is None:
        return [f"Sets of grades are not assessed ({covered.reason})."] if covered.reason else []
    sentences = [
        f"Sets of grades that promise to hold the true one in {percent(promised)} of eyes hold it in "
        f"{_share(covered)}, and name {size.value:.1f} of 5 grades on average."
    ]
    known = [line for line in stressed if line.figures[0].value is not None]
    if known:
        worst = min(known, key=lambda line: line.figures[0].value or 0.0)
        sentences.append(
            f"Under stress nothing is promised: the lowest coverage is {_share(worst.figures[0])} ({worst.words})."
        )
    return sentences


def _benefit_sentences(figures: Figures) -> list[str]:
    gains = figures.along("net_benefit_gain")
    if not gains:
        return []
    if all(one.value is None for one in gains):
        return [f"Net benefit is not assessed ({gains[0].reason})."]
    shown = [one.at for one in gains if one.low is not None and one.low > 0 and one.at is not None]
    if not shown:
        return ["Net benefit over acting on everybody or on nobody is not shown at any threshold."]
    return [
        "Acting on the model has a higher net benefit than acting on everybody or on nobody, beyond its interval, for "
        f"thresholds of P(referable) from {percent(min(shown))} to {percent(max(shown))}."
    ]


def _unlike_lines(run: Run, figures: Figures, scores: tuple[str, ...]) -> list[Line]:
    """Return, per measurement, how many exams are flagged, and how well each score tells them from the clean ones."""
    drawn = [one for one in run.manifest.measurements if one.kind == "draws"]
    return [
        Line(
            condition_words(one),
            False,
            (
                figures.get("unlike_training_rate", one.id),
                *(figures.get("told_from_clean_auc", one.id, of=name) for name in scores),
            ),
            None,
        )
        for one in drawn
        if scores
    ]


def _why_not_unlike(run: Run) -> str:
    if run.manifest.outputs is not None:
        return "needs the model"
    return "the model has no reference.safetensors: make one with 'workbench model reference'"


def _unlike_sentences(figures: Figures) -> list[str]:
    rate, turned = figures.get("unlike_training_rate"), figures.get("intake_flagged_rate")
    sentences = []
    if rate.value is not None:
        sentences.append(f"Unlike the training photographs: {_share(rate)} of the clean exams are flagged.")
    if turned.value is not None:
        sentences.append(f"Upside down, swapped or of the other eye: {_share(turned)} of the clean exams are flagged.")
    return sentences


def _percent(figure: Figure) -> str:
    return percent(figure.value, 1)


def _share(figure: Figure) -> str:
    """Return a share with its interval in percent, whatever the figure's usual unit."""
    if figure.low is None or figure.high is None:
        return f"{_percent(figure)} ({figure.reason or 'no interval'})"
    return f"{_percent(figure)} ({100 * figure.low:.1f}–{100 * figure.high:.1f})"


def short(figure: Figure) -> tuple[str, str]:
    """Return a figure for a narrow cell: the value, or a dash, and below it the interval, where there is one."""
    if figure.value is None:
        return "–", ""
    signs = figure.name in {"auc_gain_over_random", "calibration_in_the_large"}
    value, *interval = (
        "" if one is None else signed(one, 3) if signs else f"{one:.3f}"
        for one in (figure.value, figure.low, figure.high)
    )
    return value, f"{interval[0]}{' to ' if signs else '–'}{interval[1]}" if all(interval) else ""
