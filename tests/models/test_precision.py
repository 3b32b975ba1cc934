import pytest
import torch

from workbench.models import precision
from workbench.models.precision import autocast, resolve_precision
from workbench.schema.errors import WorkbenchError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "hardware", "runs"), [("auto", True, "bf16"), ("auto", False, "fp32"), ("fp32", True, "fp32")]
)
def test_bf16_runs_only_where_it_is_and_only_if_wanted(monkeypatch, asked, hardware, runs):
    monkeypatch.setattr(precision, "has_bf16", lambda device: hardware)
    assert resolve_precision(asked) == runs


def test_emulated_bf16_is_refused(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    with pytest.raises(WorkbenchError, match="bf16"):
        resolve_precision("bf16")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_context_decides_what_a_matrix_product_is_made_in(name, dtype):
    with autocast(name, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
