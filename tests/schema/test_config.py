"""Configurations: one file, overrides, and what is told about a mistake."""

from pathlib import Path

import pytest
from pydantic import Field

from workbench.schema.config import Config, load_config
from workbench.schema.errors import WorkbenchError


class Inner(Config):
    epochs: int = Field(10, ge=1)
    rate: float = 0.1


class Job(Config):
    name: str
    train: Inner = Inner()


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_defaults_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ntrain:\n  rate: 0.5\n")
    job = load_config(Job, path, ["train.epochs=3"])
    assert (job.name, job.train.epochs, job.train.rate) == ("a", 3, 0.5)


def test_an_override_makes_its_section() -> None:
    assert load_config(Job, None, ["name=b", "train.rate=1e-3"]).train.rate == 0.001


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(Inner, write(tmp_path, "# nothing\n")) == Inner()


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        (
            "name: a\ntrain: {epoch: 3}\n",
            [],
            r"unknown key 'train.epoch' in .*job.yaml — did you mean 'train.epochs'\?",
        ),
        ("nam: a\n", [], r"unknown key 'nam'|lacks 'name'"),
        ("train: {}\n", [], r"job.yaml lacks 'name'"),
        ("name: a\ntrain: {epochs: many}\n", [], r"train.epochs = 'many' is not valid"),
        ("name: a\ntrain: {epochs: 0}\n", [], r"train.epochs = 0 is not valid"),
        ("name: a\n", ["train.epochs"], r"override 'train.epochs' has no '='"),
        ("name: a\n", ["=3"], r"override '=3' has no '='"),
        ("name: a\n", ["name.x=3"], r"'name' is a value, not a section"),
        ("name: a\n", ["name=[3"], r"unreadable value"),
        ("name: a\n", ["train.speed=3"], r"unknown key 'train.speed'"),
        ("- a\n- b\n", [], r"holds list, not keys and values"),
        ("name: [a\n", [], r"not valid YAML"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, overrides: list[str], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words) as caught:
        load_config(Job, write(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"no configuration at .*none\.yaml"):
        load_config(Job, tmp_path / "none.yaml")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(WorkbenchError, match="not valid YAML"):
        load_config(Job, path)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().epochs = 4  # type: ignore[misc]
