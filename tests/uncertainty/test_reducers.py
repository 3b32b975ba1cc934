"""Scores and poolings: known values, the formula written slowly, boundaries."""

import doctest
import math

import numpy as np
import pytest

from workbench.schema.specs import UNLIKE_SCORES, PolicySpec
from workbench.uncertainty import decisions, pooling, scores
from workbench.uncertainty.pooling import POOLINGS
from workbench.uncertainty.scores import SCORES


def one_eye(*rows):
    """Return draws "draw 1 2 grade" whose OD has these rows and whose OS is absent."""
    draws = np.full((len(rows), 1, 2, len(rows[0])), np.nan)
    draws[:, 0, 0] = rows
    return draws


@pytest.fixture
def draws():
    generator = np.random.default_rng(0)
    made = generator.dirichlet(np.full(5, 0.5), size=(7, 4, 2)).astype(np.float32)
    made[:, 1, 1] = np.nan
    return made


def slow_entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def test_known_values():
    draws = one_eye([0.9, 0.1], [0.5, 0.5])
    predictive = slow_entropy([0.7, 0.3])
    expected = (slow_entropy([0.9, 0.1]) + math.log(2)) / 2
    assert scores.predictive_entropy(draws)[0, 0] == pytest.approx(predictive)
    assert scores.expected_entropy(draws)[0, 0] == pytest.approx(expected)
    assert scores.mutual_information(draws)[0, 0] == pytest.approx(predictive - expected)
    assert scores.mutual_information(one_eye([1.0, 0.0], [0.0, 1.0]))[0, 0] == pytest.approx(math.log(2))


def test_every_score_equals_the_slow_formula(draws):
    for exam, eye in np.ndindex(4, 2):
        rows = draws[:, exam, eye].astype(float)
        if np.isnan(rows).any():
            continue
        referable = [sum(row[2:]) for row in rows]
        mean = [sum(column) / 7 for column in rows.T]
        centre = sum(referable) / 7
        slow = {
            "predictive_entropy": slow_entropy(mean),
            "expected_entropy": sum(map(slow_entropy, rows)) / 7,
            "mutual_information": slow_entropy(mean) - sum(map(slow_entropy, rows)) / 7,
            "p_referable_sd": math.sqrt(sum((p - centre) ** 2 for p in referable) / 7),
            "margin": -abs(centre - 0.3),
            "eye_disagreement": abs(centre - sum(sum(row[2:]) for row in draws[:, exam, 1 - eye].astype(float)) / 7),
        }
        found = {name: score(draws, 0.3, "mean")[exam, eye] for name, score in SCORES.items()}
        assert found == pytest.approx(slow, nan_ok=True)


@pytest.mark.parametrize("name", SCORES)
def test_an_absent_eye_has_no_score(draws, name):
    score = SCORES[name](draws, 0.5, "mean")
    assert np.isnan(score[1, 1])
    # With one eye there is nothing to disagree with.
    assert np.isnan(score).sum() == (2 if name == "eye_disagreement" else 1)


def test_both_eyes_disagree_equally(draws):
    score = scores.eye_disagreement(draws)
    np.testing.assert_array_equal(score[:, 0], score[:, 1])
    assert (score[[0, 2, 3]] > 0).all()
    np.testing.assert_allclose(scores.eye_disagreement(np.repeat(draws[:, :, :1], 2, axis=2)), 0)


@pytest.mark.parametrize("name", SCORES)
def test_the_order_of_draws_does_not_matter(draws, name):
    np.testing.assert_allclose(SCORES[name](draws[::-1], 0.5, "mean"), SCORES[name](draws, 0.5, "mean"))


def test_one_draw_cannot_contradict_itself(draws):
    for name in ("mutual_information", "p_referable_sd"):
        score = SCORES[name](draws[:1], 0.5, "mean")
        np.testing.assert_array_equal(score[~np.isnan(score)], 0)
    assert (np.nan_to_num(scores.mutual_information(np.repeat(draws[:1], 9, axis=0))) < 1e-12).all()


def test_margin_is_largest_at_the_threshold():
    values = [scores.margin(one_eye([0.5, 0.5 - p, p]), threshold=0.3)[0, 0] for p in (0.1, 0.3, 0.5)]
    assert values == pytest.approx([-0.2, 0, -0.2])


def test_certainty_has_no_entropy():
    certain, uniform = scores.entropy(np.array([[1.0, 0.0, 0.0, 0.0, 0.0], [0.2] * 5]))
    assert certain == 0
    assert not np.signbit(certain)
    assert uniform == pytest.approx(math.log(5))


def test_poolings_by_hand():
    draws = one_eye([0.8, 0.2, 0.0], [0.2, 0.5, 0.3], [0.3, 0.4, 0.3])
    assert pooling.mean(draws)[0, 0] == pytest.approx([1.3 / 3, 1.1 / 3, 0.2])
    assert pooling.majority(draws)[0, 0] == pytest.approx([1 / 3, 2 / 3, 0])
    geometric = np.array([math.prod(column) ** 0.5 for column in ([0.8, 0.2], [0.2, 0.8])])
    assert pooling.log_mean(one_eye([0.8, 0.2], [0.2, 0.8]))[0, 0] == pytest.approx(geometric / geometric.sum())


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pool_sums_to_one_and_equal_draws_pool_to_themselves(draws, name):
    pooled = POOLINGS[name](draws)
    present = ~np.isnan(pooled).any(axis=-1)
    assert np.isnan(pooled[1, 1]).all()
    assert present.sum() == 7
    np.testing.assert_allclose(pooled[present].sum(axis=-1), 1, atol=1e-6)
    same = POOLINGS[name](np.repeat(draws[:1], 3, axis=0))
    expected = np.eye(5)[draws[0].argmax(axis=-1)] if name == "majority" else draws[0]
    np.testing.assert_allclose(same[present], expected[present], atol=1e-6)


def test_a_tied_vote_is_shared():
    assert pooling.majority(one_eye([0.5, 0.5, 0.0], [0.0, 0.0, 1.0]))[0, 0] == pytest.approx([0.25, 0.25, 0.5])


def test_log_mean_of_excluded_grades_stays_finite():
    assert pooling.log_mean(one_eye([1.0, 0.0, 0.0], [0.5, 0.5, 0.0]))[0, 0] == pytest.approx([1, 0, 0])
    assert pooling.log_mean(one_eye([1.0, 0.0], [0.0, 1.0]))[0, 0] == pytest.approx([0.5, 0.5])


def test_a_policy_can_name_exactly_what_there_is():
    fields = PolicySpec.model_fields
    assert set(fields["referral_score"].annotation.__args__) == {*SCORES, *UNLIKE_SCORES}
    assert set(fields["pooling"].annotation.__args__) == set(POOLINGS)


@pytest.mark.parametrize("module", [scores, decisions, pooling])
def test_examples_hold(module):
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
