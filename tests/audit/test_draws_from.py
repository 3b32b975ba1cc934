"""An audit's draws come from whom its configuration says, and a changed member is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.audit.conftest import Small
from tests.small_audit import write_model
from workbench.audit.config import AuditConfig
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.models.checkpoint import load_model, model_hash
from workbench.schema.errors import WorkbenchError
from workbench.uncertainty.mc_dropout import StochasticPredictor

QUICK = ("stresses=[]", "explanations={methods: []}")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("others")
    return [write_model(root / name, seed) for name, seed in (("one", 1), ("two", 2))]


def config(small: Small, draws_from: str, members: list[Path] | None = None, *more: str) -> AuditConfig:
    named = [f"members={json.dumps([str(member) for member in members])}"] if members else []
    return small.config(*QUICK, f"draws_from={draws_from}", *named, *more)


def draws_of(run: Run, exam: str = "e0") -> np.ndarray:
    draws = run.draws("clean", exam)
    assert draws is not None
    return draws


def test_an_ensemble_has_one_draw_per_member_and_records_them(small: Small, others: list[Path], tmp_path: Path) -> None:
    run = run_audit(config(small, "ensemble", others), tmp_path / "run")
    assert run.manifest.draws == 3
    assert [member.name for member in run.manifest.members] == ["one", "two"]
    assert [member.model_hash for member in run.manifest.members] == [model_hash(folder) for folder in others]
    assert run.manifest.environment.draws_how == "ensemble of 3 (one answer)"
    assert str(others[0]) not in (tmp_path / "run" / "run.json").read_text()
    first = draws_of(run_audit(config(small, "ensemble", others[:1]), tmp_path / "pair"))[0]
    np.testing.assert_allclose(draws_of(run)[0], first, atol=1e-6)  # the model itself comes first


def test_mc_dropout_of_an_ensemble_takes_turns(small: Small, others: list[Path], tmp_path: Path) -> None:
    run = run_audit(config(small, "ensemble_mc_dropout", others, "draws=6"), tmp_path / "run")
    assert run.manifest.draws == 6
    assert len(np.unique(draws_of(run).round(6), axis=0)) == 6
    with pytest.raises(WorkbenchError, match="2 draws of 3 members"):
        run_audit(config(small, "ensemble_mc_dropout", others, "draws=2"), tmp_path / "few")


def test_a_stress_is_aimed_at_all_members_together(small: Small, others: list[Path], tmp_path: Path) -> None:
    aimed = small.config(
        "explanations={methods: []}", "stresses=[{name: fgsm, strengths: [2]}]", "draws_from=ensemble",
        f"members={json.dumps([str(others[0])])}",
    )  # fmt: skip
    run = run_audit(aimed, tmp_path / "run")
    assert run.stress_checks()["within_budget"].all()
    assert run.summary.failed == 0


def test_a_model_without_dropout_is_audited_through_views(small: Small, tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare", head_dropout=0.0)
    with pytest.raises(WorkbenchError, match=r"no active dropout.*views, an ensemble or checkpoints"):
        run_audit(small.config(*QUICK, f"model={bare}"), tmp_path / "none")
    run = run_audit(config(small, "views", None, f"model={bare}", "draws=3"), tmp_path / "run")
    assert run.manifest.environment.draws_how.startswith("views: up to 10°")
    assert draws_of(run).std(axis=0).max() > 0


def test_checkpoints_are_those_that_the_training_kept(small: Small, tmp_path: Path) -> None:
    model = Path(shutil.copytree(small.model, tmp_path / "model"))
    with pytest.raises(WorkbenchError, match=r"holds no checkpoints.*keep_checkpoints"):
        run_audit(config(small, "checkpoints", None, f"model={model}"), tmp_path / "none")
    for number in (1, 2):
        write_model(model / "checkpoints" / f"epoch_000{number}", seed=number)
    run = run_audit(config(small, "checkpoints", None, f"model={model}"), tmp_path / "run")
    assert [member.name for member in run.manifest.members] == ["epoch_0001", "epoch_0002"]
    assert run.manifest.draws == 2


def test_a_changed_member_is_refused_and_an_unchanged_one_continues(
    small: Small, others: list[Path], tmp_path: Path
) -> None:
    member = Path(shutil.copytree(others[0], tmp_path / "member"))
    first = run_audit(config(small, "ensemble", [member]), tmp_path / "run")
    (tmp_path / "run" / "parts" / "clean" / "00000.parquet").unlink()
    assert run_audit(config(small, "ensemble", [member]), tmp_path / "run").manifest.run_id == first.manifest.run_id
    write_model(member, seed=9)
    with pytest.raises(WorkbenchError, match=r"holds another audit: members was .*, is "):
        run_audit(config(small, "ensemble", [member]), tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("draws_from=ensemble",), "no members are named"),
        (("members=[somewhere]",), "draws_from is mc_dropout"),
        (("draws_from=view",), "draws_from"),
    ],
)
def test_what_contradicts_itself_is_refused(small: Small, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        small.config(*overrides)


def test_a_member_that_is_fed_otherwise_is_refused(small: Small, others: list[Path], tmp_path: Path) -> None:
    member = Path(shutil.copytree(others[0], tmp_path / "member"))
    card = json.loads((member / "model.json").read_text())
    card["preprocess"]["clahe"] = True
    (member / "model.json").write_text(json.dumps(card))
    with pytest.raises(WorkbenchError, match="another preprocessing"):
        run_audit(config(small, "ensemble", [member]), tmp_path / "run")


def test_a_plan_of_the_first_kind_keeps_its_record(small: Small) -> None:
    record = small.config().for_the_record()
    assert record.keys().isdisjoint({"draws_from", "members", "views", "stochastic_depth", "engine"})
    assert small.config("draws_from=views").for_the_record()["draws_from"] == "views"


def test_an_asked_engine_is_recorded_and_kept(small: Small, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    run = run_audit(small.config(*QUICK, "engine=openvino"), tmp_path / "run")
    assert run.manifest.environment.engine == "openvino"
    assert "trunk by OpenVINO" in run.manifest.environment.draws_how
    (tmp_path / "run" / "parts" / "clean" / "00000.parquet").unlink()
    again = run_audit(small.config(*QUICK), tmp_path / "run")  # auto: goes on with what the run was begun with
    assert again.manifest.environment.engine == "openvino"
    net, _ = load_model(small.model)
    x, both = torch.rand(2, 6, 64, 64), torch.ones(2, 2, dtype=torch.bool)
    eager, fast = (StochasticPredictor(net, engine=engine) for engine in ("eager", "openvino"))
    torch.testing.assert_close(
        fast.draws(x, both, draws=3, seeds=[1, 2]), eager.draws(x, both, draws=3, seeds=[1, 2]), rtol=1e-4, atol=1e-5
    )
