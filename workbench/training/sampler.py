"""Which exams come when: a pure function of seed and epoch, so that a resumed training needs only its step."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from workbench.schema.seeds import seed_for


def epoch_order(
    worse_grade: Int64[np.ndarray, " exam"], *, balance: float, seed: int, epoch: int
) -> Int64[np.ndarray, " exam"]:
    """Return the indices of an epoch in their order.

    Args:
        worse_grade: of each exam's graded eyes.
        balance: 0 gives every exam once; above it exams are drawn with replacement, with a weight of
            (1 / number of exams of that grade) to this power.
        seed: of the training.
        epoch: from 0.
    """
    generator = np.random.default_rng(seed_for(seed, "order", epoch))
    if balance == 0:
        return generator.permutation(len(worse_grade)).astype(np.int64)
    _, place, counts = np.unique(worse_grade, return_inverse=True, return_counts=True)
    weight = counts[place] ** -float(balance)
    return generator.choice(len(worse_grade), len(worse_grade), p=weight / weight.sum()).astype(np.int64)


def batches(order: Int64[np.ndarray, " exam"], size: int) -> list[Int64[np.ndarray, " some"]]:
    """Cut ``order`` into batches of ``size``; what is left over waits for the next epoch's order.

    Fewer exams than ``size`` make one small batch: a batch of one or two would spoil the batch normalisation's
    running averages, so it is dropped only where others stand in for it.
    """
    whole = len(order) // size
    return [order[i * size : (i + 1) * size] for i in range(whole)] if whole else [order]
