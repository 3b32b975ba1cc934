"""The patient-clustered bootstrap: the fast way against the slow one on the same resamples, and its coverage."""

import numpy as np
import pytest
from scipy import stats

from workbench.metrics import resampling, sufficient
from workbench.metrics.bootstrap import clustered_interval, paired_difference
from workbench.metrics.catalogue import METRICS, SUFFICIENT
from workbench.metrics.resampling import count_tiles

PATIENTS = 40


def arrays_for(name, generator):
    n = 3 * PATIENTS
    truth = generator.integers(0, 5, n)
    answer = np.clip(truth + generator.integers(-2, 3, n), 0, 4)
    p = np.round(np.clip(truth / 4 + generator.normal(0, 0.4, n), 0, 1), 2)
    referable = truth >= 2
    return {
        "quadratic_weighted_kappa": (truth, answer),
        "accuracy": (truth, answer),
        "sensitivity": (referable, answer >= 2),
        "specificity": (referable, answer >= 2),
        "mean": (p,),
        "aurc": (referable != (answer >= 2), p),
        "excess_aurc": (referable != (answer >= 2), p),
        "augrc": (referable != (answer >= 2), p),
    }.get(name, (referable, p))


def slow_values(metric, patients, arrays, resamples, seed):
    """Each resample written out: the rows of every drawn patient, one after the other."""
    names = np.unique(patients)
    values = []
    for counts in count_tiles(len(names), resamples, np.random.default_rng(seed)):
        for times in counts.T.astype(int):
            rows = [np.tile(np.flatnonzero(patients == who), k) for who, k in zip(names, times, strict=True)]
            values.append(metric(*(array[np.concatenate(rows)] for array in arrays)))
    return np.array(values)


@pytest.mark.parametrize("name", METRICS)
def test_fast_equals_slow_on_the_same_resamples(name, monkeypatch):
    monkeypatch.setattr(resampling, "KINDS", 0)  # every patient is drawn as oneself
    generator = np.random.default_rng(1)
    arrays = arrays_for(name, generator)
    patients = generator.integers(0, PATIENTS, 3 * PATIENTS)
    interval = clustered_interval(METRICS[name], patients, *arrays, resamples=50, seed=7, level=0.9)
    values = slow_values(METRICS[name], patients, arrays, 50, 7)
    assert interval.value == METRICS[name](*arrays)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)
    assert interval.low < interval.value < interval.high or name == "expected_calibration_error"
    assert (interval.n, interval.clusters, interval.undefined) == (3 * PATIENTS, len(np.unique(patients)), 0)


def test_patients_alike_are_drawn_as_one_kind_and_give_the_same_values():
    generator = np.random.default_rng(2)
    truth = generator.integers(0, 2, 400)
    answer = np.where(generator.random(400) < 0.7, truth, 1 - truth)
    patients = np.repeat(np.arange(200), 2)
    cells = sufficient.quadratic_weighted_kappa(truth, answer, 2)
    fast = np.concatenate(
        [cells.finish(found) for found in resampling.totals(cells.sums, patients, 200, 300, np.random.default_rng(3))]
    )
    # Each kind stands for patients with the same two eyes: draw the first of them as often as the kind was drawn.
    pairs = np.sort((truth * 2 + answer).reshape(-1, 2), axis=1)
    per_patient = np.stack([(pairs == cell).sum(axis=1) for cell in range(4)]).astype(float)
    _, first, multiplicity = np.unique(
        np.ascontiguousarray(per_patient.T).view("V32").ravel(), return_index=True, return_counts=True
    )
    slow = []
    for counts in resampling.kind_counts(multiplicity, 300, np.random.default_rng(3)):
        assert (counts.sum(axis=0) == 200).all()
        for times in counts.T.astype(int):
            who = np.repeat(first, times)
            rows = np.concatenate([2 * who, 2 * who + 1])
            slow.append(METRICS["quadratic_weighted_kappa"](truth[rows], answer[rows], 2))
    np.testing.assert_allclose(fast, slow, atol=1e-12)
    whole = np.concatenate(list(count_tiles(200, 300, np.random.default_rng(4))), axis=1)
    rows = [np.repeat(np.arange(400), times.astype(int)[patients]) for times in whole.T]
    other = [METRICS["quadratic_weighted_kappa"](truth[index], answer[index], 2) for index in rows]
    assert stats.ks_2samp(fast, other).pvalue > 0.01


def test_every_metric_takes_all_resamples_in_one_pass():
    assert {name for name, metric in METRICS.items() if metric not in SUFFICIENT} == {"expected_calibration_error"}


def test_a_metric_that_is_no_sum_is_called_once_for_each_resample():
    p = np.random.default_rng(0).random(30)
    patients = np.repeat(np.arange(10), 3)
    interval = clustered_interval(median, patients, p, resamples=40, seed=5)
    values = slow_values(median, patients, (p,), 40, 5)
    assert (interval.low, interval.high) == tuple(np.quantile(values, [0.025, 0.975]))


def median(values):
    return float(np.median(values))


@pytest.mark.parametrize("clusters", [1, 2, 7, 30, 400, 3000])
def test_counts_are_multinomial(clusters):
    drawn = np.concatenate(list(count_tiles(clusters, 600, np.random.default_rng(0))), axis=1)
    assert drawn.shape == (clusters, 600)
    assert (drawn.sum(axis=0) == clusters).all()
    assert (drawn >= 0).all()
    if clusters < 7:
        return
    flat = drawn.ravel().astype(int)
    observed = np.bincount(flat, minlength=6)
    expected = stats.binom.pmf(np.arange(5), clusters, 1 / clusters) * flat.size
    tail = flat.size - expected.sum()
    found = stats.chisquare([*observed[:5], observed[5:].sum()], [*expected, tail])
    # The counts of one resample share their sum, so chi-square is conservative; it must not be large.
    assert found.pvalue > 1e-3
    assert drawn.mean(axis=1) == pytest.approx(1, abs=6 / np.sqrt(600))
    assert np.corrcoef(drawn[0], drawn[1])[0, 1] == pytest.approx(-1 / (clusters - 1), abs=0.2)


def test_a_long_tile_and_a_short_one_begin_alike():
    long = np.concatenate(list(count_tiles(50, 1300, np.random.default_rng(1))), axis=1)
    short = np.concatenate(list(count_tiles(50, 700, np.random.default_rng(1))), axis=1)
    np.testing.assert_array_equal(long[:, :700], short)


def test_a_difference_is_that_of_the_same_resamples():
    generator = np.random.default_rng(5)
    y = generator.random(120) < 0.4
    better, worse = y + generator.normal(0, 0.7, 120), y + generator.normal(0, 2.0, 120)
    patients = np.repeat(np.arange(40), 3)
    for metric in (METRICS["roc_auc"], lambda y, p: METRICS["roc_auc"](y, p)):
        found = paired_difference(metric, patients, (y, better), (y, worse), resamples=60, seed=2)
        values = slow_values(metric, patients, (y, better), 60, 2) - slow_values(metric, patients, (y, worse), 60, 2)
        assert found.difference.value == pytest.approx(metric(y, better) - metric(y, worse))
        assert found.difference[1:3] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)
        assert found.p_value == pytest.approx(2 * (min((values <= 0).sum(), (values >= 0).sum()) + 1) / 61)
    same = paired_difference(METRICS["roc_auc"], patients, (y, better), (y, better), resamples=60, seed=2)
    assert same.difference[:3] == (0, 0, 0)
    assert same.p_value == 1


def test_a_true_difference_of_none_is_found_as_often_as_promised():
    generator = np.random.default_rng(6)
    small = 0
    for trial in range(150):
        patient = np.repeat(np.arange(40), 2)
        first, second = (generator.normal(size=40)[patient] + generator.normal(size=80) for _ in range(2))
        pair = paired_difference(METRICS["mean"], patient, (first,), (second,), resamples=200, seed=trial)
        small += pair.p_value < 0.1
    assert 5 <= small <= 30  # 15 of 150 expected


def test_equal_eyes_are_no_new_witnesses():
    p = np.random.default_rng(0).random(80)
    alone = clustered_interval(METRICS["mean"], np.arange(80), p, seed=1)
    doubled = clustered_interval(METRICS["mean"], np.repeat(np.arange(80), 2), np.repeat(p, 2), seed=1)
    assert doubled[:3] == pytest.approx(alone[:3])
    assert (doubled.n, doubled.clusters) == (160, 80)
    naive = clustered_interval(METRICS["mean"], np.arange(160), np.repeat(p, 2), seed=1)
    assert naive.high - naive.low < 0.85 * (alone.high - alone.low)


def test_a_normal_mean_is_covered_as_often_as_promised():
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        patient = np.repeat(np.arange(50), 2)
        values = generator.normal(size=50)[patient] + 0.1 * generator.normal(size=100)
        interval = clustered_interval(METRICS["mean"], patient, values, resamples=200, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 175 <= covered <= 199


def test_nan_rows_are_left_out_and_seen():
    p = np.array([0.1, np.nan, 0.3, 0.5])
    interval = clustered_interval(METRICS["mean"], np.array(["a", "b", "c", "c"], dtype=object), p, seed=0)
    assert interval.value == pytest.approx(0.3)
    assert (interval.n, interval.clusters) == (3, 2)


def test_undefined_resamples_are_counted():
    y = np.array([1, 0, 0, 0])
    p = np.array([0.9, 0.1, 0.2, 0.3])
    interval = clustered_interval(METRICS["roc_auc"], np.arange(4), y, p, seed=0)
    assert interval.value == 1
    assert 2000 < interval.undefined < 4500  # (3/4)^4 = 32 % of resamples miss the only positive
    assert interval.low == interval.high == 1


def test_one_patient_gives_no_interval():
    interval = clustered_interval(METRICS["mean"], np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]), seed=0)
    assert interval.value == pytest.approx(0.2)
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(clustered_interval(METRICS["mean"], np.array([], dtype=int), np.array([]), seed=0).value)


def test_same_seed_same_interval():
    p = np.random.default_rng(0).random(30)
    first, again, other = (clustered_interval(METRICS["mean"], np.arange(30), p, seed=s) for s in (1, 1, 2))
    assert first == again != other
