"""The last epochs' models, kept for an ensemble of them."""

import pytest
import torch

from workbench.models.checkpoint import WEIGHTS, checkpoint_folders, load_model
from workbench.schema.files import sha256_file
from workbench.training.loop import train

pytestmark = pytest.mark.usefixtures("no_picture")


def test_the_last_epochs_are_kept_and_the_weights_are_none_the_worse(configure, tmp_path):
    train(configure("train.epochs=3"), tmp_path / "without")
    train(configure("train.epochs=3", "train.keep_checkpoints=2"), tmp_path / "with")
    kept = checkpoint_folders(tmp_path / "with")
    assert [folder.name for folder in kept] == ["epoch_0002", "epoch_0003"]
    assert sha256_file(tmp_path / "with" / WEIGHTS) == sha256_file(tmp_path / "without" / WEIGHTS)
    heads = [load_model(folder)[0].head.weight for folder in kept]
    assert not torch.equal(*heads)
