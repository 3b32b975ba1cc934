"""Trainings that are hardened: off is off, the card says what was on, a stopped one ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cli.defence import defence_of
from workbench.models.checkpoint import WEIGHTS
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.training import reporting
from workbench.training.config import TrainConfig
from workbench.training.defence import UNDEFENDED
from workbench.training.loop import train

pytestmark = pytest.mark.usefixtures("no_picture")

CORRUPTED = ("augment.corruptions.names=[noise, defocus]", "train.epochs=1")
DEFENCES = {
    "corruptions": (CORRUPTED, "50 % of the exams corrupted (noise, defocus; up to severity 3)"),
}


class Killed(BaseException):
    """Stands for the end of the process."""


def trained(config: TrainConfig, folder: Path) -> str:
    train(config, folder, defence_of(config))
    return sha256_file(folder / WEIGHTS)


def test_a_share_of_nothing_is_the_ordinary_training_and_a_share_is_another(configure, tmp_path):
    plain = trained(configure("train.epochs=1"), tmp_path / "plain")
    assert trained(configure(*CORRUPTED, "augment.corruptions.share=0"), tmp_path / "none") == plain
    assert trained(configure(*CORRUPTED), tmp_path / "some") != plain


@pytest.mark.parametrize("name", DEFENCES)
def test_stopped_it_ends_with_the_same_bytes_and_its_card_says_what_it_learned_from(
    configure, tmp_path, monkeypatch, name
):
    overrides, words = DEFENCES[name]
    config = configure(*overrides, "train.checkpoint_minutes=0", "model.head_dropout=0.5")
    card = train(config, tmp_path / "whole", defence_of(config))
    assert card.provenance.defence == words

    def stopping(self, done, *rest):
        if done == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(reporting.Reporter, "step", stopping)
        with pytest.raises(Killed):
            trained(config, tmp_path / "stopped")
    assert trained(config, tmp_path / "stopped") == sha256_file(tmp_path / "whole" / WEIGHTS)


@pytest.mark.parametrize("name", DEFENCES)
def test_it_never_goes_on_without_what_was_asked_for(configure, tmp_path, name):
    with pytest.raises(WorkbenchError, match="handed to the training"):
        train(configure(*DEFENCES[name][0]), tmp_path, UNDEFENDED)


def test_a_training_begun_before_there_were_defences_goes_on(configure, tmp_path):
    from workbench.training.loop import _prepare, signature_of

    told = signature_of(_prepare(configure(), tmp_path))
    assert not [name for name in told if "corruptions" in name]
    told = signature_of(_prepare(configure(*CORRUPTED), tmp_path))
    assert told["augment.corruptions.names"] == ["noise", "defocus"]
