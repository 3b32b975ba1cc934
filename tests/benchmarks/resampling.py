"""10,000 patient-clustered resamples of a metric against the plain scikit-learn loop, side by side in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/resampling.py

A cohort of the size of the EyePACS test set (53,576 eyes of 26,788 patients, grades as frequent as there, fellow eyes
alike). The plain loop draws patients, gathers the rows of both eyes and calls scikit-learn; it is timed on some
resamples and scaled, since all of them take minutes. Ours is `clustered_interval`, whole: the draws, the values, the
quantiles. Both are timed in processor time, so that a busy machine does not blur it. Before anything is timed, both
give the values of the same resamples, and they must be equal.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics as sklearn_metrics

from workbench.metrics import resampling
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.catalogue import METRICS, SUFFICIENT

PREVALENCE = (0.735, 0.070, 0.151, 0.025, 0.019)
Arrays = tuple[np.ndarray, ...]


def cohort(patients: int, decimals: int | None) -> dict[str, Arrays]:
    """Return what each metric takes, two eyes per patient, the first and the second row of each pair being one's."""
    generator = np.random.default_rng(0)
    first = generator.choice(5, patients, p=PREVALENCE)
    second = np.where(generator.random(patients) < 0.8, first, generator.choice(5, patients, p=PREVALENCE))
    grade = np.stack([first, second], axis=1).ravel()
    p = 1 / (1 + np.exp(-(1.6 * (grade - 1.5) + generator.normal(0, 1.3, 2 * patients))))
    p = p if decimals is None else np.round(p, decimals)
    answer = np.clip(grade + generator.choice([-1, 0, 0, 0, 1], 2 * patients), 0, 4)
    referable = grade >= 2
    return {
        "quadratic_weighted_kappa": (grade, answer),
        "roc_auc": (referable, p),
        "average_precision": (referable, p),
        "brier": (referable, p),
        "accuracy": (grade, answer),
        "sensitivity": (referable, p >= 0.5),
    }


PLAIN: dict[str, Callable[..., float]] = {
    "quadratic_weighted_kappa": lambda y, a: sklearn_metrics.cohen_kappa_score(y, a, weights="quadratic"),
    "roc_auc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
    "brier": sklearn_metrics.brier_score_loss,
    "accuracy": sklearn_metrics.accuracy_score,
    "sensitivity": sklearn_metrics.recall_score,
}


def plain_loop(name: str, arrays: Arrays, patients: int, resamples: int) -> float:
    """Return the seconds of so many resamples as most code makes them."""
    generator = np.random.default_rng(1)
    begin = time.process_time()
    for _ in range(resamples):
        drawn = generator.integers(patients, size=patients)
        rows = np.stack([2 * drawn, 2 * drawn + 1], axis=1).ravel()
        PLAIN[name](*(array[rows] for array in arrays))
    return time.process_time() - begin


def check_equal(name: str, arrays: Arrays, patients: int, resamples: int = 20) -> float:
    """Return the largest distance of ours to scikit-learn's on the same resamples."""
    code = np.repeat(np.arange(patients), 2)
    reduced = SUFFICIENT[METRICS[name]](*arrays)
    kinds, resampling.KINDS = resampling.KINDS, 0
    found = resampling.totals(reduced.sums, code, patients, resamples, np.random.default_rng(2))
    ours = np.concatenate([reduced.finish(one) for one in found])
    resampling.KINDS = kinds
    counts = next(resampling.count_tiles(patients, resamples, np.random.default_rng(2)))
    rows = [np.repeat(np.arange(2 * patients), times.astype(int)[code]) for times in counts.T]
    theirs = [PLAIN[name](*(array[index] for array in arrays)) for index in rows]
    distance = float(np.abs(ours[: len(theirs)] - theirs).max())
    assert distance < 1e-12, f"{name}: {distance} off scikit-learn"
    return distance


def main() -> None:
    """Print one line per metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=26_788)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--plain", type=int, default=100, help="resamples of the plain loop that are timed")
    parser.add_argument("--decimals", type=int, default=None, help="round the probabilities, so that they tie")
    options = parser.parse_args()
    print(f"{2 * options.patients} eyes of {options.patients} patients, {options.resamples} resamples, one core;")
    print(f"plain loop timed on {options.plain} resamples and scaled\n")
    print(f"{'metric':26s} {'ours':>9s} {'plain loop':>12s} {'ratio':>8s}   largest distance on the same resamples")
    code = np.repeat(np.arange(options.patients), 2)
    for name, arrays in cohort(options.patients, options.decimals).items():
        distance = check_equal(name, arrays, options.patients)
        plain = plain_loop(name, arrays, options.patients, options.plain) * options.resamples / options.plain
        begin = time.process_time()
        clustered_interval(METRICS[name], code, *arrays, resamples=options.resamples, seed=0)
        ours = time.process_time() - begin
        print(f"{name:26s} {ours:7.2f} s {plain:10.1f} s {plain / ours:7.0f}x   {distance:.1e}")


if __name__ == "__main__":
    main()
