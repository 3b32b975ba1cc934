"""`workbench model reference` and `workbench data check`: from a manifest to flags."""

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.small_audit import write_cohort, write_model, write_photograph
from workbench.cli.main import app
from workbench.cli.model import add_reference
from workbench.models.checkpoint import read_card
from workbench.schema.errors import WorkbenchError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with its reference, made by the command; without a validation split there is no check of sides."""
    root = tmp_path_factory.mktemp("referred")
    manifest, folder = write_cohort(root / "cohort"), write_model(root / "model", fusion="single")
    result = run("model", "reference", folder, "--data", manifest, "--split", "test", "--eyes", "8")
    assert result.exit_code == 0, result.output
    return folder


def test_it_writes_beside_the_weights_and_names_the_file_in_the_card(model):
    assert (model / "reference.safetensors").is_file()
    assert not (model / "intake.safetensors").exists()
    assert read_card(model).provenance.reference_sha256


def test_a_folder_becomes_a_table_and_a_flag_an_exit_code(model, tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    write_photograph(folder / "1_left.jpg", seed=3)
    result = run("data", "check", folder, "--model", model, "--out", tmp_path / "found.csv")
    assert result.exit_code == 0, result.output
    assert "0 of 1 photographs are flagged" in result.output
    cv2.imwrite(str(folder / "cat.png"), np.full((60, 60, 3), 90, np.uint8))
    result = run("data", "check", folder, "--model", model, "--out", tmp_path / "found.csv")
    assert result.exit_code == 1
    assert "1 of 2 photographs are flagged" in result.output
    found = pd.read_csv(tmp_path / "found.csv").set_index("photograph")
    assert found["flag"].notna().to_dict() == {"1_left.jpg": False, "cat.png": True}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("model", "reference", "nowhere", "--data", "nowhere"), "no model at nowhere"),
        (("data", "check", "nowhere", "--model", "nowhere"), "no model at nowhere"),
    ],
)
def test_mistakes_are_one_line(arguments, said):
    result = run(*arguments)
    assert isinstance(result.exception, WorkbenchError)
    assert said in str(result.exception)


def test_after_a_training_too_small_it_is_told_and_no_failure(tmp_path, capsys):
    manifest, folder = write_cohort(tmp_path / "cohort"), write_model(tmp_path / "model")
    add_reference(folder, manifest, None)  # every photograph of this cohort is in the split 'test'
    assert "no checks before grading" in capsys.readouterr().err
    assert not read_card(folder).provenance.reference_sha256


def test_what_is_there_is_not_made_again(model, tmp_path):
    add_reference(model, tmp_path / "nowhere", None)
