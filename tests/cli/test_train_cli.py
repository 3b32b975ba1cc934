import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from workbench.cli import train as cli
from workbench.cli.main import app
from workbench.schema.bundled import bundled
from workbench.schema.config import load_config
from workbench.schema.errors import WorkbenchError
from workbench.training.config import TrainConfig

CONFIGS = sorted((bundled("configs") / "train").glob("*.yaml"))


def run(*arguments: str):
    return CliRunner().invoke(app, ["train", *arguments])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_complete(path):
    told = load_config(TrainConfig, path).model_dump(mode="json")
    written = yaml.safe_load(path.read_text())
    assert set(written) == set(told)
    for section, fields in told.items():
        if isinstance(fields, dict):
            assert set(written[section]) == set(fields), section


def test_the_rivals_differ_in_their_fusion_and_in_where_they_start():
    def told(name: str) -> dict:
        values = load_config(TrainConfig, bundled("configs") / "train" / f"{name}.yaml").model_dump(mode="json")
        assert values["model"].pop("fusion") == {"eyepacs256": "early"}.get(name, name.removeprefix("eyepacs256_"))
        return {key: value for key, value in values.items() if key not in ("name", "out")}

    early, late, single = (told(name) for name in ("eyepacs256", "eyepacs256_late", "eyepacs256_single"))
    assert early == late
    # The early and the late model go on from the single one's trunk: gently, and for fewer epochs.
    schedule = ("epochs", "learning_rate", "warmup", "init_from")
    assert single["train"]["init_from"] is None
    for name in schedule:
        del early["train"][name], single["train"][name]
    assert early == single


def test_help_shows_an_example_without_loading_torch():
    result = run("--help")
    assert result.exit_code == 0
    assert "workbench train configs/train/eyepacs256.yaml" in result.output


def test_overrides_and_out_reach_the_training(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("workbench.training.loop.train", lambda config, out, _: seen.append((config, out)))
    result = run("synthetic", "train.epochs=3", "model.width=0.25", "--out", str(tmp_path), "--no-intake")
    assert result.exit_code == 0, result.output
    config, out = seen[0]
    assert (config.train.epochs, config.model.width, out) == (3, 0.25, tmp_path)


@pytest.mark.parametrize("name", ["synthetic", "synthetic.yaml", "configs/train/synthetic.yaml"])
def test_a_shipped_config_is_found_by_its_name_from_anywhere(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    assert cli._find(Path(name)) == bundled("configs") / "train" / "synthetic.yaml"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.yaml",), "no configuration at nowhere.yaml"),
        (("synthetic", "train.epoch=3"), "did you mean 'train.epochs'"),
        (("synthetic", "train.epochs=none"), "train.epochs"),
        (("synthetic", "train.epochs"), "has no '='"),
        (("synthetic", "augment.corruptions.names=[fog]"), "corruption for the training: 'fog'"),
        (("synthetic", "augment.corruptions.shares=1"), "did you mean 'augment.corruptions.share'"),
        (("synthetic", "augment.rotation_degrees=180"), "augment.rotation_degrees"),
        (("synthetic", "data.manifest=/nowhere/manifest.csv"), "no manifest at /nowhere/manifest.csv"),
    ],
)
def test_mistakes_are_one_line(arguments, said, tmp_path):
    result = run(*arguments, "--out", str(tmp_path))
    assert result.exit_code != 0
    assert isinstance(result.exception, WorkbenchError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


def test_this_module_needs_no_torch_to_be_imported():
    source = Path(sys.modules["workbench.cli.train"].__file__).read_text()
    top = source.split("def train_command")[0]
    assert "torch" not in top
    assert "workbench." not in top
