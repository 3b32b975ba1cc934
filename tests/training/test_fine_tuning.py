import pytest
import torch

from workbench.models.checkpoint import save_model
from workbench.models.paired import PairedEyeNet
from workbench.schema.model_card import Architecture, ModelCard
from workbench.schema.specs import PreprocessSpec
from workbench.training.fine_tuning import fit_stem, start_from


def test_a_stem_answers_alike_where_both_eyes_look_alike():
    one = torch.randn(4, 3, 7, 7)
    x = torch.randn(2, 3, 32, 32)
    both = fit_stem(one, 6)
    alike = torch.nn.functional.conv2d(torch.cat([x, x], dim=1), both)
    torch.testing.assert_close(alike, torch.nn.functional.conv2d(x, one), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fit_stem(both, 3), one)
    assert fit_stem(one, 3) is one


@pytest.mark.parametrize(("source", "target"), [("single", "early"), ("early", "late"), ("late", "late")])
def test_the_trunk_is_taken_over(tmp_path, source, target):
    fields = {"trunk": "resnet10", "width": 0.125}
    start = PairedEyeNet(Architecture(fusion=source, **fields))
    card = ModelCard(name="start", architecture=start.architecture, preprocess=PreprocessSpec())
    save_model(start, card, tmp_path)
    model = PairedEyeNet(Architecture(fusion=target, **fields))
    copied = start_from(model, tmp_path)
    assert torch.equal(model.trunk.layer4[0].conv2.weight, start.trunk.layer4[0].conv2.weight)
    assert "trunk.conv1.weight" in copied
    assert ("head.weight" in copied) is (source == target)
