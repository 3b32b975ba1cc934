import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from workbench.metrics import localisation as loc

MARKED = np.zeros((8, 8), bool)
MARKED[1:3, 1:3] = True
MARKED[6, 6] = True


def test_a_map_on_the_marks_is_perfect_and_one_beside_them_worthless() -> None:
    on, beside = MARKED.astype(float), (~MARKED).astype(float)
    for heat, worth in ((on, 1.0), (beside, 0.0)):
        assert loc.energy_share(heat, MARKED) == worth
        assert loc.overlap_at_equal_area(heat, MARKED) == worth
        assert loc.pointing_hit(heat, MARKED) == worth
    assert loc.average_precision(on, MARKED) == 1.0


def test_a_map_without_information_gets_the_marked_share() -> None:
    flat = np.ones((8, 8))
    assert loc.energy_share(flat, MARKED) == pytest.approx(MARKED.mean())
    assert loc.average_precision(flat, MARKED) == pytest.approx(MARKED.mean())


def test_average_precision_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        score = generator.integers(0, loc.LEVELS, 400) / (loc.LEVELS - 1)
        score[:2] = 0, 1
        marked = generator.random(400) < 0.2
        assert loc.average_precision(score, marked) == pytest.approx(average_precision_score(marked, score))


def test_nothing_marked_and_nothing_hot_have_no_value() -> None:
    nothing, flat = np.zeros((8, 8), bool), np.zeros((8, 8))
    assert np.isnan(loc.average_precision(flat, nothing))
    assert np.isnan(loc.overlap_at_equal_area(flat, nothing))
    assert np.isnan(loc.pointing_hit(flat, MARKED))
    assert np.isnan(loc.energy_share(flat, MARKED))
    assert np.isnan(loc.energy_share(-MARKED.astype(float), MARKED))


def test_a_gain_over_all_counts_each_eye_by_what_was_at_stake() -> None:
    gain, change = np.array([0.5, -4.0]), np.array([-0.8, 0.01])
    assert loc.gain_over_all(gain, change) == pytest.approx((0.5 * 0.8 - 4.0 * 0.01) / 0.81)
    assert loc.gain_over_all(gain, np.full(2, 0.3)) == pytest.approx(gain.mean()), "alike: the mean"
    assert np.isnan(loc.gain_over_all(gain, np.zeros(2)))
    assert np.isnan(loc.gain_over_all(gain[:0], change[:0]))


def test_pointing_allows_a_stated_distance() -> None:
    heat = np.zeros((8, 8))
    heat[6, 3] = 1
    assert loc.pointing_hit(heat, MARKED, tolerance=2.9) == 0
    assert loc.pointing_hit(heat, MARKED, tolerance=3.0) == 1


def test_the_best_threshold_is_the_one_of_a_slow_search() -> None:
    generator = np.random.default_rng(1)
    marked = generator.random(500) < 0.1
    score = np.clip(generator.normal(0.3, 0.1, 500) + 0.3 * marked, 0, 1)

    def dice(cutoff: float) -> float:
        chosen = score >= cutoff
        return float(2 * (chosen & marked).sum() / (chosen.sum() + marked.sum()))

    best = max(dice(value) for value in score)
    assert dice(loc.best_threshold(score, marked)) == pytest.approx(best, abs=0.01)
    assert loc.best_threshold(score, np.zeros(500, bool)) == 0.5


def test_a_lesion_is_reached_by_the_hottest_twentieth() -> None:
    heat, field = np.zeros((8, 8)), np.ones((8, 8), bool)
    assert loc.lesions_reached(heat, MARKED, field) == loc.Reached(2, 0)
    heat[6, 6] = 1
    assert loc.lesions_reached(heat, MARKED, field) == loc.Reached(2, 1)


def test_free_response_counts_lesions_and_false_positives() -> None:
    p = np.zeros((20, 20))
    marked = np.zeros((20, 20), bool)
    marked[3:5, 3:5] = marked[15, 15] = True
    p[3:5, 3:5], p[10, 10], p[15, 15] = 0.9, 0.8, 0.7
    one = loc.free_response(p, marked, floor=0.1)
    assert sorted(one.scores.tolist()) == [0.7, 0.8, 0.9]
    assert loc.sensitivity_at([one], 0.0) == 0.5
    assert loc.sensitivity_at([one], 1.0) == 1.0
    nothing = loc.free_response(p, np.zeros_like(marked), floor=0.1)
    assert np.isnan(loc.sensitivity_at([nothing], 1.0))
    assert not loc.free_response(np.zeros_like(p), marked, floor=0.1).scores.size
