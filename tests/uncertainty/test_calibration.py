"""Calibrators: known distortions are undone, scikit-learn's fits are met, too few data change nothing and say so."""

import numpy as np
import pytest
from scipy.special import log_softmax, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from workbench.metrics import calibration as metrics
from workbench.metrics import discrimination
from workbench.schema.grades import REFERABLE_GRADE
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.calibration import (
    CALIBRATIONS,
    OF_GRADES,
    OF_REFERABLE,
    GradeScaling,
    ReferableCurve,
    fit_isotonic,
    fit_logistic,
    fit_temperature,
    fit_vector,
)
from workbench.uncertainty.scores import p_referable

PATIENTS = 1500


@pytest.fixture(scope="module")
def table():
    """Return probabilities twice too sure of themselves, true grades drawn from the right ones, and the patients."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(PATIENTS), 2)
    logits = generator.normal(size=(PATIENTS, 5))[patients] + generator.normal(size=(2 * PATIENTS, 5))
    right = np.exp(log_softmax(logits, axis=1))
    grade = (right.cumsum(axis=1) < generator.random((2 * PATIENTS, 1))).sum(axis=1)
    return np.exp(log_softmax(2 * logits, axis=1)), grade, patients


def loss(p, grade):
    return -np.log(p[np.arange(len(p)), grade]).mean()


def test_temperature_finds_how_much_too_sure(table):
    p, grade, patients = table
    fitted = fit_temperature(p, grade, patients)
    assert fitted.slopes == (fitted.slopes[0],) * 5
    assert 1 / fitted.slopes[0] == pytest.approx(2, rel=0.06)
    assert (fitted.eyes, fitted.patients, fitted.reason) == (2 * PATIENTS, PATIENTS, None)
    around = [fitted.slopes[0] * factor for factor in (0.98, 1.02)]
    others = [fitted.model_copy(update={"slopes": (slope,) * 5}) for slope in around]
    assert all(loss(fitted.apply(p), grade) < loss(other.apply(p), grade) for other in others)
    assert (fitted.apply(p).argmax(axis=1) == p.argmax(axis=1)).all()


def test_vector_undoes_a_prior_and_equals_scikit_learn_in_likelihood(table):
    p, grade, patients = table
    prior = np.array([0.3, 1, 1, 3, 0.5])
    shifted = p * prior / (p * prior).sum(axis=1, keepdims=True)
    fitted = fit_vector(shifted, grade, patients)
    calibrated = fitted.apply(shifted)
    assert loss(calibrated, grade) < loss(fit_temperature(shifted, grade, patients).apply(shifted), grade) - 0.01
    assert calibrated.mean(axis=0) == pytest.approx(np.bincount(grade) / len(grade), abs=0.003)
    # scikit-learn's full matrix holds the diagonal, so it can only be likelier, by the few terms that it has more.
    full = LogisticRegression(C=np.inf, max_iter=2000).fit(np.log(shifted), grade)
    theirs = loss(full.predict_proba(np.log(shifted)), grade)
    assert theirs - 1e-6 <= loss(calibrated, grade) < theirs + 20 / len(grade)


def test_logistic_equals_scikit_learn_without_penalty(table):
    p, grade, patients = table
    score, referable = p_referable(p), grade >= REFERABLE_GRADE
    fitted = fit_logistic(score, referable, patients)
    odds = logit(np.clip(score, 1e-6, 1 - 1e-6))[:, None]
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(odds, referable)
    assert fitted.apply(score) == pytest.approx(theirs.predict_proba(odds)[:, 1], abs=1e-5)


@pytest.mark.parametrize("digits", [2, 12])
def test_isotonic_equals_scikit_learn_off_the_ends(table, digits):
    p, grade, patients = table
    score, referable = p_referable(p).round(digits), grade >= REFERABLE_GRADE
    fitted = fit_isotonic(score, referable, patients)
    edge = 1 / (len(score) + 2)
    theirs = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(score, referable)
    asked = np.linspace(0, 1, 501)
    assert fitted.apply(asked) == pytest.approx(theirs.predict(asked), abs=1e-9)
    assert len(fitted.points) < 200


@pytest.mark.parametrize("kind", [*OF_GRADES, *OF_REFERABLE])
def test_held_out_patients_are_better_calibrated_in_the_same_order(table, kind):
    p, grade, patients = table
    score, referable = p_referable(p), grade >= REFERABLE_GRADE
    fit, test = patients % 2 == 0, patients % 2 == 1
    if kind in OF_GRADES:
        after = p_referable(OF_GRADES[kind](p[fit], grade[fit], patients[fit]).apply(p[test]))
    else:
        after = OF_REFERABLE[kind](score[fit], referable[fit], patients[fit]).apply(score[test])
    before, truth = score[test], referable[test]
    assert metrics.expected_calibration_error(truth, after) < 0.5 * metrics.expected_calibration_error(truth, before)
    assert metrics.brier(truth, after) < metrics.brier(truth, before)
    assert metrics.log_loss(truth, after) < metrics.log_loss(truth, before)
    assert discrimination.roc_auc(truth, after) == pytest.approx(discrimination.roc_auc(truth, before), abs=0.01)


@pytest.mark.parametrize("kind", [*OF_GRADES, *OF_REFERABLE])
def test_too_few_change_nothing_and_say_so(table, kind):
    p, grade, patients = (array[:12] for array in table)
    if kind in OF_GRADES:
        fitted = OF_GRADES[kind](p, grade, patients)
        assert fitted.apply(p) is p
    else:
        score = p_referable(p)
        fitted = OF_REFERABLE[kind](score, grade >= REFERABLE_GRADE, patients)
        assert fitted.apply(score) is score
    assert "are needed" in fitted.reason


def test_two_eyes_are_one_patient_when_counting_what_is_enough(table):
    p, grade, _ = table
    rows = np.concatenate([np.flatnonzero(grade == 0)[:40], np.flatnonzero(grade == 3)[:12]])
    same = np.concatenate([np.arange(40), 100 + np.arange(12) // 2])
    assert "6 patients with a referable eye" in str(fit_temperature(p[rows], grade[rows], same).reason)
    assert fit_temperature(p[rows], grade[rows], np.arange(52)).reason is None


def test_what_parts_the_classes_or_ranks_them_backwards_is_left_alone():
    p, patients = np.linspace(0.01, 0.99, 60), np.arange(60)
    assert "no finite line" in str(fit_logistic(p, p > 0.5, patients).reason)
    generator = np.random.default_rng(0)
    assert "wrong way" in str(fit_logistic(p, generator.random(60) > p, patients).reason)


@pytest.mark.parametrize("kind", [*OF_GRADES, *OF_REFERABLE])
def test_unknown_stays_unknown_and_is_not_fitted_on(table, kind):
    p, grade, patients = (array[:800].copy() for array in table)
    broken, ungraded = p.copy(), grade.copy()
    broken[5], ungraded[7] = np.nan, -1
    kept = np.delete(np.arange(800), [5, 7])
    if kind in OF_GRADES:
        fitted = OF_GRADES[kind](broken, ungraded, patients)
        assert fitted == OF_GRADES[kind](p[kept], grade[kept], patients[kept])
        after = fitted.apply(broken.reshape(400, 2, 5))
        assert np.isnan(after[2, 1]).all()
        assert np.isnan(after).sum() == 5
        assert np.nansum(after, axis=-1) == pytest.approx(np.where(np.isnan(after[..., 0]), 0, 1))
    else:
        score = p_referable(broken)
        fitted = OF_REFERABLE[kind](score, grade >= REFERABLE_GRADE, patients)
        assert fitted.eyes == 799
        assert np.isnan(fitted.apply(score)).sum() == 1


@pytest.mark.parametrize("kind", [*OF_GRADES, *OF_REFERABLE])
def test_what_is_fitted_can_be_kept_as_json(table, kind):
    p, grade, patients = table
    score = p_referable(p)
    fitted = (
        OF_GRADES[kind](p, grade, patients)
        if kind in OF_GRADES
        else OF_REFERABLE[kind](score, grade >= REFERABLE_GRADE, patients)
    )
    back = (GradeScaling if kind in OF_GRADES else ReferableCurve).model_validate_json(fitted.model_dump_json())
    assert back == fitted
    given = p if kind in OF_GRADES else score
    np.testing.assert_array_equal(back.apply(given), fitted.apply(given))


def test_probabilities_of_zero_do_not_carry_a_fit_away(table):
    p, grade, patients = table
    votes = np.round(p, 1)
    votes /= votes.sum(axis=1, keepdims=True)
    for fit in OF_GRADES.values():
        fitted = fit(votes, grade, patients)
        assert fitted.reason is None
        assert loss(fitted.apply(votes), grade) < loss(np.clip(votes, 1e-6, 1), grade)


def test_a_policy_can_name_exactly_what_there_is():
    assert set(PolicySpec.model_fields["calibration"].annotation.__args__) == set(CALIBRATIONS)
