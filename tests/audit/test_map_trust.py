"""Influences, checks and the gate of a real run: what must be zero is, and each check is failed and passed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.small_audit import small_config, write_cohort, write_model
from workbench.audit.map_gate import methods_withheld, reason_kind
from workbench.audit.map_maker import options_in
from workbench.audit.map_trust import MapExaminer
from workbench.audit.results import Run, open_run, trust_id
from workbench.audit.runner import run_audit
from workbench.audit.schemas import INFLUENCES, TRUST_CHECKS
from workbench.explanation.registry import EXPLANATIONS
from workbench.schema.config import load_config
from workbench.schema.errors import WorkbenchError
from workbench.schema.maps import MapSpec
from workbench.schema.specs import MapPolicySpec, PolicySpec

METHODS = ("grad_cam", "random", "edges")
QUICK = ("stresses=[]", "explanations.exams=4", "explanations.trust_exams=2")
ALL = f"explanations.methods=[{','.join(METHODS)}]"
LENIENT = "policy.maps={max_completeness_gap: null, max_randomised_likeness: null, min_deletion_gain: null}"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("trust") / "cohort", exams=8)


@pytest.fixture(scope="module")
def runs(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return a run per fusion; only the early one has maps and their checks."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for fusion in ("single", "late", "early"):
        model = write_model(folder / f"{fusion}_model", fusion=fusion)
        few = (ALL,) if fusion == "early" else ("explanations.methods=[edges]", "explanations.trust_exams=0")
        found[fusion] = run_audit(small_config(manifest, model, *QUICK, *few, LENIENT), folder / fusion)
    return found


def influence(run: Run) -> pd.DataFrame:
    table = pd.concat([run.part("influence", chunk) for chunk in range(2)], ignore_index=True)
    return table[table["status"] == "done"]


def test_a_model_of_one_eye_shows_no_influence_and_one_of_both_does(runs: dict[str, Run]) -> None:
    for fusion, run in runs.items():
        table = influence(run)
        for name in ("blank", "healthy", "mean", "exchanged"):
            change = (table["p"] - table[f"p_{name}"]).abs().max()
            none = fusion == "single" or (fusion == "late" and name == "exchanged")  # late fusion knows no slots
            assert (change == 0) if none else (change > 1e-6), (fusion, name, change)


def test_what_cannot_be_had_is_null_and_an_interval_holds_its_value(runs: dict[str, Run]) -> None:
    table = influence(runs["early"])
    alone = table[table["exam_id"].isin(["e1", "e2"])]
    assert len(alone) == 2
    assert alone[["p_blank", "p_healthy", "p_mean"]].isna().all(axis=None)
    assert alone[["p_exchanged", "p_outside"]].notna().all(axis=None)
    rest = table[table["p_healthy"].notna()]
    assert (rest["donors"] >= 1).all()
    rise = rest["p"] - rest["p_healthy"]
    assert (rest["rise_low"] <= rise).all()
    assert (rise <= rest["rise_high"]).all()


def test_the_rows_are_the_mean_over_eyes(runs: dict[str, Run]) -> None:
    run = runs["early"]
    rows, table = run.rows(), influence(run)
    for name in INFLUENCES:
        own = rows[(rows["measurement"] == "influence") & (rows["of"] == name)].set_index("name")
        known = table[table[f"p_{name}"].notna()]
        rise = known["p"] - known[f"p_{name}"]
        assert own.loc["influence_rise", "value"] == pytest.approx(rise.mean())
        assert own.loc["influence_change", "value"] == pytest.approx(rise.abs().mean())
        assert own.loc["influence_change", "n"] == len(known)
    assert {"influence_flipped_share", "influence_called_by"} <= set(rows["name"])


def test_every_check_of_every_method_has_a_row(runs: dict[str, Run]) -> None:
    rows = runs["early"].rows()
    for method in METHODS:
        own = rows[rows["measurement"] == trust_id(method)].set_index("name")
        assert set(own.index) == {f"map_{name}" for name in TRUST_CHECKS}
        assert (own["of"] == method).all()
        without = own.loc[own["value"].isna(), "reason"]
        assert without.notna().all(), "what is not there says why"
    edges = rows[rows["of"] == "edges"].set_index("name")
    assert edges.loc["map_randomised_likeness", "value"] == pytest.approx(1)
    assert edges.loc["map_randomised_structure", "value"] == pytest.approx(1)
    assert edges.loc["map_repeatability", "value"] > 0.8
    noise = rows[rows["of"] == "random"].set_index("name")
    assert abs(noise.loc["map_repeatability", "value"]) < 0.4


def test_the_checks_of_an_exam_are_the_same_alone() -> None:
    from workbench.models.paired import PairedEyeNet
    from workbench.schema.model_card import Architecture

    torch.manual_seed(0)
    model = PairedEyeNet(Architecture(trunk="resnet10", width=0.0625))
    x, present = torch.rand(2, 6, 32, 32), torch.tensor([[True, True], [True, False]])
    examiner = MapExaminer(model, MapSpec(name="grad_cam"), 0.5, 3)
    together = examiner.rows(x, present, 0, [7, 8])
    alone = [examiner.rows(x[k : k + 1], present[k : k + 1], 0, [7 + k])[0] for k in range(2)]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert (value is None) == (other[name] is None), name
            assert value is None or value == pytest.approx(other[name], abs=2e-3), name


def table_of(name: str, value: float, low: float, high: float) -> pd.DataFrame:
    return pd.DataFrame([{"name": name, "value": value, "low": low, "high": high, "of": "some_method"}])


@pytest.mark.parametrize(
    ("name", "passes", "fails", "why"),
    [
        (
            "map_randomised_likeness",
            (0.3, 0.2, 0.4),
            (0.9, 0.8, 1.0),
            "0.90 with those of a network",
        ),
        ("map_deletion_gain", (0.3, 0.1, 0.5), (0.3, -0.1, 0.7), "its interval from -0.10"),
        ("map_repeatability", (0.9, 0.8, 1.0), (0.2, 0.1, 0.3), "0.20 under a camera's noise"),
    ],
)
def test_each_check_of_a_method_passes_and_fails(
    name: str, passes: tuple[float, ...], fails: tuple[float, ...], why: str
) -> None:
    policy = MapPolicySpec.model_validate({})
    nothing = dict.fromkeys(MapPolicySpec.model_fields)
    assert methods_withheld(table_of(name, *passes), policy) == {}
    assert why in methods_withheld(table_of(name, *fails), policy)["some_method"]
    assert methods_withheld(table_of(name, *fails), MapPolicySpec.model_validate(nothing)) == {}
    unknown = table_of(name, np.nan, np.nan, np.nan)
    assert methods_withheld(unknown, policy) == {}, "not assessed is not failed"


def test_a_method_that_fails_shows_no_map_anywhere(manifest: Path, runs: dict[str, Run], tmp_path: Path) -> None:
    """The same model with the gate as it stands: edges depend on no weight, so no map of theirs is shown."""
    from workbench.report.explained import map_summaries
    from workbench.report.figures import Figures
    from workbench.report.map_checks import map_checks

    model = runs["early"].folder.parent / "early_model"
    strict = run_audit(small_config(manifest, model, *QUICK, "explanations.methods=[edges]"), tmp_path / "strict")
    assert "random weights" in strict.summary.maps_withheld["edges"]
    assert "edges" not in runs["early"].summary.maps_withheld, "the lenient policy does not ask"
    shown = [[run.heat_map(exam, "OD", "edges") for exam in run.exam_ids] for run in (strict, runs["early"])]
    made = [heat for heat in shown[0] if heat is not None]
    assert made
    assert all(heat.values is None and heat.withheld is not None for heat in made)
    assert any(heat is not None and heat.values is not None for heat in shown[1])
    rows = strict.rows()
    rate = rows[(rows["name"] == "map_withheld_rate") & (rows["of"] == "edges")].set_index("subgroup")
    assert rate.loc["all", "value"] == 1
    assert any("random weights" in subgroup for subgroup in rate.index)
    told = next(summary for summary in map_summaries(strict) if summary.withheld == summary.eyes)
    assert any("random weights" in reason for reason, _ in told.reasons)
    assert open_run(strict.folder).summary == strict.summary
    table = map_checks(strict, Figures(strict))
    assert table is not None
    assert "random weights" in dict(table.refused)["Edges"]
    assert len(table.rows) > 8


def test_a_model_that_learned_nothing_is_compared(manifest: Path, tmp_path: Path) -> None:
    model, other = write_model(tmp_path / "model"), write_model(tmp_path / "other", seed=5)
    config = small_config(
        manifest, model, "stresses=[]", "explanations={methods: [edges], trust_exams: 2, exams: 2, influence_exams: 0}",
        f"explanations.unlearned={other}",
    )  # fmt: skip
    run = run_audit(config, tmp_path / "run")
    rows = run.rows().set_index("name")
    assert rows.loc["map_unlearned_likeness", "value"] == pytest.approx(1), "edges are edges, whoever looks"
    assert run.manifest.unlearned_sha256
    assert str(tmp_path) not in (run.folder / "run.json").read_text()
    assert "influence" not in {measurement.id for measurement in run.manifest.measurements}


def test_the_gate_is_stated_in_a_file(tmp_path: Path) -> None:
    named = load_config(PolicySpec, Path("configs/policy/default.yaml"))
    assert named.maps == MapPolicySpec.model_validate({}), "the file states the defaults"
    stated = Path("configs/policy/maps.yaml").read_text()
    assert all(f"\n{name}: " in stated for name in MapPolicySpec.model_fields)
    (tmp_path / "maps.yaml").write_text("max_gap: 3\n")
    with pytest.raises(WorkbenchError, match="max_gap"):
        load_config(PolicySpec, None, [f"maps={tmp_path / 'maps.yaml'}"])
    assert "maps" not in PolicySpec.model_validate({}).model_dump(mode="json"), "a plan made before keeps its hash"


def test_a_reason_is_one_kind_whatever_its_numbers() -> None:
    assert reason_kind("completeness gap 0.31 above 0.1") == reason_kind("completeness gap 12.00 above 0.1")


def test_maps_are_made_in_the_precision_of_the_run_where_the_method_has_one() -> None:
    assert options_in(MapSpec(name="grad_cam"), "bf16") == {"precision": "bf16"}
    assert options_in(MapSpec(name="edges"), "bf16") == {}
    assert options_in(MapSpec(name="rise", options={"precision": "fp32"}), "auto") == {"precision": "fp32"}


def test_the_checks_are_of_the_maps_that_are_shown(runs: dict[str, Run]) -> None:
    """What is judged has the options of what is stored; a network with random weights is asked in fp32."""
    from workbench.models.checkpoint import load_model

    model, _ = load_model(runs["early"].folder.parent / "early_model")
    asked: list[tuple[bool, str]] = []

    def method(net: torch.nn.Module, x: Tensor, present: Tensor, target: object, *, precision: str) -> Tensor:
        asked.append((net is model, precision))
        return x

    x, present = torch.rand(1, 6, 32, 32), torch.ones(1, 2, dtype=torch.bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXPLANATIONS, "grad_cam", method)
        MapExaminer(model, MapSpec(name="grad_cam"), 0.5, 3, precision="bf16").rows(x, present, 0, [7])
    assert {precision for own, precision in asked if own} == {"bf16"}
    assert {precision for own, precision in asked if not own} == {"fp32"}
