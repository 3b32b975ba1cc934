"""Which photographs are flagged before they are graded: the side of the disc, verdicts on pairs, a folder."""

import doctest
import math
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from tests.small_audit import write_model
from workbench.data.exams import open_exams
from workbench.models.checkpoint import read_card
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.manifest import as_manifest, read_manifest, write_manifest
from workbench.schema.specs import PreprocessSpec
from workbench.uncertainty import flags, laterality_check
from workbench.uncertainty.appearance import NUMBERS, appearance
from workbench.uncertainty.flags import UNLIKE, flag_of
from workbench.uncertainty.intake import check, check_folder, make_intake, open_intake
from workbench.uncertainty.laterality import DiscSide, planes_of, right_eye_log_odds, train_laterality
from workbench.uncertainty.laterality_check import (
    ALONE,
    BOTH,
    INTAKE,
    ONE_OF_TWO,
    Laterality,
    Thresholds,
    figures_of,
    read_laterality,
    thresholds_of,
    verdicts,
    write_laterality,
)
from workbench.uncertainty.reference import record_in_card

SPEC = PreprocessSpec(size=64)
AT = Thresholds(both=4.0, one_of_two=2.0, alone=3.0)


def draw_eye(eye, seed):
    """Return a round photograph whose bright disc stands on the right for a right eye."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((90, 90, 3), np.uint8)
    cv2.circle(pixels, (45, 45), 42, (40, 80, 150), -1)
    x, y = (66 if eye == "OD" else 24) + generator.integers(-4, 5), 45 + generator.integers(-6, 7)
    cv2.circle(pixels, (int(x), int(y)), 6, (150, 220, 250), -1)
    noise = generator.integers(0, 20, pixels.shape, dtype=np.uint8)
    return np.where(pixels > 0, np.minimum(pixels, 235) + noise, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sided")
    rows = []
    for number in range(48):
        for eye in ("OD", "OS"):
            path = folder / f"{number}_{eye}.png"
            cv2.imwrite(str(path), draw_eye(eye, 2 * number + (eye == "OS")))
            row = {"patient_id": f"p{number}", "exam_id": f"e{number}", "eye": eye, "image_path": str(path)}
            split = "train" if number < 32 else "validation"
            rows.append({**row, "sha256": sha256_file(path), "icdr_grade": number % 5, "split": split, "dataset": "d"})
    write_manifest(as_manifest(pd.DataFrame(rows)), folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def exams(cohort):
    manifest = read_manifest(cohort)
    cache = cohort.parent / "cache"
    return {split: open_exams(manifest, SPEC, cache=cache, split=split) for split in ("train", "validation")}


@pytest.fixture(scope="module")
def learned(exams):
    return train_laterality(exams["train"], epochs=12)


def photographs(exams, count=6):
    return [exams.pixels(index, eye) for index in range(count) for eye in ("OD", "OS")]


def test_it_learns_the_side_without_a_label_of_it(learned, exams):
    found = right_eye_log_odds(learned, photographs(exams["validation"], 16)).reshape(-1, 2)
    assert ((found[:, 0] > 0) & (found[:, 1] < 0)).mean() > 0.9


def test_mirroring_turns_the_answer_round_and_upside_down_changes_nothing(exams):
    torch.manual_seed(0)
    model = DiscSide().eval()  # by construction, whatever the weights
    seen = photographs(exams["validation"])
    plain = right_eye_log_odds(model, seen)
    upside_down, mirrored, turned = (
        right_eye_log_odds(model, [np.ascontiguousarray(pixels[::rows, ::columns]) for pixels in seen])
        for rows, columns in ((-1, 1), (1, -1), (-1, -1))
    )
    np.testing.assert_allclose(upside_down, plain, atol=1e-4)
    np.testing.assert_allclose(mirrored, -plain, atol=1e-4)
    np.testing.assert_allclose(turned, -plain, atol=1e-4)


def test_the_same_exams_give_the_same_weights_and_the_caller_s_numbers_stay(exams):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, other = (train_laterality(exams["validation"], epochs=1).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_photograph_no_answer(learned):
    assert np.isnan(right_eye_log_odds(learned, [None])).all()


@pytest.mark.parametrize(
    ("evidence", "flags_"),
    [
        ((3.0, 3.0), (None, None)),
        ((-3.0, -3.0), (BOTH, BOTH)),
        ((-5.0, 0.5), (BOTH, BOTH)),  # against both together, though not against each
        ((-3.0, 3.0), (ONE_OF_TWO, None)),
        ((3.0, -2.5), (None, ONE_OF_TWO)),
        ((-3.0, 1.0), (None, None)),  # the fellow is not sure enough to say which it is
        ((-1.0, -2.0), (None, None)),
        ((np.nan, -3.5), (None, ALONE)),
        ((-2.9, np.nan), (None, None)),
        ((np.nan, np.nan), (None, None)),
    ],
)
def test_verdicts_by_hand(evidence, flags_):
    assert verdicts(np.array([evidence]), AT) == [flags_]


def test_thresholds_keep_their_false_alarms_and_never_flag_what_speaks_for_the_filing():
    generator = np.random.default_rng(0)
    evidence = generator.normal(2, 1.5, (2000, 2))
    found = thresholds_of(evidence)
    said = verdicts(evidence, found)
    both = np.mean([one == BOTH for one, _ in said])
    single = np.mean([ONE_OF_TWO in pair for pair in said])
    assert 0.01 < both <= 0.02
    assert 0.005 < single <= 0.02
    sure = thresholds_of(np.full((200, 2), 5.0))
    assert sure == Thresholds(0.0, 0.0, 0.0)
    assert verdicts(np.array([[5.0, 4.0]]), sure) == [(None, None)]


def test_too_few_exams_flag_nothing():
    few = thresholds_of(np.full((20, 2), -9.0))
    assert few.both == few.one_of_two == few.alone == math.inf
    assert verdicts(np.array([[-9.0, -9.0]]), few) == [(None, None)]


def test_the_figures_are_those_of_really_swapped_and_turned_pairs(learned, exams):
    laterality = Laterality(learned, Thresholds(2.0, 1.0, 1.0), {})
    pairs = [(exams["validation"].pixels(i, "OD"), exams["validation"].pixels(i, "OS")) for i in range(8)]
    figures = figures_of(laterality.evidence(pairs), laterality.thresholds)
    swapped = laterality.evidence([(left, right) for right, left in pairs])
    turned = laterality.evidence([(np.ascontiguousarray(right[::-1, ::-1]), left) for right, left in pairs])
    caught = np.mean([one == BOTH for one, _ in verdicts(swapped, laterality.thresholds)])
    assert figures["swapped_pairs_flagged"] == caught > 0.5
    found = np.mean([pair == (ONE_OF_TWO, None) for pair in verdicts(turned, laterality.thresholds)])
    assert figures["one_turned_flagged"] == found > 0.5


def test_appearance_is_blind_to_the_batch_and_tells_layers_from_a_fundus():
    eyes = np.stack([draw_eye("OD", seed)[..., ::-1] for seed in range(3)]).transpose(0, 3, 1, 2) / np.float32(255)
    found = appearance(eyes.astype(np.float32))
    assert found.shape == (3, NUMBERS)
    np.testing.assert_array_equal(found[1], appearance(eyes[1:2].astype(np.float32))[0])
    rows = np.tile(np.arange(90)[:, None] // 4 % 2, (1, 90)).astype(np.float32)
    layered = appearance(np.repeat(rows[None, None], 3, axis=1))
    assert layered[0, 3] < found[:, 3].min() - 1  # the grain: nothing changes across the columns


@pytest.fixture(scope="module")
def ready(cohort, tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("ready") / "model", fusion="single")
    make_intake(folder, cohort)
    return folder


def test_what_was_made_is_read_back(ready):
    laterality = read_laterality(ready)
    assert laterality is not None
    assert laterality.figures["pairs"] == 16
    assert laterality.thresholds.both == math.inf  # 16 pairs are too few for a rate of two in a hundred
    assert "16 validation pairs" in laterality.told()
    assert open_intake(ready).meter is not None


def test_a_folder_is_checked_row_by_row(ready, tmp_path):
    model = shutil.copytree(ready, tmp_path / "model")
    folder = tmp_path / "incoming"
    (folder / "visit").mkdir(parents=True)
    for number, (right, left) in enumerate([("OD", "OS"), ("OS", "OD")]):
        cv2.imwrite(str(folder / f"{number}_right.png"), draw_eye(right, 900 + number))
        cv2.imwrite(str(folder / f"{number}_left.png"), draw_eye(left, 950 + number))
    cv2.imwrite(str(folder / "visit" / "of_nobody.png"), draw_eye("OS", 7))
    (folder / "notes.txt").write_text("no photograph")
    cv2.imwrite(str(folder / "grey.png"), np.full((80, 80, 3), 128, np.uint8))
    laterality = read_laterality(model)
    write_laterality(Laterality(laterality.model, Thresholds(1.0, 0.5, 0.5), laterality.figures), model)
    table = check_folder(folder, open_intake(model)).set_index("photograph")
    assert len(table) == 7
    assert table.loc[["0_right.png", "0_left.png", "visit/of_nobody.png"], "flag"].isna().all()
    assert table.loc["1_right.png", "flag"].startswith(BOTH)
    assert table.loc["1_left.png", "flag"].startswith(BOTH)
    assert table.loc["grey.png", "flag"] is not None
    assert table.loc["notes.txt", "flag"] is not None
    assert table.loc["0_right.png", "appearance"] >= 0
    assert np.isnan(table.loc["notes.txt", "appearance"])


def test_a_photograph_is_checked_the_same_alone_as_among_others(ready, exams):
    pairs = [(exams["validation"].pixels(i, "OD"), exams["validation"].pixels(i, "OS")) for i in range(5)]
    intake = open_intake(ready)
    together = check(intake, pairs)
    alone = [row for pair in pairs for row in check(intake, [pair])]
    assert [row["flag"] for row in together] == [row["flag"] for row in alone]
    one, other = (pd.DataFrame(rows).drop(columns="flag") for rows in (together, alone))
    np.testing.assert_allclose(one, other, atol=5)  # percentiles of some thirty held-out eyes: 3 points each


def test_a_folder_without_a_photograph_and_a_model_without_checks_are_told(ready, tmp_path):
    with pytest.raises(WorkbenchError, match="no folder"):
        check_folder(tmp_path / "nowhere", open_intake(ready))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="no file below"):
        check_folder(tmp_path / "empty", open_intake(ready))
    with pytest.raises(WorkbenchError, match="workbench model reference"):
        open_intake(write_model(tmp_path / "bare"))


def test_a_spoilt_network_is_refused(ready, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(ready, tmp_path / "model")
    arrays = load_file(folder / INTAKE)
    arrays["head.bias"] = arrays["head.bias"] + np.nan
    save_file(arrays, folder / INTAKE)
    with pytest.raises(WorkbenchError, match="its card says"):
        read_laterality(folder)
    record_in_card(folder, "laterality_sha256", folder / INTAKE)
    with pytest.raises(WorkbenchError, match=r"'head\.bias' holds NaN"):
        read_laterality(folder)
    del arrays["head.bias"]
    save_file(arrays, folder / INTAKE)
    record_in_card(folder, "laterality_sha256", folder / INTAKE)
    with pytest.raises(WorkbenchError, match=r"'head\.bias' is missing"):
        read_laterality(folder)
    assert read_card(folder).weights_sha256 == read_card(ready).weights_sha256


def test_planes_do_not_depend_on_brightness(exams):
    pixels = exams["validation"].pixels(0, "OD")
    np.testing.assert_allclose(planes_of(pixels)[:3].mean(axis=(1, 2)), 0, atol=1e-5)


def test_the_wording():
    assert flag_of(BOTH, ("appearance",)).startswith(f"{BOTH}; {UNLIKE} (")
    for module in (flags, laterality_check):
        assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
