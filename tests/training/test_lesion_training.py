import numpy as np
import pytest
import torch

from workbench.data.synthetic.cohort import write_cohort
from workbench.models.lesion_net import LesionNet, find_lesions, labels_found, light_of, load_detector, relative
from workbench.schema.errors import WorkbenchError
from workbench.schema.lesions import LABELS, SOUGHT, LesionCard
from workbench.training.lesion_test import measure_detector
from workbench.training.lesions import LesionTrainConfig, loss, train_detector

TINY = (8, 8, 8, 8, 8, 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("lesions")
    write_cohort(root / "cohort", patients=24, size=96, workers=1)
    config = LesionTrainConfig(
        manifest=root / "cohort", size=96, channels=TINY, crop=48, batch_size=4, steps=40, threads=1
    )
    threads = torch.get_num_threads()
    train_detector(config, root / "one")
    torch.set_num_threads(threads)
    return root, config


def test_training_twice_gives_the_same_weights(trained) -> None:
    root, config = trained
    short = config.model_copy(update={"steps": 3})
    hashes = {train_detector(short, root / name).weights_sha256 for name in ("again", "once more")}
    assert len(hashes) == 1


def test_a_few_steps_find_the_optic_disc_better_than_chance(trained) -> None:
    root, _ = trained
    tested = measure_detector(load_detector(root / "one"), root / "cohort", "train")
    assert tested.values["optic disc auprc"] > 2 * tested.values["optic disc marked"]
    assert tested.values["optic disc auprc low"] <= tested.values["optic disc auprc"]


def test_a_detector_whose_weights_were_changed_is_refused(trained) -> None:
    root, config = trained
    train_detector(config.model_copy(update={"steps": 1}), root / "changed")
    path = root / "changed" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WorkbenchError, match="not the file of its card"):
        load_detector(root / "changed")
    with pytest.raises(WorkbenchError, match="no lesion detector"):
        load_detector(root)


def test_colour_and_light_of_the_camera_change_nothing() -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.3
    tinted = x * torch.tensor([1.4, 0.8, 0.6])[None, :, None, None]
    seen = [relative(one, 64, light_of(one, 64)) for one in (x, tinted)]
    torch.testing.assert_close(*seen, atol=2e-4, rtol=1e-3)


def test_nothing_is_found_in_the_dark() -> None:
    model = LesionNet(LesionCard(size=64, channels=TINY)).eval()
    assert not find_lesions(model, np.zeros((64, 64, 3), np.uint8)).any()


def test_small_groups_are_no_finding_and_one_disc_stays() -> None:
    p = np.zeros((len(SOUGHT), 32, 32))
    p[0, 2, 2] = 0.9
    p[1, 5:8, 5:8] = 0.9
    p[-1, 20:28, 20:28] = p[-1, 1:3, 28:31] = 0.9
    labels = labels_found(p, (0.5,) * len(SOUGHT))
    assert {LABELS[label] for label in np.unique(labels)} == {"", "haemorrhage", "optic disc"}
    assert (labels == LABELS.index("optic disc")).sum() == 64


def test_the_right_answer_has_the_least_loss() -> None:
    y = torch.zeros(1, len(SOUGHT), 8, 8)
    y[:, :, 2:4, 2:4] = 1
    assert loss(20 * (2 * y - 1), y) < 1e-3 < loss(torch.zeros_like(y), y)
