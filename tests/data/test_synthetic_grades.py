"""The grades of two eyes: marginals as stated, correlation as in EyePACS."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from workbench.data.synthetic.grades import EQUAL_SHARE, KAPPA, PREVALENCES, draw_grades, joint_table
from workbench.schema.errors import WorkbenchError

PATIENTS = 2000


@pytest.mark.parametrize("prevalence", PREVALENCES)
def test_table_has_its_marginals_and_is_symmetric(prevalence):
    joint = joint_table(prevalence)
    shares = np.array(PREVALENCES[prevalence])
    assert joint.sum(axis=1) == pytest.approx(shares / shares.sum(), abs=1e-6)
    assert joint == pytest.approx(joint.T, abs=1e-9)
    assert (joint > 0).all()
    assert np.trace(joint) == pytest.approx(EQUAL_SHARE, abs=1e-4)


def test_referable_discordance_is_that_of_eyepacs_though_it_was_not_put_in():
    joint = joint_table("eyepacs")
    assert 2 * joint[:2, 2:].sum() == pytest.approx(0.060, abs=0.006)


@pytest.mark.parametrize("prevalence", PREVALENCES)
def test_drawn_pairs_agree_as_often_as_in_eyepacs(prevalence):
    rng = np.random.default_rng(5)
    pairs = np.array([draw_grades(rng, prevalence) for _ in range(PATIENTS)])
    # Three standard errors of a share at 2,000 patients.
    margin = 3 * np.sqrt(EQUAL_SHARE * (1 - EQUAL_SHARE) / PATIENTS)
    assert np.mean(pairs[:, 0] == pairs[:, 1]) == pytest.approx(EQUAL_SHARE, abs=margin)
    assert cohen_kappa_score(pairs[:, 0], pairs[:, 1], weights="quadratic") == pytest.approx(KAPPA, abs=0.04)
    observed = np.bincount(pairs.ravel(), minlength=5) / pairs.size
    assert observed == pytest.approx(np.array(PREVALENCES[prevalence]), abs=0.03)


def test_unknown_prevalence_names_the_known_ones():
    with pytest.raises(WorkbenchError, match=r"'messidor'.*eyepacs, enriched"):
        joint_table("messidor")
