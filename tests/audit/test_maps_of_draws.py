"""Maps over draws from the plan to the run: what is stored, who judges it, what an older run reads as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.small_audit import small_config
from workbench.audit import layout, schemas
from workbench.audit.preparation import measurements_of
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.schema.errors import WorkbenchError
from workbench.schema.maps import MapSpec, checked_as
from workbench.schema.seeds import seed_for

CHECKS = ("completeness_gap", "outside_change", "outside_share", "randomised_likeness")
LENIENT = "policy.maps={" + ", ".join(f"max_{name}: null" for name in CHECKS) + ", min_deletion_gain: null}"
METHODS = (
    "explanations.methods=[grad_cam, {name: grad_cam, draws: 4}, {name: edges, draws: 2}, "
    "{name: smooth_grad, target: mutual_information, draws: 3, options: {samples: 2}}, "
    "{name: grad_cam, target: grade_3_against_2}]"
)
DRAWN, CONTRADICTED = "grad_cam.4_draws", "smooth_grad.mutual_information.samples=2.3_draws"


@pytest.fixture(scope="module")
def run(small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = small.config("stresses=[]", METHODS, LENIENT, "explanations.influence_exams=0")
    return run_audit(config, tmp_path_factory.mktemp("drawn") / "run")


def test_maps_are_named_by_what_they_explain_and_keep_their_agreement(run: Run) -> None:
    assert run.methods() == ("grad_cam", DRAWN, "edges.2_draws", CONTRADICTED, "grad_cam.grade_3_against_2")
    assert run.failures().empty
    found = [run.heat_map(exam, "OD", DRAWN) for exam in run.exam_ids]
    shown = [heat for heat in found if heat is not None and heat.values is not None]
    assert shown
    for heat in shown:
        assert heat.draws == 4
        assert heat.agreement is not None
        assert set(np.unique(heat.agreement)) <= {0, 0.25, 0.5, 0.75, 1}
        assert heat.agreement.shape == heat.values.shape
        assert heat.steadiness is not None
        assert 0 <= heat.steadiness <= 1
        assert heat.draws_likeness is not None
        assert heat.draws_likeness > 0.7
    plain = next(heat for exam in run.exam_ids if (heat := run.heat_map(exam, "OD", "grad_cam")) is not None)
    assert (plain.draws, plain.agreement, plain.steadiness, plain.draws_likeness) == (None, None, None, None)
    joint = next(heat for exam in run.exam_ids if (heat := run.heat_map(exam, "OD", CONTRADICTED)) is not None)
    assert joint.values is not None
    assert joint.agreement is None


def test_the_maps_are_those_of_the_draws_behind_the_answer(run: Run, small) -> None:
    import torch

    from workbench.audit.preparation import open_bench
    from workbench.explanation.draws import maps_of_draws
    from workbench.explanation.targets import ReferableTarget
    from workbench.uncertainty.drawn import drawn_net

    bench = open_bench(small.config("stresses=[]", METHODS, LENIENT))[0]
    place, heat = next(
        (place, heat)
        for place, exam in enumerate(run.exam_ids)
        if (heat := run.heat_map(exam, "OS", DRAWN)) is not None
    )
    batch = bench.exams.batch([place])
    seed = seed_for(0, run.exam_ids[place], layout.CLEAN)
    drawn = drawn_net(bench.predictor, batch.x, batch.present, seed=seed, draws=4)
    stored = run.draws(layout.CLEAN, run.exam_ids[place])
    assert stored is not None
    with torch.no_grad():
        answers = drawn(batch.x, batch.present).softmax(-1)[:, 0].numpy()
    np.testing.assert_allclose(answers[:, 1], stored[:4, 1], atol=1e-5)
    slow = maps_of_draws(tuple(drawn.nets), batch.x, batch.present, ReferableTarget(1), eye=1)
    assert heat.values is not None
    np.testing.assert_allclose(heat.values, slow.mean[0], atol=2e-3 * float(slow.mean.abs().max()))


def test_draws_are_judged_as_the_model_without_them(small, tmp_path: Path) -> None:
    planned = measurements_of(small.config(METHODS, "explanations.trust_exams=2"))
    judged = [one.method for one in planned if one.kind == "map_trust"]
    assert judged == ["grad_cam", "edges", "grad_cam.grade_3_against_2"], "each once, and what has no map without draws"
    strict = small_config(
        small.manifest,
        small.model,
        *("stresses=[]", "explanations.methods=[{name: edges, draws: 2}]", "explanations.trust_exams=2"),
        *("explanations.influence_exams=0", "policy.maps.min_deletion_gain=null"),
    )
    run = run_audit(strict, tmp_path / "strict")
    assert set(run.summary.maps_withheld) == {"edges", "edges.2_draws"}
    assert checked_as("edges.2_draws") == "edges"
    withheld = [heat for exam in run.exam_ids if (heat := run.heat_map(exam, "OD", "edges.2_draws")) is not None]
    assert all(heat.values is None and heat.agreement is None for heat in withheld)
    assert run.mean_maps().empty


def test_a_plan_of_names_alone_keeps_its_hash(small) -> None:
    record = small.config().for_the_record()["explanations"]
    assert record["methods"] == ["integrated_gradients", "grad_cam"]
    assert set(record) == {"methods", "exams", "trust_exams", "influence_exams"}
    maps = next(one for one in measurements_of(small.config()) if one.kind == "maps")
    assert "map" not in maps.for_the_plan()
    drawn = small.config("explanations.methods=[{name: grad_cam}, {name: grad_cam, draws: 4}]")
    assert drawn.for_the_record()["explanations"]["methods"] == [
        "grad_cam",
        {"name": "grad_cam", "target": "referable", "options": {}, "draws": 4},
    ]


def test_a_part_of_an_older_run_reads_as_maps_of_no_draws(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    later = {"draws", "agreeing", "steadiness", "draws_likeness"}
    older = pa.schema([field for field in schemas.MAPS_SCHEMA if field.name not in later])
    pq.write_table(
        pa.Table.from_pylist([{"exam_id": "e", "eye": "OD", "status": "done"}], schema=older), tmp_path / "part"
    )
    table = layout.read_table(tmp_path / "part", schemas.MAPS_SCHEMA)
    assert table[sorted(later)].isna().all(axis=None)
    assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ("[{name: grad_cam, draws: 1}]", "one draw has no spread"),
        ("[{name: smooth_grad, target: mutual_information}]", "is of several draws"),
        ("[grad_cam, {name: grad_cam}]", "grad_cam is listed twice"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_line(small, methods: str, words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        small.config(f"explanations.methods={methods}")


def test_keys_and_words() -> None:
    spec = MapSpec.model_validate({"name": "occlusion", "options": {"window": 24, "stride": 12}, "draws": 2})
    assert spec.key == "occlusion.stride=12.window=24.2_draws"
