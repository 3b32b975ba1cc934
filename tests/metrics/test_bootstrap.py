"""The patient-clustered bootstrap: the fast way against the slow one on the same resamples, and its coverage."""

import numpy as np
import pytest

from workbench.metrics import bootstrap
from workbench.metrics.bootstrap import cluster_counts, clustered_interval
from workbench.metrics.catalogue import METRICS, WEIGHTED

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
    }.get(name, (referable, p))


@pytest.mark.parametrize("name", METRICS)
def test_fast_equals_slow_on_the_same_resamples(name):
    generator = np.random.default_rng(1)
    arrays = arrays_for(name, generator)
    patients = generator.integers(0, PATIENTS, 3 * PATIENTS)
    interval = clustered_interval(METRICS[name], patients, *arrays, resamples=50, seed=7, level=0.9)

    names = np.unique(patients)
    counts = cluster_counts(len(names), 50, np.random.default_rng(7))
    values = []
    for times in counts:
        rows = np.concatenate(
            [np.tile(np.flatnonzero(patients == who), k) for who, k in zip(names, times, strict=True)]
        )
        values.append(METRICS[name](*(array[rows] for array in arrays)))
    assert interval.value == METRICS[name](*arrays)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)
    assert interval.low < interval.value < interval.high or name == "expected_calibration_error"
    assert (interval.n, interval.clusters, interval.undefined) == (3 * PATIENTS, len(names), 0)


def test_every_metric_but_the_binned_one_is_fast():
    assert {name for name, metric in METRICS.items() if metric not in WEIGHTED} == {"expected_calibration_error"}


def test_blocks_do_not_change_the_interval(monkeypatch):
    p = np.random.default_rng(0).random(100)
    whole = clustered_interval(METRICS["mean"], np.arange(100), p, resamples=200, seed=3)
    monkeypatch.setattr(bootstrap, "BLOCK", 700)
    assert clustered_interval(METRICS["mean"], np.arange(100), p, resamples=200, seed=3) == pytest.approx(whole)


def test_counts_draw_as_many_clusters_as_there_are():
    counts = cluster_counts(30, 500, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 30).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(30), abs=0.25)


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
    assert 200 < interval.undefined < 450  # (3/4)^4 = 32 % of resamples miss the only positive
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
