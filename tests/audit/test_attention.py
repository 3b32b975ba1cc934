from pathlib import Path

import numpy as np
import pytest

from tests.small_audit import small_config, write_model
from workbench.audit.attention import CANVAS, DISC_AT, FLOORS, Eye, _add, _eye_rows, _Mean, circle
from workbench.audit.runner import run_audit
from workbench.data.crop import CropGeometry
from workbench.data.synthetic.cohort import write_cohort
from workbench.models.lesion_net import LesionNet, save_detector
from workbench.schema.lesions import LABELS, LesionCard
from workbench.schema.manifest import read_manifest, write_manifest


def _with(labels: np.ndarray, eye: str = "OD", source: str = "mask") -> Eye:
    side = float(len(labels))
    return Eye("e", eye, 2, CropGeometry(0.0, 0.0, side, len(labels), len(labels), 64), 0.49, {source: labels}, None)


def test_a_map_is_judged_at_the_photographs_own_pixels() -> None:
    labels = np.zeros((640, 640), np.uint8)
    labels[300:310, 400:410] = LABELS.index("haemorrhage")
    heat = np.zeros((64, 64), np.float32)
    heat[30, 40] = 1
    rows = {(row["source"], row["kind"]): row for row in _eye_rows(_with(labels), heat)}
    found = rows["mask", "haemorrhage"]
    assert (found["pointing"], found["lesions"], found["looked_at"]) == (1, 1, 1)
    assert found["area"] == pytest.approx(100 / (np.pi * (0.49 * 640) ** 2), rel=0.01)
    assert rows["mask", "any lesion"]["energy"] == found["energy"] > 0.3
    assert rows["field", "rim"]["energy"] == rows["field", "outside"]["energy"] == 0
    assert ("mask", "optic disc") not in rows


def test_a_map_of_a_mark_in_the_corner_lies_outside_the_field() -> None:
    heat = np.zeros((64, 64), np.float32)
    heat[1, 1] = 1
    rows = {row["kind"]: row for row in _eye_rows(_with(np.zeros((64, 64), np.uint8)), heat)}
    assert rows["outside"]["energy"] == 1


def test_both_eyes_are_laid_on_one_disc() -> None:
    for eye, x in (("OD", 45), ("OS", 64 - 45)):
        labels = np.zeros((64, 64), np.uint8)
        labels[circle(64, (x / 64, 0.5), 0.05)] = LABELS.index("optic disc")
        one, sums = _with(labels, eye, "found"), {("m", None): _Mean(), ("m", 2): _Mean()}
        heat = circle(64, (x / 64, 0.5), 0.05).astype(np.float32)
        _add(sums, "m", one, heat)
        row = sums["m", None].row("m", None)
        assert row is not None
        assert row["eyes"] == 1
        y, x_found = np.argwhere(sums["m", None].total > 1).mean(axis=0) + 0.5
        np.testing.assert_allclose([x_found / CANVAS, y / CANVAS], DISC_AT, atol=0.02)
        fovea = one.fovea()
        assert fovea is not None
        assert (fovea[0] < x / 64) == (eye == "OD")  # temporal of the disc


@pytest.fixture(scope="module")
def marked_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("marked")
    write_cohort(root / "cohort", patients=24, size=64, workers=1)
    save_detector(
        LesionNet(LesionCard(size=64, channels=(8, 8, 8, 8, 8, 8))),
        LesionCard(size=64, channels=(8, 8, 8, 8, 8, 8)),
        root / "lesions",
    )
    overrides = [
        f"explanations.lesions={root / 'lesions'}",
        "explanations.methods=[integrated_gradients]",
        "data.limit=6",
    ]
    table = read_manifest(root / "cohort")
    first = table[table["split"] == "test"].index[0]
    write_manifest(table.assign(mask_path=table["mask_path"].where(table.index != first)), root / "one_without.csv")
    config = small_config(root / "one_without.csv", write_model(root / "model"), *overrides)
    return run_audit(config, root / "run")


def test_an_audit_says_where_its_maps_lie(marked_run) -> None:
    table = marked_run.attention()
    assert set(table["source"]) >= {"mask", "field"}
    assert set(table["method"]) == {"integrated_gradients", *FLOORS}
    shares = table[["area", "energy"]].dropna()
    assert ((shares >= 0) & (shares["energy"].to_frame().le(1).to_numpy())).all(axis=None)
    rows = marked_run.rows()
    told = rows[(rows["name"] == "map_energy_over_area") & (rows["of"] == "mask any lesion")]
    assert set(told["measurement"]) == {"maps.integrated_gradients", *FLOORS}
    assert set(marked_run.mean_maps()["method"]) == {"integrated_gradients"}


def test_an_eye_without_a_mask_has_none_and_fails_nothing(marked_run) -> None:
    from workbench.audit.layout import MASKS

    assert MASKS not in set(marked_run.failures()["measurement"])


def test_a_run_without_masks_or_detector_knows_only_the_field(small) -> None:
    from workbench.audit.results import open_run

    run = open_run(Path(small.run))
    assert set(run.attention()["source"]) <= {"field"}
    assert run.mean_maps().empty
