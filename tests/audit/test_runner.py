import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import workbench
from tests.audit.conftest import Small
from tests.small_audit import serve_and_die, serve_nothing, small_config, stored_bytes, write_cohort, write_model
from workbench.audit import layout, units, workers
from workbench.audit.lock import LOCK_FILE, run_lock
from workbench.audit.plan import units_of
from workbench.audit.results import open_run
from workbench.audit.runner import run_audit
from workbench.models.checkpoint import load_model
from workbench.schema.errors import WorkbenchError
from workbench.schema.manifest import read_manifest, write_manifest
from workbench.uncertainty.mc_dropout import StochasticPredictor


def test_done_failed_and_skipped_are_the_plan(small: Small) -> None:
    run = open_run(small.run)
    eyes = run.eyes().set_index(["exam_id", "eye"])
    assert eyes.loc[("e1", "OS"), "status"] == "missing"
    assert eyes.loc[("e2", "OD"), "status"] == "ungradable"
    planned = {"clean": 6, "fgsm@2": 4, "noise@3": 6, "maps.integrated_gradients": 2, "maps.grad_cam": 2}
    planned |= {"photographs": 6, "influence": 6}
    for measurement in run.manifest.measurements:
        parts = [run.part(measurement.id, chunk) for chunk in range(-(-planned[measurement.id] // 4))]
        rows = pd.concat(parts)
        assert len(rows) == 2 * planned[measurement.id]
        for row in rows.itertuples():
            status = eyes.loc[(row.exam_id, row.eye), "status"]
            assert row.status == ("done" if status == "ok" else "skipped")
    assert run.summary.failed == 0


def test_photographs_and_maps_are_those_of_the_model(small: Small) -> None:
    run = open_run(small.run)
    data = run.photograph("e0", "OS")
    assert data is not None
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (64, 64, 3)
    maps = [run.heat_map(exam, "OD", "integrated_gradients") for exam in run.exam_ids]
    made = [heat for heat in maps if heat is not None]
    assert made
    for heat in made:
        assert (heat.values is None) == (heat.withheld is not None)


def test_a_stress_keeps_its_budget_and_is_checked(small: Small) -> None:
    checks = open_run(small.run).stress_checks()
    fgsm = checks[checks["measurement"] == "fgsm@2"]
    assert len(fgsm) == 4
    assert fgsm["within_budget"].all()
    assert fgsm[["linf_od", "linf_os"]].max(axis=None) == pytest.approx(2 / 255, abs=1e-6)


def test_no_path_and_no_file_name_stands_in_a_run(small: Small) -> None:
    for name, data in {**stored_bytes(small.run), "run.json": (small.run / "run.json").read_bytes()}.items():
        for canary in (str(small.manifest.parent), "0_OD.jpg"):
            assert canary.encode() not in data, (name, canary)


def test_the_same_run_twice_is_the_same_bytes(small: Small, tmp_path: Path) -> None:
    run_audit(small.config(), tmp_path / "again")
    assert stored_bytes(tmp_path / "again") == stored_bytes(small.run)
    assert open_run(tmp_path / "again").manifest.run_id == open_run(small.run).manifest.run_id


def test_a_second_call_measures_nothing(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored_bytes(small.run)
    monkeypatch.setattr(workers, "make_part", lambda *_: pytest.fail("a part was made again"))
    run_audit(small.config(), small.run)
    assert stored_bytes(small.run) == before


def test_exams_one_by_one_are_given_the_same_seeds_and_masks(small: Small, tmp_path: Path) -> None:
    one = run_audit(small.config("batch_size=1"), tmp_path / "one")
    many = open_run(small.run)
    for measurement in ("clean", "fgsm@2", "noise@3"):
        for exam in one.exam_ids:
            alone, together = one.draws(measurement, exam), many.draws(measurement, exam)
            assert (alone is None) == (together is None)
            if alone is not None and together is not None:
                # Other masks would differ by 1e-2 and more; rounding differs between sizes of a batch.
                np.testing.assert_allclose(alone, together, atol=2e-4)
    seeds = [pd.concat([run.part("clean", c) for c in range(n)])["seed"].to_list() for run, n in ((one, 6), (many, 2))]
    assert seeds[0] == seeds[1]


def test_other_measurements_are_given_other_masks(small: Small, tmp_path: Path) -> None:
    config = small.config("stresses=[{name: noise, strengths: [0]}]", "explanations.methods=[]")
    run = run_audit(config, tmp_path / "run")
    clean, unchanged = run.draws("clean", "e0"), run.draws("noise@0", "e0")
    assert clean is not None
    assert unchanged is not None
    assert not np.allclose(clean, unchanged, atol=1e-4)


def test_a_measurement_that_raises_on_one_exam_fails_there_alone(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = units.apply_stress

    def breaks(model, x, present, y, spec, seeds, **given):  # type: ignore[no-untyped-def]
        if spec.name == "noise" and (~present).any():
            raise RuntimeError("invented\nfault")
        return real(model, x, present, y, spec, seeds, **given)

    monkeypatch.setattr(units, "apply_stress", breaks)
    run = run_audit(small.config(), tmp_path / "run")
    failures = run.failures()
    assert set(failures["exam_id"]) == {"e1", "e2"}
    assert set(failures["measurement"]) == {"noise@3"}
    assert set(failures["reason"]) == {"RuntimeError: invented fault"}
    assert run.summary.failed == 2
    assert run.draws("noise@3", "e0") is not None
    referral = run.decisions().set_index(["measurement", "exam_id"])
    assert referral.loc[("noise@3", "e1"), "referred"]


def test_an_answer_that_is_not_finite_is_a_failure_not_a_number(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StochasticPredictor.draws

    def not_finite(self, x, present, *, draws, seeds):  # type: ignore[no-untyped-def]
        made = real(self, x, present, draws=draws, seeds=seeds)
        made[0, 0] = float("nan")
        return made

    monkeypatch.setattr(StochasticPredictor, "draws", not_finite)
    run = run_audit(small.config("stresses=[]", "explanations.methods=[]"), tmp_path / "run")
    assert set(run.failures()["reason"]) == {"the model's answer is not finite"}
    rows = run.rows()
    assert rows.loc[rows["value"].isna(), "reason"].notna().all()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=1", "config.seed was 0, is 1"),
        ("draws=5", "config.draws was 4, is 5"),
        ("policy.referral_budget=0.5", "config.policy.referral_budget was 0.2, is 0.5"),
        ("batch_size=2", "config.batch_size was 4, is 2"),
        ("data.limit=3", "exam e. O. is gone"),
        ("stresses=[]", "config.stresses was"),
    ],
)
def test_a_changed_config_is_refused_by_name(small: Small, override: str, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        run_audit(small.config(override), small.run)


def test_the_number_of_workers_and_the_paths_are_no_change(small: Small, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(small.model)
    config = small_config(small.manifest, tmp_path / "elsewhere", "workers=3", f"data.cache={tmp_path / 'cache'}")
    run_audit(config, small.run)


def test_a_changed_model_is_refused(small: Small, tmp_path: Path) -> None:
    other = write_model(tmp_path / "model", seed=1)
    with pytest.raises(WorkbenchError, match=r"the model was .* is "):
        run_audit(small_config(small.manifest, other), small.run)


def test_a_changed_package_is_refused(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "__version__", "99.0")
    with pytest.raises(WorkbenchError, match=r"workbench_version was .*, is 99\.0"):
        run_audit(small.config(), small.run)


def test_a_changed_manifest_is_refused_with_the_exam(small: Small) -> None:
    manifest = read_manifest(small.manifest)
    manifest.loc[(manifest["exam_id"] == "e3") & (manifest["eye"] == "OS"), "icdr_grade"] = 0
    changed = small.manifest.with_name("changed.csv")
    write_manifest(manifest, changed)
    with pytest.raises(WorkbenchError, match="exam e3 OS has changed; the manifest was"):
        run_audit(small_config(changed, small.model), small.run)


def test_a_changed_photograph_is_refused_with_the_exam(small: Small, tmp_path: Path) -> None:
    manifest = write_cohort(tmp_path / "cohort")
    config = small_config(manifest, small.model, "stresses=[]", "explanations.methods=[]")
    run_audit(config, tmp_path / "run")
    photograph = manifest.with_name("4_OD.jpg")
    photograph.write_bytes(manifest.with_name("5_OD.jpg").read_bytes())
    with pytest.raises(WorkbenchError, match="photograph OD of exam e4 is not the one of the manifest"):
        run_audit(config, tmp_path / "run")


def test_a_full_disk_is_told_and_the_next_call_goes_on(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def full(_: int) -> None:
        nonlocal written
        written += 1
        if written > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkbenchError, match=r"cannot write .*\.parquet: No space left"):
            run_audit(small.config(), tmp_path / "run")
    with pytest.raises(WorkbenchError, match="not finished"):
        open_run(tmp_path / "run")
    run_audit(small.config(), tmp_path / "run")
    assert stored_bytes(tmp_path / "run") == stored_bytes(small.run)


def test_of_two_runners_one_exits_clearly(small: Small) -> None:
    with run_lock(small.run), pytest.raises(WorkbenchError, match=f"process {os.getpid()} on .* is at work on"):
        run_audit(small.config(), small.run)
    run_audit(small.config(), small.run)


def test_a_stale_lock_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("process 1 on elsewhere, dead since long\n")
    with run_lock(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / LOCK_FILE).read_text()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="cannot write"), run_lock(tmp_path / "file" / "run"):
        pass


def test_a_misspelt_stress_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    config = small_config(tmp_path / "nothing.csv", tmp_path / "nothing", "stresses=[{name: defcus, strengths: [1]}]")
    with pytest.raises(WorkbenchError, match="did you mean 'defocus'"):
        run_audit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stresses=[{name: jpeg, strengths: [9]}]", "severity is 9"),
        ("explanations.methods=[lime]", "unknown explanation 'lime'"),
        ("precision=bf16", "no bf16"),
    ],
)
def test_a_config_that_cannot_run_is_told(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.setattr("workbench.models.precision.has_bf16", lambda _: False)
    with pytest.raises(WorkbenchError, match=said):
        run_audit(small.config(override), tmp_path / "run")


def test_no_model_no_manifest_no_dropout_nan(small: Small, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="no model at"):
        run_audit(small_config(small.manifest, tmp_path / "none"), tmp_path / "run")
    with pytest.raises(WorkbenchError, match="no manifest at"):
        run_audit(small_config(tmp_path / "none.csv", small.model), tmp_path / "run")
    sure = write_model(tmp_path / "sure", head_dropout=0.0)
    with pytest.raises(WorkbenchError, match="no active dropout"):
        run_audit(small_config(small.manifest, sure), tmp_path / "run")
    with pytest.raises(WorkbenchError, match="holds NaN"):
        run_audit(small_config(small.manifest, _with_nan(small.model, tmp_path / "nan")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _with_nan(model: Path, folder: Path) -> Path:
    """Return a copy of the model whose weights hold a NaN and whose card agrees with them."""
    from safetensors.torch import save_file

    from workbench.schema.files import sha256_file, write_json

    net, card = load_model(model)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    state["head.bias"] = state["head.bias"] * float("nan")
    folder.mkdir()
    save_file(state, folder / "weights.safetensors")
    card = card.model_copy(update={"weights_sha256": sha256_file(folder / "weights.safetensors")})
    write_json(folder / "model.json", card.model_dump(mode="json"))
    return folder


def test_a_part_that_was_deleted_is_made_again_alike(small: Small, tmp_path: Path) -> None:
    run_audit(small.config(), tmp_path / "run")
    for measurement in ("clean", "maps.integrated_gradients"):
        layout.part_path(tmp_path / "run", measurement, 0).unlink()
    (tmp_path / "run" / "parts" / "clean" / ".00000.parquet.77.tmp").write_bytes(b"half")
    run_audit(small.config(), tmp_path / "run")
    assert stored_bytes(tmp_path / "run") == stored_bytes(small.run)


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one(small: Small, tmp_path: Path) -> None:
    run_audit(small.config("workers=2"), tmp_path / "run")
    assert stored_bytes(tmp_path / "run") == stored_bytes(small.run)


@pytest.mark.slow
def test_two_workers_share_the_checks_of_one_method(small: Small, tmp_path: Path) -> None:
    checked = ("stresses=[]", "explanations={methods: [grad_cam], exams: 4, trust_exams: 4, influence_exams: 0}")
    one = run_audit(small.config(*checked), tmp_path / "one")
    measurement = one.manifest.measurement("trust.grad_cam")
    assert [len(unit.exam_ids) for unit in units_of(one.manifest, one.exam_ids, measurement)] == [2, 2]
    run_audit(small.config(*checked, "workers=2"), tmp_path / "two")
    assert stored_bytes(tmp_path / "two") == stored_bytes(tmp_path / "one")


@pytest.mark.slow
def test_a_worker_that_is_killed_twice_costs_its_unit_only(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_serve", serve_and_die)
    run = run_audit(small.config("workers=2", "stresses=[]", "explanations.methods=[]"), tmp_path / "run")
    failures = run.failures()
    assert set(failures["exam_id"]) == {"e0", "e1", "e2", "e3"}
    assert failures["reason"].str.contains("the worker ended 2 times on it").all()
    assert run.draws("clean", "e4") is not None
    # Clean: 6 photographed eyes failed with their chunk, 4 done; photographs: 10 done; 2 eyes skipped in each.
    assert (run.summary.done, run.summary.failed, run.summary.skipped) == (14, 6, 4)


@pytest.mark.slow
def test_workers_that_cannot_begin_end_the_run(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_serve", serve_nothing)
    with pytest.raises(WorkbenchError, match=r"a worker ended \(exit code 9\) before it could begin"):
        run_audit(small.config("workers=2"), tmp_path / "run")
