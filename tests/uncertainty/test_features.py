"""Features: found in our models and in others', per eye, and the reference that is kept of them."""

import dataclasses
import json
import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from tests.small_audit import write_cohort, write_model
from workbench.data.exams import open_exams
from workbench.models.checkpoint import load_model, model_hash, read_card
from workbench.models.modes import evaluation
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.manifest import read_manifest
from workbench.schema.model_card import Architecture
from workbench.schema.specs import UNLIKE_SCORES
from workbench.uncertainty.features import FeatureReader, KeptPass
from workbench.uncertainty.out_of_distribution import energy_of
from workbench.uncertainty.reference import (
    REFERENCE,
    UnlikenessMeter,
    collect_reference,
    read_reference,
    record_in_card,
    write_reference,
)

X = torch.rand((3, 6, 64, 64), generator=torch.Generator().manual_seed(1))
PRESENT = torch.tensor([[True, True], [True, False], [False, True]])


def ours(fusion):
    torch.manual_seed(0)
    return PairedEyeNet(Architecture(trunk="resnet10", width=0.0625, fusion=fusion)).train()


@pytest.mark.parametrize("fusion", ["early", "late", "single"])
def test_the_features_are_those_before_the_head_written_slowly(fusion):
    model = ours(fusion)
    reader = FeatureReader(model, 64)
    assert (reader.layer, reader.shared) == ("head", fusion == "early")
    seen = reader(X, PRESENT)
    assert model.training  # the mode is as it was
    model.eval()
    with torch.inference_mode():
        pooled = model.pool(model.trunk(model.prepare(X, PRESENT)))
        logits = model(X, PRESENT)
    pooled = pooled[:, None].expand(-1, 2, -1) if fusion == "early" else pooled.unflatten(0, (3, 2))
    torch.testing.assert_close(seen.features[PRESENT], pooled[PRESENT])
    torch.testing.assert_close(seen.logits[PRESENT], logits[PRESENT])
    assert seen.features[~PRESENT].isnan().all()
    assert seen.logits[~PRESENT].isnan().all()


@pytest.mark.parametrize("fusion", ["late", "single"])
def test_an_eye_s_features_are_its_own(fusion):
    reader = FeatureReader(ours(fusion), 64)
    other = X.clone()
    other[:, 3:] = 1 - other[:, 3:]
    both = torch.ones(3, 2, dtype=torch.bool)
    before, after = reader(X, both).features, reader(other, both).features
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert (before[:, 1] != after[:, 1]).any()


class Theirs(nn.Module):
    """A net of somebody else's: eyes one after the other, or all right eyes first."""

    def __init__(self, right_first, head=nn.Linear):
        super().__init__()
        self.right_first = right_first
        self.body = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(256, 7), nn.Tanh())
        self.classifier = head(7, 5)

    def forward(self, x, present):
        eyes = x.unflatten(1, (2, 3))
        if self.right_first:
            out = self.classifier(self.body(eyes.transpose(0, 1).flatten(0, 1)))
            return out.unflatten(0, (2, -1)).transpose(0, 1)
        return self.classifier(self.body(eyes.flatten(0, 1))).unflatten(0, (-1, 2))


@pytest.mark.parametrize("right_first", [False, True])
def test_in_a_model_of_others_the_order_of_eyes_is_found(right_first):
    torch.manual_seed(0)
    model = Theirs(right_first)
    reader = FeatureReader(model, 64)
    assert reader.layer == "classifier"
    features = reader(X, torch.ones(3, 2, dtype=torch.bool)).features
    for exam in range(3):
        for eye in range(2):
            own = model.body(X[exam, 3 * eye : 3 * eye + 3][None])[0]
            torch.testing.assert_close(features[exam, eye], own.detach())


def test_a_model_without_a_linear_layer_is_refused_by_name():
    class Bare(nn.Module):
        def forward(self, x, present):
            return x.mean((2, 3)).unflatten(1, (2, 3))

    with pytest.raises(WorkbenchError, match=r"Bare calls no nn\.Linear"):
        FeatureReader(Bare(), 64)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("reference") / "cohort", exams=12)


@pytest.fixture(scope="module", params=["single", "early"])
def kept(request, cohort, tmp_path_factory):
    """A model's folder with its reference, the exams, and the reference as it was made."""
    folder = write_model(tmp_path_factory.mktemp("kept") / "model", fusion=request.param)
    model, card = load_model(folder)
    exams = open_exams(read_manifest(cohort), card.preprocess, cache=cohort.parent / "cache")
    reference = collect_reference(model, exams, model_hash=model_hash(folder), manifest_hash="d")
    write_reference(reference, folder)
    return folder, exams, reference


def test_a_reference_is_read_back_as_it_was_made(kept):
    folder, _, reference = kept
    read = read_reference(folder)
    assert read is not None
    np.testing.assert_array_equal(read.seen.features, reference.seen.features)
    np.testing.assert_array_equal(read.held_out, reference.held_out)
    assert len(read.grade) == len(read.seen.energy) == 22  # exam 1 has one eye, one of exam 2's cannot be read
    assert read_card(folder).provenance.reference_sha256
    assert load_model(folder)[1].weights_sha256  # the model is what it was


def test_at_most_so_many_eyes_and_always_the_same(kept):
    folder, exams, _ = kept
    model, _ = load_model(folder)
    some = [collect_reference(model, exams, model_hash="m", manifest_hash="d", eyes=8).seen.features for _ in range(2)]
    assert 6 <= len(np.unique(some[0], axis=0)) <= 8
    np.testing.assert_array_equal(*some)


def test_the_meter_measures_as_the_detector_does_alone_or_in_a_batch(kept):
    folder, exams, reference = kept
    meter = UnlikenessMeter(load_model(folder)[0], reference, 64)
    batch = exams.batch(range(4))
    together = meter(batch.x, batch.present)
    alone = [meter(batch.x[i : i + 1], batch.present[i : i + 1]) for i in range(4)]
    absent = ~batch.present.numpy()
    for name in UNLIKE_SCORES:
        np.testing.assert_allclose(together[name], np.concatenate([one[name] for one in alone]), rtol=1e-3)
        np.testing.assert_array_equal(np.isnan(together[name]), absent)
    logits = FeatureReader(load_model(folder)[0], 64)(batch.x, batch.present).logits.numpy()
    np.testing.assert_allclose(together["energy"], energy_of(logits), rtol=1e-6)


def test_a_pass_that_judged_the_exams_is_not_made_again(kept):
    folder, exams, reference = kept
    model, _ = load_model(folder)
    meter = UnlikenessMeter(model, reference, 64)
    batch, passes = exams.batch(range(4)), []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    judge = KeptPass(meter.reader)
    answers = judge(model, batch.x, batch.present)
    read = judge.of(batch.x.clone(), batch.present)
    again = meter(batch.x, batch.present, read)
    assert len(passes) == 1
    handle.remove()
    with torch.no_grad(), evaluation(model):
        torch.testing.assert_close(answers, model(batch.x, batch.present), rtol=0, atol=0)
    for name, values in meter(batch.x, batch.present).items():
        np.testing.assert_array_equal(again[name], values)
    assert judge.of(batch.x + 1e-6, batch.present) is None, "of other pixels nothing is known"
    assert judge.of(batch.x, ~batch.present) is None
    assert KeptPass(meter.reader).of(batch.x, batch.present) is None


def spoil(folder, change, recorded=True):
    """Change the stored reference; ``recorded``: and let the card name the changed file."""
    arrays = load_file(folder / REFERENCE)
    with (folder / REFERENCE).open("rb") as handle:
        told = json.loads(handle.read(struct.unpack("<Q", handle.read(8))[0]))["__metadata__"]
    change(arrays, told)
    save_file(arrays, folder / REFERENCE, metadata=told)
    if recorded:
        record_in_card(folder, "reference_sha256", folder / REFERENCE)


def nan_feature(arrays, _):
    arrays["features"][0, 0] = np.nan


def fewer_grades(arrays, _):
    arrays["grade"] = arrays["grade"][1:].copy()


def no_energy(arrays, _):
    del arrays["energy"]


def other_model(_, told):
    told["model_hash"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nan_feature, "'features' holds NaN"),
        (fewer_grades, "'grade' is missing, or of another shape"),
        (no_energy, "'energy' is missing"),
        (other_model, "made with another model"),
    ],
)
def test_a_spoilt_reference_is_refused(kept, tmp_path, change, said):
    folder = shutil.copytree(kept[0], tmp_path / "model")
    spoil(folder, change)
    with pytest.raises(WorkbenchError, match=said):
        read_reference(folder)


def test_a_changed_lost_or_unknown_reference_and_a_pickle_are_refused(kept, tmp_path):
    folder = shutil.copytree(kept[0], tmp_path / "model")
    spoil(folder, lambda arrays, _: arrays["energy"].__iadd__(1), recorded=False)
    with pytest.raises(WorkbenchError, match="its card says"):
        read_reference(folder)
    (folder / REFERENCE).write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(WorkbenchError, match="is a pickle"):
        read_reference(folder)
    (folder / REFERENCE).write_bytes(b"\x08" + b"\0" * 7 + b"{not json")
    record_in_card(folder, "reference_sha256", folder / REFERENCE)
    with pytest.raises(WorkbenchError, match="not a safetensors file"):
        read_reference(folder)
    (folder / REFERENCE).unlink()
    with pytest.raises(WorkbenchError, match="is missing"):
        read_reference(folder)


def test_another_layer_is_refused_and_no_reference_is_none(kept, tmp_path):
    folder, _, reference = kept
    with pytest.raises(WorkbenchError, match="of the layer 'neck'"):
        UnlikenessMeter(load_model(folder)[0], dataclasses.replace(reference, layer="neck"), 64)
    assert read_reference(write_model(tmp_path / "bare")) is None


def test_one_patient_or_features_beyond_float16_are_no_reference(kept):
    folder, exams, _ = kept
    model, _ = load_model(folder)
    with pytest.raises(WorkbenchError, match=r"1 patient\(s\)"):
        collect_reference(model, exams.subset([0]), model_hash="m", manifest_hash="d")
    with torch.no_grad():
        for parameter in model.trunk.bn1.parameters():
            parameter.fill_(1e9)
    with pytest.raises(WorkbenchError, match="not finite in float16"):
        collect_reference(model, exams, model_hash="m", manifest_hash="d")
