"""Trainings that are hardened: off is off, the card says what was on, a stopped one ends with the same bytes."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from workbench.cli.defence import defence_of
from workbench.models.checkpoint import WEIGHTS, load_model, read_card
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.stress.auto_attack.inner import ascent
from workbench.training import reporting
from workbench.training.adversarial import Adversary, Task
from workbench.training.cohort import open_cohort
from workbench.training.config import AdversarialSection, TrainConfig
from workbench.training.defence import UNDEFENDED
from workbench.training.loop import _prepare, signature_of, train
from workbench.training.losses import grading_loss

pytestmark = pytest.mark.usefixtures("no_picture")

LARGE = 16.0
"""An epsilon at which the drawn discs, as plain as they are, change their grade."""
CORRUPTED = ("augment.corruptions.names=[noise, defocus]", "train.epochs=1")
PGD = ("train.adversarial.method=pgd", "train.adversarial.steps=1", "train.epochs=1")
TRADES = ("train.adversarial={method: trades, steps: 1, eyes: random_one, warm_up_epochs: 0.5}", "train.epochs=1")
DEFENCES = {
    "corruptions": (CORRUPTED, "50 % of the exams corrupted (noise, defocus; up to severity 3)"),
    "pgd": (PGD, "PGD on both eyes, ε = 1/255, 1 step"),
    "trades": (TRADES, "TRADES on one eye at random, ε = 1/255, 1 step, β = 6"),
    "all": (
        (*CORRUPTED, *PGD),
        "PGD on both eyes, ε = 1/255, 1 step; 50 % of the exams corrupted (noise, defocus; up to severity 3)",
    ),
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


@pytest.mark.parametrize("method", ["pgd", "trades"])
def test_an_attack_of_no_size_is_the_ordinary_training_and_one_of_some_size_is_another(configure, tmp_path, method):
    lively = ("train.epochs=1", "model.head_dropout=0.5", "train.eye_dropout=0.3")
    attacked = (*lively, f"train.adversarial.method={method}", "train.adversarial.steps=1")
    plain = trained(configure(*lively), tmp_path / "plain")
    assert trained(configure(*attacked, "train.adversarial.epsilon=0"), tmp_path / "none") == plain
    assert trained(configure(*attacked), tmp_path / "some") != plain


def test_the_epoch_that_is_kept_is_the_best_under_the_attack(configure, tmp_path):
    config = configure("train.epochs=3", "train.adversarial={method: pgd, steps: 1, epsilon: 4, warm_up_epochs: 2}")
    train(config, tmp_path, defence_of(config))
    history = pd.read_csv(tmp_path / "history.csv")
    score = history[["auc_referable_attacked", "qwk_attacked"]].mean(axis=1)
    best = history.loc[score.idxmax()]
    kept = read_card(tmp_path).provenance.validation
    assert [kept["auc_referable"], kept["qwk"]] == pytest.approx([best["auc_referable"], best["qwk"]], rel=1e-5)
    assert (history["validation_loss_attacked"] > history["validation_loss"]).all()


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
    told = signature_of(_prepare(configure(), tmp_path, UNDEFENDED))
    assert not [name for name in told if "corruptions" in name or "adversarial" in name]
    told = signature_of(_prepare(configure(*CORRUPTED, *PGD), tmp_path, UNDEFENDED))
    assert told["augment.corruptions.names"] == ["noise", "defocus"]
    assert told["train.adversarial.steps"] == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.adversarial.method=pdg", "train.adversarial.method = 'pdg'"),
        ("train.adversarial.epsilon=-1", "train.adversarial.epsilon = -1"),
        ("train.adversarial.steps=0", "train.adversarial.steps = 0"),
        ("train.adversarial.step_share=0", "train.adversarial.step_share = 0"),
        ("train.adversarial.eyes=left", "train.adversarial.eyes = 'left'"),
        ("train.adversarial.epsilons=1", "did you mean 'train.adversarial.epsilon'"),
    ],
)
def test_a_mistake_is_one_line(configure, override, said):
    with pytest.raises(WorkbenchError, match=re.escape(said)) as caught:
        configure(override)
    assert "\n" not in str(caught.value)


def test_a_stronger_attack_moves_a_model_less_that_was_trained_under_attack(configure, tmp_path):
    """The attack that judges has more steps than the one that was learned from, and other random numbers."""
    lively = ("train.epochs=10", "train.learning_rate=0.01", "train.ema_decay=0.5")
    attacked = f"epsilon: {LARGE}, steps: 2, step_share: 0.75, beta: 20"
    rises = {}
    for method in ("none", "pgd", "trades"):
        config = configure(*lively, f"train.adversarial={{method: {method}, {attacked}}}")
        trained(config, tmp_path / method)
        rises[method] = rise_of_loss(tmp_path / method, config)
    assert max(rises["pgd"], rises["trades"]) < 0.8 * rises["none"]


def rise_of_loss(folder: Path, config: TrainConfig) -> float:
    model = load_model(folder)[0].eval()
    exams = open_cohort(config).validation
    batch = exams.batch(range(len(exams)))
    task = Task(
        batch.x,
        batch.present,
        batch.grade >= 0,
        lambda x: model(x, batch.present),
        lambda logits: grading_loss(logits, batch.grade, torch.ones(5), config.loss),
    )
    judge = Adversary(AdversarialSection(method="pgd"), partial(ascent, steps=10, step_share=0.25))
    attacked = judge.attack(model, task, 99, LARGE)
    return (task.loss(task.answer(attacked)) - task.loss(task.answer(task.x))).item()
