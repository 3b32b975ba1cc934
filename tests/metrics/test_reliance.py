from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.metrics import sufficient
from workbench.metrics.reader_resampling import median, patient_intervals, reader_and_patient_intervals
from workbench.metrics.reliance import RELIANCE, Reveal, confidence_auc, rows_behind, switch_table
from workbench.metrics.sufficient import once


def drawn(generator: np.random.Generator, n: int = 40) -> Reveal:
    return Reveal(*(generator.random(n) < share for share in (0.4, 0.45, 0.5, 0.45)))


def slow(reads: Reveal) -> dict[str, float]:
    """Every rate by counting, one read at a time."""
    rows = list(zip(reads.truth, reads.model, reads.first, reads.second, strict=True))

    def rate(of: list[bool]) -> float:
        return float(np.mean(of)) if of else float("nan")

    error = {
        name: rate([row[place] != row[0] for row in rows])
        for name, place in (("model", 1), ("before", 2), ("after", 3))
    }
    return {
        "over_reliance": rate([s != t for t, m, f, s in rows if f == t and m != t]),
        "under_reliance": rate([s != t for t, m, f, s in rows if f != t and m == t]),
        "harmful_switches": rate([f == t and s != t for t, _, f, s in rows]),
        "beneficial_switches": rate([f != t and s == t for t, _, f, s in rows]),
        "followed": rate([s == m for _, m, f, s in rows if f != m]),
        "error_before": error["before"],
        "error_after": error["after"],
        "error_change": error["after"] - error["before"],
        "error_of_model": error["model"],
        "sensitivity_after": rate([bool(s) for t, _, _, s in rows if t]),
        "specificity_before": rate([not f for t, _, f, _ in rows if not t]),
        "team_against_model": error["after"] - error["model"],
        "team_against_best": error["after"] - min(error["before"], error["model"]),
    }


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_every_rate_is_the_slow_count(seed: int) -> None:
    reads = drawn(np.random.default_rng(seed), 20)
    for name, expected in slow(reads).items():
        assert once(RELIANCE[name](reads)) == pytest.approx(expected, nan_ok=True), name


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_change_of_the_error_is_harm_minus_benefit_and_the_table_holds_every_read(seed: int) -> None:
    reads = drawn(np.random.default_rng(seed))
    found = {name: once(metric(reads)) for name, metric in RELIANCE.items()}
    assert found["error_change"] == pytest.approx(found["harmful_switches"] - found["beneficial_switches"])
    table = switch_table(reads)
    assert sum(row["reads"] for row in table) == 40
    met = [row for row in table if not row["model_right"] and row["first_right"]]
    assert sum(row["reads"] for row in met) == rows_behind("over_reliance", reads).sum()
    assert rows_behind("sensitivity_change", reads).sum() == reads.truth.sum()
    assert rows_behind("error_change", reads).all()


def test_who_never_switches_and_who_always_follows() -> None:
    generator = np.random.default_rng(1)
    truth, model, first = (generator.random(60) < 0.5 for _ in range(3))
    stubborn, obedient = Reveal(truth, model, first, first), Reveal(truth, model, first, model)
    assert once(RELIANCE["over_reliance"](stubborn)) == 0
    assert once(RELIANCE["under_reliance"](stubborn)) == 1
    assert once(RELIANCE["error_change"](stubborn)) == 0
    assert once(RELIANCE["over_reliance"](obedient)) == 1
    assert once(RELIANCE["under_reliance"](obedient)) == 0
    assert once(RELIANCE["team_against_model"](obedient)) == 0
    assert once(RELIANCE["followed"](obedient)) == 1


def test_without_a_read_of_its_kind_a_rate_is_not_known() -> None:
    truth = np.array([True, False, True])
    right = Reveal(truth, truth, truth, truth)
    assert np.isnan(once(RELIANCE["over_reliance"](right)))
    assert np.isnan(once(RELIANCE["under_reliance"](right)))
    assert once(RELIANCE["error_after"](right)) == 0
    nothing = Reveal(*(np.zeros(0, dtype=bool) for _ in range(4)))
    assert all(np.isnan(once(metric(nothing))) for metric in RELIANCE.values())
    healthy = Reveal(*(np.zeros(3, dtype=bool) for _ in range(4)))
    assert np.isnan(once(RELIANCE["sensitivity_change"](healthy)))


def test_confidence_knows_or_does_not() -> None:
    right = np.array([True, True, False, False])
    assert once(confidence_auc(right, np.array([5.0, 4, 2, 1]))) == 1
    assert once(confidence_auc(right, np.array([3.0, 3, 3, 3]))) == 0.5
    assert np.isnan(once(confidence_auc(np.array([True, True]), np.array([1.0, 2]))))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_the_median_is_numpys(values: list[int]) -> None:
    assert once(median(np.array(values, dtype=float))) == np.median(values)


def test_the_median_under_resamples_is_that_of_the_repeated_values() -> None:
    values, counts = np.array([4.0, 1, 9, 1, 7]), np.array([0, 2, 1, 1, 2])
    metric = median(values)
    found = metric.finish(metric.sums @ counts[:, None].astype(float))[0]
    assert found == np.median(np.repeat(values, counts))
    assert np.isnan(once(median(np.zeros(0))))


def test_a_pooled_interval_is_wider_when_readers_differ() -> None:
    generator = np.random.default_rng(2)
    reader, patient = np.repeat(np.arange(6), 80), np.tile(np.arange(80), 6)
    chance = np.array([0.05, 0.1, 0.2, 0.5, 0.6, 0.7])[reader]
    values = {"rate": sufficient.mean(generator.random(480) < chance)}
    alone = patient_intervals(values, patient, seed=3)["rate"]
    both = reader_and_patient_intervals(values, reader, patient, seed=3)["rate"]
    assert both.value == alone.value
    assert both.high - both.low > 2 * (alone.high - alone.low)
    assert (both.n, both.clusters) == (480, 80)


def test_one_reader_or_one_patient_has_no_pooled_interval() -> None:
    values = {"rate": sufficient.mean(np.array([True, False, True, True]))}
    one_reader = reader_and_patient_intervals(values, np.zeros(4), np.arange(4), seed=1)["rate"]
    one_patient = reader_and_patient_intervals(values, np.arange(4), np.zeros(4), seed=1)["rate"]
    for found in (one_reader, one_patient):
        assert found.value == 0.75
        assert np.isnan(found.low)
        assert np.isnan(found.high)


def test_intervals_repeat_with_their_seed() -> None:
    generator = np.random.default_rng(4)
    reader, patient = np.repeat(np.arange(3), 20), np.tile(np.arange(20), 3)
    values = {"rate": sufficient.mean(generator.random(60))}
    found = [reader_and_patient_intervals(values, reader, patient, seed=seed)["rate"] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_the_pooled_interval_covers_the_over_reliance_of_readers_at_large() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        readers, cases = 8, 60
        trust = generator.beta(3, 7, size=(readers, 1))  # 0.3 on average
        hard = generator.random(cases) < 0.3  # the model is wrong
        truth = generator.random(cases) < 0.5
        model = truth ^ hard
        first = truth ^ (generator.random((readers, cases)) < 0.15)
        second = np.where((first != model) & (generator.random((readers, cases)) < trust), model, first)
        flat = [np.broadcast_to(part, (readers, cases)).ravel() for part in (truth, model, first, second)]
        metrics = {"over": RELIANCE["over_reliance"](Reveal(*flat))}
        reader, patient = np.repeat(np.arange(readers), cases), np.tile(np.arange(cases), readers)
        found = reader_and_patient_intervals(metrics, reader, patient, seed=6, resamples=300)["over"]
        covered += found.low <= 0.3 <= found.high
    assert covered >= 51
