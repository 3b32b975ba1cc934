import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.models import checkpoint
from workbench.models.checkpoint import CARD, NEXT, WEIGHTS, load_model, model_hash, save_model
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.model_card import Architecture, ModelCard
from workbench.schema.specs import PreprocessSpec

SMALL = Architecture(trunk="resnet10", width=0.125)
TEMPLATE = ModelCard(name="small", architecture=SMALL, preprocess=PreprocessSpec(size=64), referable_threshold=0.4)


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def make(seed: int = 0) -> PairedEyeNet:
    torch.manual_seed(seed)
    return PairedEyeNet(SMALL).eval()


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(make(), TEMPLATE, folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def rewrite(folder: Path, change) -> None:
    """Write the weights anew after ``change(state)``, and let the card name them."""
    state = change(load_file(folder / WEIGHTS))
    save_file(state, folder / WEIGHTS)
    edit(folder, weights_sha256=sha256_file(folder / WEIGHTS))


def edit(folder: Path, **fields) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | fields))


def test_what_is_loaded_answers_like_what_was_saved(folder):
    x, present = torch.rand(2, 6, 64, 64), torch.ones(2, 2, dtype=torch.bool)
    model, card = load_model(folder)
    torch.testing.assert_close(model(x, present), make()(x, present), rtol=1e-5, atol=1e-6)
    assert card == TEMPLATE.model_copy(update={"weights_sha256": sha256_file(folder / WEIGHTS)})
    assert not any(module.training for module in model.modules())
    assert sorted(file.name for file in folder.iterdir()) == [CARD, WEIGHTS]


def test_a_model_in_channels_last_is_saved_alike(folder, tmp_path):
    save_model(make().to(memory_format=torch.channels_last), TEMPLATE, tmp_path / "other")
    assert sha256_file(tmp_path / "other" / WEIGHTS) == sha256_file(folder / WEIGHTS)


def poison(name: str, value: float):
    def change(state):
        state[name].view(-1)[0] = value
        return state

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (poison("head.weight", float("nan")), "'head.weight' holds NaN"),
        (poison("trunk.bn1.running_var", float("inf")), "'trunk.bn1.running_var' holds NaN or infinity"),
        (lambda state: {k: v for k, v in state.items() if k != "head.bias"}, "lacks weight 'head.bias'"),
        (lambda state: state | {"extra": torch.ones(1)}, "unknown weight 'extra'"),
        (lambda state: state | {"head.bias": torch.ones(3)}, r"'head.bias' is \(3,\)"),
        (lambda state: state | {"head.bias": torch.ones(10, dtype=torch.float16)}, "float16"),
    ],
)
def test_weights_that_cannot_be_right_are_refused(folder, change, said):
    rewrite(folder, change)
    with pytest.raises(WorkbenchError, match=said):
        load_model(folder)


def test_nan_is_not_even_saved(tmp_path):
    model = make()
    model.head.weight.data[0, 0] = float("nan")
    with pytest.raises(WorkbenchError, match="NaN"):
        save_model(model, TEMPLATE, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format_version": 99}, "format_version 99"),
        ({"surprise": 1}, "surprise"),
        ({"referable_threshold": 2}, "referable_threshold"),
        ({"weights_sha256": "0" * 64}, "its card says 000000000000"),
    ],
)
def test_a_card_that_cannot_be_right_is_refused(folder, fields, said):
    edit(folder, **fields)
    with pytest.raises(WorkbenchError, match=said):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_a_card_that_is_no_card_is_refused(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(WorkbenchError, match=CARD):
        load_model(folder)


def test_one_flipped_byte_is_noticed_by_loading_and_by_the_hash(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    for ask in (load_model, model_hash):
        with pytest.raises(WorkbenchError, match="sha256"):
            ask(folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08" + bytes(7) + b"{}      ", b"<html></html>"])
def test_malformed_safetensors_are_refused(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, weights_sha256=sha256_file(folder / WEIGHTS))
    with pytest.raises(WorkbenchError, match=r"safetensors|lacks weight"):
        load_model(folder)


def plain_pickle(file: Path, trace: Path) -> None:
    file.write_bytes(pickle.dumps(Bomb(trace)))


def zipped_pickle(file: Path, trace: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(trace)))


@pytest.mark.parametrize("write", [plain_pickle, zipped_pickle])
@pytest.mark.parametrize("named_by_the_card", [True, False])
def test_a_pickle_under_the_weights_name_is_refused_unopened(folder, tmp_path, write, named_by_the_card):
    trace = tmp_path / "ran"
    write(folder / WEIGHTS, trace)
    if named_by_the_card:
        edit(folder, weights_sha256=sha256_file(folder / WEIGHTS))
    with pytest.raises(WorkbenchError, match="is a pickle"):
        load_model(folder)
    assert not trace.exists()


def test_a_folder_of_pickles_is_refused_unopened(tmp_path):
    plain_pickle(tmp_path / "model.pth", tmp_path / "ran")
    with pytest.raises(WorkbenchError, match=r"model.pth is a pickle"):
        load_model(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["absent", "empty", "file.txt"])
def test_no_model_there_is_said(tmp_path, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("no")
    with pytest.raises(WorkbenchError, match="no model at"):
        load_model(tmp_path / place)


def test_the_hash_follows_the_answers_not_the_words(folder, tmp_path):
    before = model_hash(folder)
    edit(folder, name="another name", licence="CC BY 4.0")
    assert model_hash(folder) == before
    edit(folder, referable_threshold=0.41)
    assert model_hash(folder) != before
    save_model(make(seed=1), TEMPLATE, tmp_path / "other")
    assert model_hash(tmp_path / "other") != before


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("point", ["before the weights", "before the card", "before the last rename"])
def test_killed_while_it_is_overwritten_the_old_or_the_new_model_loads(folder, monkeypatch, point):
    old, new = make(0), make(1)

    def stop(*_):
        raise Killed

    with monkeypatch.context() as patch:
        if point == "before the weights":
            patch.setattr(checkpoint, "atomic_path", stop)
        elif point == "before the card":
            patch.setattr(checkpoint, "write_json", stop)
        else:
            replace = Path.replace
            patch.setattr(Path, "replace", lambda self, to: stop() if self.name == NEXT else replace(self, to))
        with pytest.raises(Killed):
            save_model(new, TEMPLATE, folder)
    expected = new if point == "before the last rename" else old
    assert torch.equal(load_model(folder)[0].head.weight, expected.head.weight)
    save_model(new, TEMPLATE, folder)
    assert torch.equal(load_model(folder)[0].head.weight, new.head.weight)
    assert sorted(file.name for file in folder.iterdir()) == [CARD, WEIGHTS]
