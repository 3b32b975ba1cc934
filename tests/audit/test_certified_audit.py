"""Certificates as measurements of a run: the parts, the rows, the seeds, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.audit.conftest import Small
from tests.small_audit import stored_bytes
from workbench.audit.analysis import analyse
from workbench.audit.certified import certified_row, head_margin_rows
from workbench.audit.figures.certified import radii
from workbench.audit.layout import part_path, write_table
from workbench.audit.preparation import CERTIFIED_CHUNK, measurements_of
from workbench.audit.results import Run
from workbench.audit.run_manifest import MeasurementSpec
from workbench.audit.runner import run_audit
from workbench.audit.schemas import CERTIFIED_SCHEMA
from workbench.models.paired import PairedEyeNet
from workbench.report.write import as_html, assemble
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import Architecture
from workbench.schema.specs import PolicySpec, SmoothingSpec
from workbench.stress.certified.linear_head import eye_margins
from workbench.stress.certified.smoothing import AT_ONCE, pictures_at_once

PLAN = "certified={sigmas: [0.1, 0.5], first: 4, samples: 24, exams: 5}"
ALONE = ("stresses=[]", "explanations.methods=[]")


@pytest.fixture(scope="module")
def proved(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(small.config(PLAN, *ALONE), tmp_path_factory.mktemp("certified") / "run")


def rows_of(run: Run, name: str, sigma: float) -> pd.DataFrame:
    return run.rows().query(f"name == '{name}' and measurement == 'certified.{sigma:g}'")


def exams_of(run: Run, sigma: float) -> pd.DataFrame:
    parts = pd.concat([run.part(f"certified.{sigma:g}", chunk) for chunk in range(2)])
    return parts[parts["status"] == "done"].groupby("exam_id").first()


def test_every_planned_row_is_done_failed_or_skipped(proved: Run) -> None:
    kinds = [measurement.kind for measurement in proved.manifest.measurements]
    assert kinds == ["draws", "certified", "certified", "head_margin", "photographs"]
    assert proved.summary.done + proved.summary.failed + proved.summary.skipped == 2 * (6 + 3 * 5 + 6)
    assert proved.summary.failed == 0


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_the_rows_are_the_certificates_of_the_parts(proved: Run, sigma: float) -> None:
    exams = exams_of(proved, sigma)
    decisions = proved.decisions().query("measurement == 'clean'").set_index("exam_id").loc[exams.index]
    right = (exams["called_referable"] == decisions["referable"]).fillna(False)
    curve = rows_of(proved, "certified_accuracy", sigma).set_index("at")["value"]
    assert len(curve) == 13
    for at, value in curve.items():
        assert value == pytest.approx(float((right & (exams["radius"] >= float(str(at)))).mean()))
    assert curve.is_monotonic_decreasing
    sick = decisions["referable"].fillna(False).astype(bool)
    for at, value in rows_of(proved, "certified_sensitivity", sigma).set_index("at")["value"].items():
        assert value == pytest.approx(float((right & (exams["radius"] >= float(str(at))))[sick].mean()))
    assert rows_of(proved, "abstention_rate", sigma)["value"].item() == pytest.approx(exams["abstained"].mean())
    agreed = (exams["called_referable"] == decisions["called_referable"])[~exams["abstained"]]
    assert rows_of(proved, "smoothed_agreement", sigma)["value"].item() == pytest.approx(agreed.mean())


def test_where_all_pictures_agree_the_last_radius_of_the_curve_is_reached(proved: Run) -> None:
    spec = SmoothingSpec(sigma=0.1, samples=24)
    exams = exams_of(proved, 0.1)
    unanimous = exams[exams["counts"] == 24]
    assert len(unanimous)
    assert (unanimous["radius"] >= radii(spec)[-1]).all()
    assert (exams["radius"] <= radii(spec)[-1] * (1 + 2e-6)).all()


def test_both_eyes_hold_the_exams_certificate_and_an_absent_eye_is_skipped(proved: Run) -> None:
    part = pd.concat([proved.part("certified.0.1", chunk) for chunk in range(2)]).set_index(["exam_id", "eye"])
    assert part.loc[("e1", "OS"), "status"] == "skipped"
    assert part.loc[("e1", "OD"), "status"] == "done"
    assert part.loc[("e3", "OD"), "radius"] == part.loc[("e3", "OS"), "radius"]


def test_a_lost_part_is_made_again_alike_and_no_chunk_or_memory_changes_a_certificate(
    proved: Run, small: Small, tmp_path: Path
) -> None:
    before = stored_bytes(proved.folder)
    part_path(proved.folder, "certified.0.5", 1).unlink()
    run_audit(small.config(PLAN, *ALONE), proved.folder)
    assert stored_bytes(proved.folder) == before
    other = run_audit(small.config(PLAN, *ALONE, "batch_size=3", "memory_mib=16"), tmp_path / "run")
    columns = ["counts", "seed"]
    pd.testing.assert_frame_equal(exams_of(proved, 0.1)[columns], exams_of(other, 0.1)[columns])


def test_where_every_exam_abstains_the_rows_say_so(proved: Run, small: Small, tmp_path: Path) -> None:
    run = run_audit(small.config(PLAN, *ALONE), tmp_path / "run")
    for chunk in range(2):
        path = part_path(run.folder, "certified.0.1", chunk)
        part = run.part("certified.0.1", chunk)
        done = part["status"] == "done"
        part.loc[done, "called_referable"] = pd.NA
        part.loc[done, ["abstained", "radius"]] = [True, 0.0]
        write_table(path, part, CERTIFIED_SCHEMA)
    run = analyse(run.folder, resamples=20)
    assert rows_of(run, "abstention_rate", 0.1)["value"].item() == 1
    assert (rows_of(run, "certified_accuracy", 0.1)["value"] == 0).all()
    for name in ("certified_radius_median", "smoothed_agreement", "smoothed_called_share"):
        assert rows_of(run, name, 0.1)["reason"].item() == "every exam abstains"


class Bright:
    """Draws that say 'referable' of a picture whose right eye is bright, whatever the seed."""

    how = "invented"

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.largest = 0

    def logits(self, x: Tensor, present: Tensor) -> Tensor:
        raise NotImplementedError

    def draws(self, x: Tensor, present: Tensor, *, draws: int, seeds: Sequence[int]) -> Tensor:
        self.seeds += seeds
        self.largest = max(self.largest, len(x))
        bright = (x[:, :3].mean(dim=(1, 2, 3)) > 0.5).float()[None, :, None].expand(draws, len(x), 2)
        grades = torch.zeros(*bright.shape, 5)
        grades[..., 0], grades[..., 4] = 1 - bright, bright
        return torch.where(present[None, :, :, None], grades, torch.nan)


def test_a_linear_call_is_never_certified_beyond_its_distance_and_every_picture_has_its_own_masks() -> None:
    side, distance = 32, 0.3
    x = torch.full((1, 6, side, side), 0.5 + distance / np.sqrt(3 * side * side))
    bright, spec = Bright(), SmoothingSpec(sigma=0.25, samples=800)
    row = certified_row(
        bright,
        x,
        torch.tensor([[True, False]]),
        spec,
        PolicySpec.model_validate({}),
        draws=2,
        threshold=0.5,
        seed=3,
        memory_mib=512,
    )
    assert row["called_referable"] is True
    assert 0.7 * distance < row["radius"] <= distance
    assert len(set(bright.seeds)) == len(bright.seeds) == 850
    assert bright.largest == AT_ONCE


def test_the_bound_of_memory_bounds_the_pictures_and_leaves_one() -> None:
    x = torch.zeros(1, 6, 256, 256)
    assert [pictures_at_once(x, mib) for mib in (16, 512, 100_000)] == [1, 8, AT_ONCE]


@pytest.mark.parametrize("fusion", ["early", "late", "single"])
def test_a_heads_margin_is_where_the_grade_changes(fusion: str) -> None:
    torch.manual_seed(0)
    net = PairedEyeNet(Architecture.model_validate({"trunk": "resnet10", "width": 0.0625, "fusion": fusion})).eval()
    x, present = torch.rand(3, 6, 32, 32), torch.ones(3, 2, dtype=torch.bool)
    margins, shares = eye_margins(net, x, present)
    logits = net(x, present)
    top = logits.max(dim=2).values
    runner_up = logits.topk(2, dim=2).values[..., 1]
    rows = net.head.weight.reshape(-1, 5, net.head.in_features)
    widest = max(float((one[a] - one[b]).norm()) for one in rows for a in range(5) for b in range(5))
    assert (margins >= (top - runner_up) / widest - 1e-6).all()
    assert ((shares > 0) & (shares < margins.max() / 1e-6)).all()
    alone = torch.cat([eye_margins(net, x[[one]], present[[one]])[0] for one in range(3)])
    assert torch.allclose(alone, margins, rtol=1e-4)


def test_a_head_that_is_not_known_to_be_linear_is_not_applicable() -> None:
    rows = head_margin_rows(nn.Identity(), torch.zeros(2, 6, 32, 32), torch.ones(2, 2, dtype=torch.bool))
    assert rows[1][0]["reason"] == "not applicable: the head of Identity is not known to be linear"


def test_the_heads_margin_is_a_row(proved: Run) -> None:
    row = proved.rows().query("name == 'head_margin_share'")
    part = pd.concat([proved.part("head_margin", chunk) for chunk in range(2)])
    done = part[part["status"] == "done"]["margin_share"]
    assert row["value"].item() == pytest.approx(float(done.median()))


def test_the_report_says_what_is_proved_and_of_which_system(proved: Run) -> None:
    page = as_html(assemble(proved))
    assert "It certifies this smoothed system, not the deployed one" in page
    assert page.count("the smoothed system answers") == 2
    assert "it bounds changes of <i>features</i>" in page
    assert "<svg" in page.split("<h3>Certified</h3>")[1].split("<h3>")[0]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("{sigmas: [0.1], samples: 9}", "9 samples can prove nothing at alpha 0.001: take 10 or more"),
        ("{sigmas: [0.1, 0.1]}", "a sigma is listed twice"),
        ("{sigmas: [0]}", "greater than 0"),
        ("{sigma: [0.1]}", "sigmas"),
    ],
)
def test_a_mistake_in_the_plan_is_one_line(small: Small, plan: str, says: str) -> None:
    with pytest.raises(WorkbenchError, match=says):
        small.config(f"certified={plan}")


def test_a_plan_without_certificates_keeps_its_hash(small: Small) -> None:
    assert "certified" not in small.config().for_the_record()
    planned = measurements_of(small.config(PLAN, "batch_size=16"))
    assert {one.chunk for one in planned if one.kind == "certified"} == {CERTIFIED_CHUNK}
    assert "smoothing" not in MeasurementSpec(id="clean", kind="draws").for_the_plan()
    assert "smoothing" in MeasurementSpec(id="c", kind="certified", smoothing=SmoothingSpec(sigma=0.1)).for_the_plan()
