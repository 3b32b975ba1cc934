import json
import math

import pandas as pd
import pytest
import torch

from workbench.models.checkpoint import WEIGHTS, load_model
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.manifest import read_manifest, write_manifest
from workbench.training.loop import learning_rate, train

pytestmark = pytest.mark.usefixtures("no_picture")


def changed(discs, tmp_path, change):
    """Return the path of a copy of the manifest after ``change(table) -> table``."""
    write_manifest(change(read_manifest(discs)), tmp_path / "changed" / "manifest.csv")
    return tmp_path / "changed" / "manifest.csv"


def test_it_learns_and_leaves_a_whole_model(configure, tmp_path):
    card = train(configure("train.epochs=10", "train.learning_rate=0.01", "train.ema_decay=0.5"), tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history["epoch"]) == list(range(1, 11))
    assert history["train_loss"].min() < 0.7 * history["train_loss"].iloc[0]
    assert card.provenance.validation["auc_referable"] > 0.9
    assert card.provenance.train_patients == 12
    assert 0 < card.referable_threshold < 1
    model, loaded = load_model(tmp_path)
    assert loaded == card
    x = torch.rand(1, 6, 64, 64)
    assert model(x, torch.ones(1, 2, dtype=torch.bool)).isfinite().all()
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_kept_weights_are_those_of_the_best_epoch(configure, tmp_path):
    card = train(configure("train.epochs=4"), tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    figures = history[["auc_referable", "qwk"]].mean(axis=1)
    best = history.loc[figures.idxmax()]
    assert card.provenance.validation["auc_referable"] == pytest.approx(best["auc_referable"], rel=1e-5)
    assert card.provenance.validation["qwk"] == pytest.approx(best["qwk"], rel=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(configure, tmp_path):
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(configure(f"train.seed={seed}", "model.head_dropout=0.5"), tmp_path / name)
        digests.append(sha256_file(tmp_path / name / WEIGHTS))
    assert digests[0] == digests[1] != digests[2]


def test_training_leaves_the_callers_random_numbers_and_threads_alone(configure, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train(configure("train.epochs=1"), tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_a_finished_training_is_not_repeated(configure, tmp_path):
    card = train(configure("train.epochs=1"), tmp_path)
    before = sha256_file(tmp_path / WEIGHTS)
    assert train(configure("train.epochs=1"), tmp_path) == card
    assert sha256_file(tmp_path / WEIGHTS) == before


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.learning_rate=0.5", "train.learning_rate = 0.002"),
        ("augment.contrast=0", "augment.contrast"),
        ("model.mirror_os=true", "model.mirror_os"),
        ("train.epochs=9", "train.epochs"),
    ],
)
def test_a_changed_configuration_is_refused_by_name(configure, tmp_path, override, named):
    train(configure("train.epochs=1"), tmp_path)
    with pytest.raises(WorkbenchError, match=named):
        train(configure("train.epochs=1", override), tmp_path)


def test_a_changed_manifest_is_refused(configure, discs, tmp_path):
    train(configure("train.epochs=1"), tmp_path / "model")
    other = changed(discs, tmp_path, lambda table: table.iloc[2:])
    with pytest.raises(WorkbenchError, match="manifest_sha256"):
        train(configure("train.epochs=1", manifest=other), tmp_path / "model")


def test_what_may_change_is_not_refused(configure, tmp_path):
    train(configure("train.epochs=1"), tmp_path)
    train(configure("train.epochs=1", "train.checkpoint_minutes=9", "train.max_minutes=9", "name=other"), tmp_path)


def test_it_stops_early_and_says_why(configure, tmp_path):
    card = train(configure("train.epochs=30", "train.patience=2", "train.learning_rate=1e-9"), tmp_path)
    assert card.provenance.epochs < 30
    assert "no better validation for 2 epochs" in card.provenance.stopped


def test_it_keeps_to_its_minutes(configure, tmp_path):
    card = train(configure("train.epochs=30", "train.max_minutes=1e-6"), tmp_path)
    assert card.provenance.epochs == 1
    assert "exceed" in card.provenance.stopped


def test_a_patient_in_two_splits_stops_it_unless_overridden_on_record(configure, discs, tmp_path):
    def leak(table):
        rows = table["split"] == "validation"
        first = table.loc[rows, "patient_id"].iloc[0]
        table.loc[table.index[table["split"] == "train"][:2], "patient_id"] = first
        return table

    manifest = changed(discs, tmp_path, leak)
    with pytest.raises(WorkbenchError, match=r"in the splits train, validation.*allow_conflicts"):
        train(configure(manifest=manifest), tmp_path / "model")
    overridden = configure("data.allow_conflicts=true", "train.epochs=1", manifest=manifest)
    card = train(overridden, tmp_path / "model")
    assert "in the splits train, validation" in card.provenance.conflicts_allowed[0]


def test_an_image_twice_stops_it(configure, discs, tmp_path):
    def copy(table):
        source = table.index[table["split"] == "train"][0]
        target = table.index[table["split"] == "validation"][0]
        table.loc[target, ["image_path", "sha256"]] = table.loc[source, ["image_path", "sha256"]].to_numpy()
        return table

    with pytest.raises(WorkbenchError, match="the same image"):
        train(configure(manifest=changed(discs, tmp_path, copy)), tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table[table["split"] != "train"], "no photograph in the split 'train'"),
        (lambda table: table[table["split"] != "validation"], "no photograph in the split 'validation'"),
        (lambda table: table.assign(icdr_grade=pd.NA), "has a photograph with a grade"),
    ],
)
def test_nothing_to_learn_from_is_said(configure, discs, tmp_path, change, said):
    with pytest.raises(WorkbenchError, match=said):
        train(configure(manifest=changed(discs, tmp_path, change)), tmp_path / "model")


def test_no_manifest_is_said(configure, tmp_path):
    with pytest.raises(WorkbenchError, match="no manifest at"):
        train(configure(manifest=tmp_path / "absent.csv"), tmp_path / "model")


def test_one_class_in_the_validation_is_not_assessed_and_never_ranks(configure, discs, tmp_path, capsys):
    def healthy(table):
        table.loc[table["split"] == "validation", "icdr_grade"] = 0
        return table

    card = train(configure(manifest=changed(discs, tmp_path, healthy)), tmp_path / "model")
    assert "auc_referable" not in card.provenance.validation
    assert "both classes" in card.provenance.not_assessed["auc_referable"]
    assert card.referable_threshold == 0.5
    assert "auc_referable not assessed" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "model" / "history.csv")["auc_referable"].isna().all()


def test_missing_and_ungraded_eyes_are_no_obstacle(configure, discs, tmp_path):
    def thin(table):
        table.loc[table.index[::5], "icdr_grade"] = pd.NA
        return table.drop(index=table.index[3::7])

    card = train(configure("train.eye_dropout=0.9", manifest=changed(discs, tmp_path, thin)), tmp_path / "model")
    assert math.isfinite(card.provenance.validation["qwk"])


def test_a_loss_that_explodes_is_one_clear_line(configure, tmp_path):
    with pytest.raises(WorkbenchError, match=r"the loss is (nan|inf) at epoch .* lower train.learning_rate"):
        train(configure("train.learning_rate=1e30", "train.optimiser=sgd", "train.gradient_clip=null"), tmp_path)


def test_fine_tuning_takes_a_trunk_for_one_eye_into_one_for_two(configure, tmp_path):
    train(configure("model.fusion=single", "train.epochs=1"), tmp_path / "single")
    start = f"train.init_from={tmp_path / 'single'}"
    card = train(configure(start, "model.fusion=early", "train.epochs=1"), tmp_path / "early")
    assert card.provenance.config["train"]["init_from"] == str(tmp_path / "single")
    with pytest.raises(WorkbenchError, match="does not fit"):
        train(configure(start, "model.width=0.25"), tmp_path / "wide")


def test_the_configuration_is_in_the_card(configure, tmp_path):
    train(configure("train.epochs=1", "loss.ordinal_weight=0.5", "train.class_balance=0.5"), tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["provenance"]["config"]["loss"]["ordinal_weight"] == 0.5
    assert card["provenance"]["manifest_hash"]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [learning_rate(step, 100, 0.2, 1.0) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 20
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[0] < 0.06
    assert rates[-1] < 1e-3
    assert learning_rate(0, 1, 0.0, 1.0) == 1.0
