"""The paired-eye network: both eyes in, one row of grade logits per eye out."""

from __future__ import annotations

import math
from typing import Final, no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor, fx, nn
from torch.nn import functional

from workbench.models.trunks import make_trunk
from workbench.schema.model_card import Architecture


class PairedEyeNet(nn.Module):
    """Grade both eyes of an exam; ``fusion`` says when the two eyes meet.

    - *early*: one trunk sees six channels, OD RGB then OS RGB, and one head answers for both eyes.
    - *late*: one shared trunk sees each eye; an eye's head is given its own features, then the other eye's.
    - *single*: as late, but the head is given the eye's own features only.

    Normalisation lies inside, so that every epsilon and every attribution is in pixel units. An eye that is not
    present is replaced by the mean colour before the trunk, whatever its pixels hold; a late head sees a learned
    vector in its place. The first stochastic module comes after the trunk unless the architecture has a
    ``trunk_dropout``. `torch.fx` can trace it, and no size of the batch is baked in; inside, eyes are exam-major.

    Attributes:
        trunk: ``trunk(x)`` is the last feature map, before pooling. With ``mirror_os`` the trunk sees the left eye
            mirrored, and so its feature map is mirrored too.
        feature_layer: the name of the module whose output that map is.
        sees_both_eyes: whether the trunk's input is an exam (six channels) or an eye (three).
    """

    feature_layer: Final = "trunk"

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.sees_both_eyes = architecture.fusion == "early"
        in_channels = 6 if self.sees_both_eyes else 3
        self.trunk = make_trunk(architecture.trunk, in_channels, architecture.width, architecture.trunk_dropout)
        features = self.trunk.channels * (2 if architecture.pooling == "mean_max" else 1)
        self.feature_dropout = _dropout(nn.Dropout2d, architecture.feature_dropout)
        self.head_dropout = _dropout(nn.Dropout, architecture.head_dropout)
        if architecture.fusion == "late":
            self.absent = nn.Parameter(torch.zeros(features))
        inputs, outputs = {"early": (1, 2), "late": (2, 1), "single": (1, 1)}[architecture.fusion]
        self.head = nn.Linear(features * inputs, architecture.grades * outputs)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name)).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.local_average = LocalAverage(architecture.local_average) if architecture.local_average else None

    @no_type_check  # torch.fx traces this with proxies, which the shape checks of the tests would refuse
    def forward(
        self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]
    ) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits of each eye's grade; ``x`` in [0, 1], OD RGB then OS RGB.

        An absent eye gets a row too, which means nothing.
        """
        return self.classify(self.pool(self.feature_dropout(self.trunk(self.prepare(x, present)))), present)

    @no_type_check
    def classify(
        self, features: Float[Tensor, "image feature"], present: Bool[Tensor, "exam 2"]
    ) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits of each eye's grade from the pooled features of every image of the trunk's batch."""
        if self.architecture.fusion == "late":
            features = features.unflatten(0, (-1, 2))
            other = torch.where(present.flip(1).unsqueeze(-1), features.flip(1), self.absent)
            return self.head(self.head_dropout(torch.cat([features, other], dim=-1)))
        if self.sees_both_eyes:
            return self.head(self.head_dropout(features)).unflatten(1, (2, self.architecture.grades))
        return self.head(self.head_dropout(features)).unflatten(0, (-1, 2))

    @no_type_check
    def prepare(self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]) -> Tensor:
        """Return what the trunk is given: normalised, absent eyes neutral; exams of six channels or eyes of three."""
        centre = self.mean if self.local_average is None else self.local_average(x).unflatten(1, (2, 3))
        eyes = (x.unflatten(1, (2, 3)) - centre) / self.std
        eyes = torch.where(present.unflatten(1, (2, 1, 1, 1)), eyes, 0.0)
        if self.architecture.mirror_os:
            eyes = torch.cat([eyes[:, :1], eyes[:, 1:].flip(-1)], dim=1)
        return eyes.flatten(1, 2) if self.sees_both_eyes else eyes.flatten(0, 1)

    @no_type_check
    def pool(self, feature_map: Float[Tensor, "image channel rows columns"]) -> Float[Tensor, "image feature"]:
        """Return one vector per image of the trunk's batch."""
        mean = feature_map.mean((2, 3))
        if self.architecture.pooling == "mean":
            return mean
        return torch.cat([mean, feature_map.amax((2, 3))], dim=1)


class LocalAverage(nn.Module):
    """Blur each channel with a Gaussian of ``deviation`` pixels; borders are continued.

    A blur is linear, so the blur of the identity is its matrix. Rows and then columns times that matrix, a Gaussian
    being separable, takes a fraction of the time of a depthwise convolution on a CPU, backwards too.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.reach = math.ceil(2.5 * deviation)
        kernel = torch.exp(-0.5 * (torch.arange(-self.reach, self.reach + 1) / deviation) ** 2)
        self.register_buffer("kernel", (kernel / kernel.sum()).view(1, 1, 1, -1), persistent=False)

    @no_type_check
    def forward(self, x: Float[Tensor, "exam 6 height width"]) -> Float[Tensor, "exam 6 height width"]:
        """Return the local average colour, in fp32: a difference of averages would lose its last bits in bf16."""
        return blurred(x, self.kernel)


@no_type_check
def blurred(
    x: Float[Tensor, "exam 6 height width"], kernel: Float[Tensor, "1 1 1 tap"]
) -> Float[Tensor, "exam 6 height width"]:
    """Return the images under a kernel along the rows and along the columns, whatever context casts products."""
    with torch.autocast(x.device.type, enabled=False):
        down, across = (_matrix(side, kernel) for side in x.shape[2:])
        return down @ (x @ across.t())


fx.wrap("blurred")  # one node of a traced graph, which would lose the context


def _matrix(side: int, kernel: Float[Tensor, "1 1 1 tap"]) -> Float[Tensor, "to from"]:
    reach = kernel.shape[3] // 2
    identity = torch.eye(side, dtype=kernel.dtype, device=kernel.device)[None, None]
    return functional.conv2d(functional.pad(identity, (reach, reach, 0, 0), mode="replicate"), kernel)[0, 0].t()


def _dropout(kind: type[nn.Module], probability: float) -> nn.Module:
    """Return the dropout, or an identity: a dropout of zero would only look like a stochastic module."""
    return kind(probability) if probability else nn.Identity()
