"""A run in bf16: corruptions are judged by a copy, and the draws come from its pass; the calls are those of fp32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.small_audit import small_config, stored_bytes, write_cohort, write_model
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.models.precision import has_bf16

pytestmark = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="the processor has no bf16 arithmetic")

STRESSES = (
    "stresses=[{name: defocus, strengths: [5]}, {name: jpeg, strengths: [5], eyes: worst_of_one}, "
    "{name: missing_eye, strengths: [1]}, {name: wrong_eye, strengths: [1]}, {name: pgd, strengths: [1], exams: 4}]"
)


@pytest.fixture(scope="module")
def run_in(tmp_path_factory: pytest.TempPathFactory):
    """Return ``(precision, workers) -> run``, at the threshold that halves the clean exams."""
    folder = tmp_path_factory.mktemp("judged")
    manifest, model = write_cohort(folder / "cohort"), write_model(folder / "model", trunk="resnet18", width=1.0)
    kept: dict[tuple[str, int, float], Run] = {}

    def run(precision: str, workers: int = 1, threshold: float = 0.5) -> Run:
        key = precision, workers, threshold
        if key not in kept:
            told = [STRESSES, f"precision={precision}", f"workers={workers}", "explanations.methods=[]"]
            told += [f"policy.referable_threshold={threshold}", "engine=eager", "stressed_photographs=0"]
            kept[key] = run_audit(small_config(manifest, model, *told), folder / "-".join(map(str, key)))
        return kept[key]

    clean = run("fp32").rows_of(run("fp32").manifest.measurement("clean"))
    return run, _threshold(clean)


def _threshold(clean) -> float:
    worse = {}
    for row in clean[clean["status"] == "done"].itertuples():
        draws = np.reshape(row.probabilities, (-1, 5))
        worse[row.exam_id] = max(worse.get(row.exam_id, 0.0), float(draws[:, 2:].sum(axis=1).mean()))
    return round(float(np.median(list(worse.values()))), 4)


def test_the_calls_are_those_of_fp32(run_in) -> None:
    run, threshold = run_in
    exact, quick = run("fp32", threshold=threshold), run("bf16", threshold=threshold)
    assert "folded copy in bf16" in quick.manifest.environment.draws_how
    assert "folded" not in exact.manifest.environment.draws_how
    flips = 0
    for measurement in exact.manifest.measurements:
        if measurement.kind != "draws" or measurement.stress is None or measurement.stress.name == "pgd":
            continue
        one, other = exact.rows_of(measurement), quick.rows_of(measurement)
        assert one["status"].tolist() == other["status"].tolist()
        done = one["status"] == "done"
        assert one["flipped"][done].tolist() == other["flipped"][done].tolist()
        flips += int(one["flipped"][done].sum())
        for mine, theirs in zip(one["probabilities"][done], other["probabilities"][done], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=0.03)
    assert flips, "nothing flipped, so nothing was compared"


def test_the_bytes_are_those_of_any_number_of_workers(run_in) -> None:
    run, threshold = run_in
    one, two = (run("bf16", workers=workers, threshold=threshold) for workers in (1, 2))
    mine, theirs = stored_bytes(one.folder), stored_bytes(two.folder)
    assert mine.keys() == theirs.keys()
    parts = [name for name in mine if name.startswith("parts/")]
    assert len(parts) > 10
    assert [name for name in parts if mine[name] != theirs[name]] == []
