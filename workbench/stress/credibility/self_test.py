"""Check 23: the bench on models of which the answer is known, in a second.

A model that nothing defends must be broken on every exam; one that hides its gradient must be flagged, and broken by
the black box; one that answers by lot must be attacked over its own draws.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from workbench.stress.credibility.modes import answering
from workbench.stress.credibility.slopes import slopes
from workbench.stress.credibility.subject import Subject

SIDE: Final = 12
EXAMS: Final = 4


class _Red(nn.Module):
    """Grades an eye by its mean red: linear, undefended."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        red = torch.stack([x[:, 0], x[:, 3]], dim=1).mean(dim=(2, 3))
        logits: Tensor = 40 * (red - 0.5)[..., None] * torch.arange(-2.0, 3.0) * present[..., None]
        return logits


class _Masked(_Red):
    """The same, after its pixels were rounded to 32 levels: no gradient comes through."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return super().forward(torch.round(x * 31) / 31, present)


class _Random(_Red):
    """The same, after noise by lot."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return super().forward(x + 0.05 * torch.randn(x.shape), present)


def self_test() -> str:
    """Return what went wrong, or an empty text where the bench did as it must."""
    x = 0.5 + 0.004 * torch.rand(EXAMS, 6, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.005
    both, healthy = torch.ones(EXAMS, 2, dtype=torch.bool), torch.zeros(EXAMS, 2, dtype=torch.int64)
    made = {
        kind: Subject(kind().eval(), x, both, healthy, tuple(range(EXAMS)), 0.5, epsilon=8.0, steps=5, tries=60)
        for kind in (_Red, _Masked, _Random)
    }
    wrong = []
    if not made[_Red].under("pgd", steps=5, stop=True).success.all():
        wrong.append("a model that nothing defends was not broken")
    if not slopes(made[_Masked]).cut.all():
        wrong.append("a masked gradient was not flagged")
    if not made[_Masked].under("auto_attack", tries=60, steps=5).success.all():
        wrong.append("a model that masks its gradient was not broken by the black box")
    lots = answering(made[_Random])
    if not (lots.differs.all() and lots.averages):
        wrong.append("a model that answers by lot was not noticed")
    return "; ".join(wrong)
