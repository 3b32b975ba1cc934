"""What the README says is run."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from workbench.cli.main import app
from workbench.cli.review import OPEN
from workbench.data.synthetic.cohort import write_cohort
from workbench.models.checkpoint import save_model
from workbench.models.paired import PairedEyeNet
from workbench.schema.model_card import Architecture, ModelCard
from workbench.schema.specs import PreprocessSpec

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    demo = tmp_path / "workspace" / "demo"
    write_cohort(demo / "cohort", patients=22, size=64, workers=1)
    architecture = Architecture(trunk="resnet10", width=0.25)
    card = ModelCard(name="untrained", architecture=architecture, preprocess=PreprocessSpec(size=64))
    save_model(PairedEyeNet(architecture), card, demo / "model")
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert "split at head_dropout" in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("workbench ")}))
def test_every_workbench_command_is_known(command):
    words = shlex.split(command)[1:]
    group = typer.main.get_command(app)
    while words and words[0] in getattr(group, "commands", {}):
        group = group.commands[words.pop(0)]
    if words and getattr(group, "commands", {}):
        group = group.commands[OPEN]  # `workbench review RUN`: what is no command is a run to open
    known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word not in known]
    assert not unknown, f"{command}: {unknown}"
    assert CliRunner().invoke(app, [*shlex.split(command)[1:2], "--help"]).exit_code == 0


def test_every_file_that_it_names_is_there():
    named = re.findall(r"\b(?:configs|docs|datasets|tests|apps)/[\w./-]*\w", README)
    assert named
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_make_target_that_it_names_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in (c for c in commands() if c.startswith("make ")):
        assert re.search(rf"^{shlex.split(command)[1]}:", makefile, flags=re.MULTILINE), command
