from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.small_audit import EXAMS, STRESSES, write_cohort, write_model
from workbench.audit.results import open_run
from workbench.cli.main import app
from workbench.schema.config import load_config
from workbench.schema.errors import WorkbenchError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "audit"
EFFORT = "credibility={exams: 2, steps: 2, tries: 5, queries: 12}"
SMALL = ["draws=3", "workers=1", f"stresses={STRESSES}", "explanations.methods=[]", EFFORT]


def test_a_model_and_a_manifest_are_enough(tmp_path: Path) -> None:
    manifest, model = write_cohort(tmp_path / "cohort"), write_model(tmp_path / "model")
    out = tmp_path / "run"
    arguments = ["audit", *SMALL, "--model", str(model), "--data", str(manifest), "--split", "test", "--out", str(out)]
    ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ended.exit_code == 0
    assert len(open_run(out).exam_ids) == EXAMS
    for text in ("silent failures", "fgsm@2", "workbench report"):
        assert text in ended.output


def test_a_config_file_with_an_override(tmp_path: Path) -> None:
    manifest, model = write_cohort(tmp_path / "cohort"), write_model(tmp_path / "model")
    config = tmp_path / "audit.yaml"
    config.write_text(f"model: {model}\ndata: {{manifest: {manifest}}}\nout: {tmp_path / 'run'}\n")
    ended = CliRunner().invoke(app, ["audit", str(config), *SMALL, "data.limit=2"], catch_exceptions=False)
    assert ended.exit_code == 0
    assert len(open_run(tmp_path / "run").exam_ids) == 2


def test_failed_measurements_show_in_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.audit import units

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("invented")

    monkeypatch.setattr(units, "apply_stress", breaks)
    manifest, model = write_cohort(tmp_path / "cohort"), write_model(tmp_path / "model")
    arguments = ["audit", *SMALL, "--model", str(model), "--data", str(manifest), "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 3
    assert open_run(tmp_path / "run").summary.failed > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.yaml"], "no configuration at missing.yaml"),
        (["draws=3"], "neither a config nor --model and --data"),
        (["--model", "none", "--data", "none", "drws=3"], "did you mean 'draws'"),
        (["--model", "none", "--data", "none", "draws=1"], "draws = 1 is not valid"),
        (["--model", "none", "--data", "none"], "no model at none"),
        (["--model", "none", "--data", "none", "stresses=[{name: fgms, strengths: [1]}]"], "did you mean 'fgsm'"),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(arguments: list[str], said: str) -> None:
    ended = CliRunner().invoke(app, ["audit", *arguments])
    assert isinstance(ended.exception, WorkbenchError)
    assert said in str(ended.exception)
    assert "\n" not in str(ended.exception)


def test_help_has_an_example() -> None:
    ended = CliRunner().invoke(app, ["audit", "--help"])
    assert ended.exit_code == 0
    assert "workbench audit configs/audit/synthetic.yaml" in " ".join(ended.output.split())


@pytest.mark.parametrize("name", ["synthetic", "eyepacs256", "odir5k"])
def test_the_configs_are_valid_complete_and_plannable(name: str) -> None:
    import yaml

    from workbench.audit.config import AuditConfig
    from workbench.audit.preparation import measurements_of

    config = load_config(AuditConfig, CONFIGS / f"{name}.yaml")
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert set(written) == set(AuditConfig.model_fields)
    assert set(written["data"]) == set(type(config.data).model_fields)
    assert set(written["policy"]) == set(type(config.policy).model_fields)
    searched, methods = (1, 3) if name == "synthetic" else (0, 2)
    assert len(measurements_of(config)) == 1 + 21 + searched + 1 + 2 * methods + 1 + 1 + 2


def test_a_policy_may_be_a_file(tmp_path: Path) -> None:
    from workbench.audit.config import AuditConfig
    from workbench.schema.specs import PolicySpec

    policy = CONFIGS.parent / "policy" / "default.yaml"
    config = load_config(AuditConfig, CONFIGS / "synthetic.yaml", [f"policy={policy}"])
    assert config.policy == load_config(PolicySpec, policy) == PolicySpec.model_validate({})
    with pytest.raises(WorkbenchError, match="no configuration at"):
        load_config(AuditConfig, CONFIGS / "synthetic.yaml", [f"policy={tmp_path / 'none.yaml'}"])


def test_a_stress_listed_twice_is_refused() -> None:
    from workbench.audit.config import AuditConfig

    twice = "stresses=[{name: jpeg, strengths: [1, 3]}, {name: jpeg, strengths: [3]}]"
    with pytest.raises(WorkbenchError, match="jpeg@3 is listed twice"):
        load_config(AuditConfig, CONFIGS / "synthetic.yaml", [twice])
