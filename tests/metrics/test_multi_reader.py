from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from workbench.metrics.multi_reader import (
    Readings,
    bootstrap_covariance,
    covariance,
    delong_covariance,
    jackknife,
    jackknife_covariance,
    pseudovalues,
)
from workbench.metrics.multi_reader_analysis import (
    components,
    dorfman_berbaum_metz,
    mean_squares,
    obuchowski_rockette,
    of_each_reader,
)
from workbench.schema.errors import WorkbenchError

# Van Dyke et al. 1993: 5 readers, 2 kinds of magnetic resonance imaging, 45 diseased and 69 healthy patients. What
# follows are results published by others, none of their data: OR-DBM MRMC 2.51 (Schartz, Hillis, Pesce, Berbaum;
# trapezoidal area, jackknife) and MRMCaov (Smith, Hillis; DeLong covariances, and sensitivity of ratings of 3 or more).
AREAS = (
    np.rint(
        np.array(
            [
                [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
                [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
            ]
        )
        * 6210
    )
    / 6210
)
SENSITIVITIES = np.array([[40, 35, 37, 42, 31], [44, 37, 41, 45, 40]]) / 45


def covariance_of(
    error: tuple[float, float], cov2: tuple[float, float], cov3: float, by_reader: list[tuple[float, float]]
) -> np.ndarray:
    """A covariance whose averages over conditions, and over readers, are the published ones."""
    made = np.full((2, 5, 2, 5), cov3)
    mean = float(np.mean(error))
    for condition in range(2):
        made[condition, :, condition, :] = cov2[condition]
        for reader, (own, cov1) in enumerate(by_reader):
            made[condition, reader, condition, reader] = error[condition] + own - mean
            made[condition, reader, 1 - condition, reader] = cov1
    return made


JACKKNIFE = covariance_of(
    (0.00101410, 0.00059047),
    (0.00048396, 0.00020419),
    0.00023903,
    [
        (0.00069890, 0.00037347),
        (0.00110605, 0.00076016),
        (0.00084234, 0.00035532),
        (0.00015058, 0.00000108),
        (0.00121357, 0.00024304),
    ],
)


def test_van_dyke_mean_squares_and_components_are_the_published_ones() -> None:
    parts = components(AREAS, JACKKNIFE)
    assert parts.ms_condition == pytest.approx(0.00479617, abs=5e-9)
    assert parts.ms_reader == pytest.approx(0.00383620, abs=5e-9)
    assert parts.ms_interaction == pytest.approx(0.00055103, abs=5e-9)
    assert [ms for ms, _, _ in parts.of_condition] == pytest.approx([0.00308263, 0.00130460], abs=5e-9)
    assert (parts.error, parts.cov1, parts.cov2, parts.cov3) == pytest.approx(
        (0.00080229, 0.00034661, 0.00034407, 0.00023903), abs=1e-8
    )
    assert parts.var_reader == pytest.approx(0.00153500, abs=2e-8)
    assert parts.var_interaction == pytest.approx(0.00020040, abs=2e-8)


def test_van_dyke_random_readers_and_cases() -> None:
    found = obuchowski_rockette(AREAS, JACKKNIFE)[0]
    assert found.scope == "random readers, random cases"
    assert (found.statistic, found.df, found.error_df, found.p) == pytest.approx((4.46, 1, 15.26, 0.0517), rel=1e-3)
    difference = found.contrasts[0]
    assert difference.value == pytest.approx(-0.04380032, abs=5e-9)
    assert (difference.error, difference.statistic) == pytest.approx((0.02075, -2.11), rel=1e-3)
    assert (difference.low, difference.high) == pytest.approx((-0.08796, 0.00036), abs=6e-6)
    assert [(one.value, one.error) for one in found.means] == [
        pytest.approx((0.89703704, 0.03317360), abs=2e-6),
        pytest.approx((0.94083736, 0.02156637), abs=2e-6),
    ]
    assert [one.df for one in found.means] == pytest.approx([12.74, 12.71], abs=6e-3)
    assert (found.means[0].low, found.means[0].high) == pytest.approx((0.82522360, 0.96885048), abs=2e-6)


def test_van_dyke_fixed_readers_and_fixed_cases() -> None:
    _, readers_fixed, cases_fixed = obuchowski_rockette(AREAS, JACKKNIFE)
    assert (readers_fixed.statistic, readers_fixed.p) == pytest.approx((5.47595, 0.0193), rel=2e-3)
    difference = readers_fixed.contrasts[0]
    assert (difference.error, difference.low, difference.high) == pytest.approx((0.01872, -0.08049, -0.00711), abs=6e-6)
    assert [one.error for one in readers_fixed.means] == pytest.approx([0.02428971, 0.01677632], abs=2e-6)
    assert (cases_fixed.statistic, cases_fixed.error_df, cases_fixed.p) == pytest.approx((8.70, 4, 0.0420), rel=1e-3)
    difference = cases_fixed.contrasts[0]
    assert (difference.error, difference.low, difference.high) == pytest.approx((0.01485, -0.08502, -0.00258), abs=6e-6)


def test_van_dyke_each_reader_alone() -> None:
    found = of_each_reader(AREAS, JACKKNIFE)
    assert [one.reader for one in found] == [0, 1, 2, 3, 4]
    published = [0.02551, 0.02630, 0.03121, 0.01729, 0.04406]
    assert [one.error for one in found] == pytest.approx(published, abs=6e-6)
    assert [one.p for one in found] == pytest.approx([0.2693, 0.0768, 0.5668, 0.1290, 0.0230], abs=6e-5)


def test_van_dyke_with_delongs_covariances() -> None:
    spread = covariance_of((0.0007921325,) * 2, (0.0003395265,) * 2, 0.0002358497, [(0.0007921325, 0.000342009)] * 5)
    found = obuchowski_rockette(AREAS, spread)[0]
    assert (found.statistic, found.error_df, found.p) == pytest.approx((4.484854, 15.06611, 0.05123303), rel=1e-5)
    difference = found.contrasts[0]
    assert (difference.low, difference.high) == pytest.approx((-0.0878671960, 0.0002665519), abs=1e-8)


def test_van_dyke_sensitivity() -> None:
    spread = covariance_of(
        (0.0023681257,) * 2, (0.001646465, 0.000382716), 0.0006604938, [(0.0023681257, 0.0009943883)] * 5
    )
    found = obuchowski_rockette(SENSITIVITIES, spread)[0]
    assert (found.statistic, found.error_df, found.p) == pytest.approx((6.689493, 15.71732, 0.02008822), rel=1e-5)
    assert [one.error for one in found.means] == pytest.approx([0.05893747, 0.03741657], rel=1e-6)
    assert [one.df for one in found.means] == pytest.approx([14.456811, 7.575855], rel=1e-5)


VAN_DYKE = os.environ.get("WORKBENCH_VAN_DYKE")


@pytest.mark.skipif(VAN_DYKE is None, reason="set WORKBENCH_VAN_DYKE to VanDyke.lrc (it comes with OR-DBM MRMC)")
def test_van_dyke_from_the_ratings_themselves() -> None:
    scores, truth = read_lrc(Path(str(VAN_DYKE)))
    study = Readings(scores, truth, np.arange(len(truth)))
    assert study.figures() == pytest.approx(AREAS)
    found = obuchowski_rockette(study.figures(), jackknife_covariance(study))
    assert (found[0].statistic, found[0].error_df, found[0].p) == pytest.approx((4.4563, 15.26, 0.05167), rel=1e-4)
    delong = components(study.figures(), delong_covariance(study))
    assert (delong.error, delong.cov1) == pytest.approx((0.0007921325, 0.0003420090), rel=1e-6)
    assert (delong.cov2, delong.cov3) == pytest.approx((0.0003395265, 0.0002358497), rel=1e-6)
    squares = mean_squares(pseudovalues(study))  # as RJafroc's test values
    assert (squares.condition, squares.case) == pytest.approx((0.54676344, 0.39686988), rel=1e-7)
    assert (squares.condition_case, squares.all_three) == pytest.approx((0.09984808, 0.03997160), rel=1e-6)
    calls = Readings((scores >= 3).astype(float), truth, np.arange(len(truth)), "sensitivity")
    binary = components(calls.figures(), jackknife_covariance(calls))
    assert (binary.error, binary.cov1) == pytest.approx((0.0023681257, 0.0009943883), rel=1e-6)


def read_lrc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the Iowa format: per reader the healthy cases, then the diseased, a line each with a score per condition."""
    groups: list[list[list[float]]] = [[]]
    for line in path.read_text().splitlines()[4:]:
        words = line.split()
        if len(words) == 3:
            groups[-1].append([float(word) for word in words[:2]])
        elif line.strip() == "*":
            groups.append([])
    kinds = [group for group in groups if group]
    scores = np.array([[*healthy, *diseased] for healthy, diseased in zip(kinds[::2], kinds[1::2], strict=True)])
    return scores.transpose(2, 0, 1), np.repeat([False, True], [len(kinds[0]), len(kinds[1])])


def study_of(
    generator: np.random.Generator, readers: int = 3, cases: int = 24, *, effect: float = 0.3, conditions: int = 2
) -> Readings:
    """Ordinal scores with a common part of each case, a part of each reader, and noise (after Roe, Metz 1997)."""
    truth = np.arange(cases) % 2 == 0
    case = generator.normal(size=cases)
    skill = generator.normal(0, 0.3, size=(readers, 1)) + 1.2
    parts = []
    for condition in range(conditions):
        own = generator.normal(0, 0.1, size=(readers, 1))
        noise = generator.normal(size=(readers, cases)) * 0.7 + generator.normal(size=cases) * 0.4
        parts.append(truth * (skill + own + effect * condition) + case * 0.6 + noise)
    return Readings(np.round(np.stack(parts) * 2) / 2, truth, np.arange(cases))


def test_figures_and_jackknife_are_the_slow_ones() -> None:
    study = study_of(np.random.default_rng(0))
    values = jackknife(study)
    for condition in range(2):
        for reader in range(3):
            score = study.scores[condition, reader]
            assert study.figures()[condition, reader] == pytest.approx(roc_auc_score(study.truth, score))
            for left in range(24):
                keep = np.arange(24) != left
                expected = roc_auc_score(study.truth[keep], score[keep])
                assert values[left, condition, reader] == pytest.approx(expected)


def test_jackknife_covariance_is_the_textbook_sum() -> None:
    study = study_of(np.random.default_rng(1))
    values = jackknife(study)
    n = len(values)
    expected = (
        (n - 1)
        / n
        * sum(
            (values[one, 0, 1] - values[:, 0, 1].mean()) * (values[one, 1, 2] - values[:, 1, 2].mean())
            for one in range(n)
        )
    )
    found = jackknife_covariance(study)
    assert found[0, 1, 1, 2] == pytest.approx(expected)
    assert found[1, 2, 0, 1] == pytest.approx(expected)


def test_delongs_covariance_is_the_slow_one() -> None:
    study = study_of(np.random.default_rng(2), cases=14)
    one, other = study.scores[0, 0], study.scores[1, 2]
    diseased, healthy = np.flatnonzero(study.truth), np.flatnonzero(~study.truth)

    def won(score: np.ndarray, sick: int, well: int) -> float:
        return float(score[sick] > score[well]) + 0.5 * float(score[sick] == score[well])

    def parts(score: np.ndarray) -> tuple[list[float], list[float]]:
        return (
            [float(np.mean([won(score, sick, well) for well in healthy])) for sick in diseased],
            [float(np.mean([won(score, sick, well) for sick in diseased])) for well in healthy],
        )

    (a10, a01), (b10, b01) = parts(one), parts(other)
    expected = np.cov(a10, b10)[0, 1] / len(diseased) + np.cov(a01, b01)[0, 1] / len(healthy)
    assert delong_covariance(study)[0, 0, 1, 2] == pytest.approx(expected)


def test_the_three_covariances_are_alike_on_many_cases() -> None:
    study = study_of(np.random.default_rng(3), cases=160)
    found = [
        components(study.figures(), covariance(study, method, seed=4))
        for method in ("jackknife", "delong", "bootstrap")
    ]
    for name in ("error", "cov1", "cov2", "cov3"):
        one, two, three = (getattr(parts, name) for parts in found)
        assert two == pytest.approx(one, rel=0.1)
        assert three == pytest.approx(one, rel=0.25)


def test_bootstrap_covariance_is_the_same_for_the_same_seed() -> None:
    study = study_of(np.random.default_rng(5))
    first, second = (bootstrap_covariance(study, seed=7, resamples=200) for _ in range(2))
    assert (first == second).all()
    assert not (first == bootstrap_covariance(study, seed=8, resamples=200)).all()


@pytest.mark.parametrize("figure", ["roc_auc", "sensitivity", "specificity"])
def test_dorfman_berbaum_metz_is_obuchowski_rockette_with_the_jackknife(figure: str) -> None:
    drawn = study_of(np.random.default_rng(6), readers=4, cases=40)
    scores = drawn.scores if figure == "roc_auc" else (drawn.scores > 0.5).astype(float)
    study = Readings(scores, drawn.truth, drawn.patient, figure)
    one = obuchowski_rockette(study.figures(), jackknife_covariance(study))
    other = dorfman_berbaum_metz(pseudovalues(study))
    assert (one[0].statistic, one[0].error_df, one[0].p) == pytest.approx(
        (other[0].statistic, other[0].error_df, other[0].p)
    )
    assert one[2].statistic == pytest.approx(other[2].statistic)
    # With readers fixed one is chi-square, the other F on all cases; their standard errors are the same.
    assert one[1].contrasts[0].error == pytest.approx(other[1].contrasts[0].error)


def test_mean_squares_are_the_slow_sums() -> None:
    values = np.random.default_rng(8).normal(size=(2, 3, 5))
    t, r, c = values.shape
    found = mean_squares(values)
    total = sum((values[i, j, k] - values.mean()) ** 2 for i in range(t) for j in range(r) for k in range(c))
    parts = (
        found.condition * (t - 1)
        + found.reader * (r - 1)
        + found.case * (c - 1)
        + found.condition_reader * (t - 1) * (r - 1)
        + found.condition_case * (t - 1) * (c - 1)
        + found.reader_case * (r - 1) * (c - 1)
        + found.all_three * (t - 1) * (r - 1) * (c - 1)
    )
    assert parts == pytest.approx(total)
    interaction = sum(
        (values[i, :, k].mean() - values[i].mean() - values[:, :, k].mean() + values.mean()) ** 2
        for i in range(t)
        for k in range(c)
    )
    assert found.condition_case == pytest.approx(r * interaction / ((t - 1) * (c - 1)))


def test_the_same_scores_twice_show_no_difference() -> None:
    drawn = study_of(np.random.default_rng(9))
    study = Readings(np.stack([drawn.scores[0]] * 2), drawn.truth, drawn.patient)
    for found in obuchowski_rockette(study.figures(), jackknife_covariance(study)):
        assert found.contrasts[0].value == 0
        assert found.reason or found.p == pytest.approx(1)


def test_one_reader_says_nothing_about_other_readers_but_is_compared_over_cases() -> None:
    study = study_of(np.random.default_rng(10), readers=1, cases=60)
    random, fixed, readers_only = obuchowski_rockette(study.figures(), jackknife_covariance(study))
    assert random.reason == readers_only.reason == "one reader only: says nothing about other readers"
    assert np.isnan(random.p)
    assert np.isnan(random.contrasts[0].low)
    alone = of_each_reader(study.figures(), jackknife_covariance(study))[0]
    assert (fixed.contrasts[0].low, fixed.p) == pytest.approx((alone.low, alone.p))


def test_one_condition_has_means_and_nothing_to_compare() -> None:
    study = study_of(np.random.default_rng(11), conditions=1)
    for found in obuchowski_rockette(study.figures(), jackknife_covariance(study)):
        assert found.reason == "one condition only: nothing to compare"
        assert not found.contrasts
        assert found.means[0].low < found.means[0].value < found.means[0].high


def test_perfect_readers_do_not_vary_and_that_is_said() -> None:
    truth = np.arange(12) % 2 == 0
    study = Readings(np.broadcast_to(truth.astype(float), (2, 3, 12)).copy(), truth, np.arange(12))
    assert (study.figures() == 1).all()
    for found in obuchowski_rockette(study.figures(), jackknife_covariance(study)):
        assert "no variation" in found.reason
        assert found.contrasts[0].value == 0


def test_three_conditions_give_three_pairs() -> None:
    study = study_of(np.random.default_rng(12), conditions=3)
    found = obuchowski_rockette(study.figures(), jackknife_covariance(study))[0]
    assert found.df == 2
    assert [(one.first, one.second) for one in found.contrasts] == [(0, 1), (0, 2), (1, 2)]


def test_what_cannot_be_analysed_is_refused_with_its_reason() -> None:
    drawn = study_of(np.random.default_rng(13))
    with pytest.raises(WorkbenchError, match="24 diseased of 24"):
        Readings(drawn.scores, np.ones(24, dtype=bool), drawn.patient)
    with pytest.raises(WorkbenchError, match="no sensitivity from 0 diseased"):
        Readings((drawn.scores > 0).astype(float), np.zeros(24, dtype=bool), drawn.patient, "sensitivity")
    with pytest.raises(WorkbenchError, match="calls"):
        Readings(drawn.scores, drawn.truth, drawn.patient, "specificity")
    missing = drawn.scores.copy()
    missing[0, 0, 0] = np.nan
    with pytest.raises(WorkbenchError, match="missing"):
        Readings(missing, drawn.truth, drawn.patient)
    with pytest.raises(WorkbenchError, match="one case per patient"):
        delong_covariance(Readings(drawn.scores, drawn.truth, np.arange(24) // 2))
    one_diseased = Readings(drawn.scores, np.arange(24) == 0, drawn.patient)
    with pytest.raises(WorkbenchError, match="single patient"):
        jackknife_covariance(one_diseased)


def test_the_jackknife_leaves_out_whole_patients() -> None:
    drawn = study_of(np.random.default_rng(14), cases=40)
    twice = Readings(np.repeat(drawn.scores, 2, axis=2), np.repeat(drawn.truth, 2), np.repeat(drawn.patient, 2))
    assert jackknife_covariance(twice) == pytest.approx(jackknife_covariance(drawn))


@pytest.mark.slow
def test_the_null_is_rejected_about_as_often_as_it_should() -> None:
    generator = np.random.default_rng(15)
    rejected = 0
    for _ in range(100):
        study = study_of(generator, readers=4, cases=50, effect=0.0)
        rejected += obuchowski_rockette(study.figures(), delong_covariance(study))[0].p < 0.05
    assert rejected <= 12  # 5 expected; 13 or more has a chance of about 1 in 700


@pytest.mark.slow
def test_a_real_difference_is_covered_by_the_interval() -> None:
    generator = np.random.default_rng(16)
    truth = np.mean(
        [np.diff(study_of(generator, readers=6, cases=300, effect=0.5).figures().mean(axis=1))[0] for _ in range(40)]
    )
    covered = 0
    for _ in range(80):
        study = study_of(generator, readers=4, cases=50, effect=0.5)
        one = obuchowski_rockette(study.figures(), delong_covariance(study))[0].contrasts[0]
        covered += one.low <= -truth <= one.high
    assert covered >= 69
