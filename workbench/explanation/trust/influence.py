"""What else an answer for one eye was read from: the fellow eye, its slot, what is no eye at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.explanation.trust.likeness import inside_disc


def with_fellow(
    x: Float[Tensor, "exam 6 height width"], fellow: Float[Tensor, "exam 3 height width"], eye: Literal[0, 1]
) -> Float[Tensor, "exam 6 height width"]:
    """Return the exams with ``fellow`` in the place of the eye beside ``eye``."""
    own = x[:, 3 * eye : 3 * eye + 3]
    return torch.cat([own, fellow] if eye == 0 else [fellow, own], dim=1)


def without_fellow(present: Bool[Tensor, "exam 2"], eye: Literal[0, 1]) -> Bool[Tensor, "exam 2"]:
    """Return ``present`` with the eye beside ``eye`` blanked: the model's own way to say that there was none."""
    blanked = present.clone()
    blanked[:, 1 - eye] = False
    return blanked


def exchanged(
    x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"], *, mirrored: bool
) -> tuple[Float[Tensor, "exam 6 height width"], Bool[Tensor, "exam 2"]]:
    """Return the exams with left and right filed the wrong way round.

    Args:
        x: OD RGB then OS RGB.
        present: which eyes were photographed.
        mirrored: the model mirrors the left eye. Then both are mirrored here, so that its network is given the very
            pixels that it was given before, in the other slot: what changes is due to the slot alone.
    """
    right, left = x[:, :3], x[:, 3:]
    if mirrored:
        right, left = right.flip(-1), left.flip(-1)
    return torch.cat([left, right], dim=1), present.flip(1)


def eye_only(x: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam 6 height width"]:
    """Return the exams with everything outside the two discs of one colour, its own median: what is left is eye.

    Black mostly; prepared with the local average subtracted, grey. A mark is gone, and the surround stays what it was.
    """
    inside = inside_disc(*x.shape[-2:]).to(x.device)
    surround = x[..., ~inside].median(dim=-1).values
    return torch.where(inside, x, surround[..., None, None])


def mean_eye(eyes: Sequence[Float[Tensor, "3 height width"]]) -> Float[Tensor, "3 height width"]:
    """Return the mean photograph of some eyes of one side: an eye's colour and light, without any finding."""
    return torch.stack(list(eyes)).mean(dim=0)
