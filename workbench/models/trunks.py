"""Trunks: MONAI's networks up to their last feature map, before any pooling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, no_type_check

from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.efficientnet import EfficientNet, MBConvBlock
from monai.networks.nets.resnet import ResNet, ResNetBlock
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError

B0_BLOCKS: Final = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)
"""EfficientNet-B0 in MONAI's notation (Tan and Le 2019, table 1)."""


class Trunk(nn.Sequential):
    """Layers from an image to its last feature map.

    Attributes:
        channels: of the feature map; its sides are the input's divided by 32.
        stem: the first convolution's name, whose input channels are the only ones that depend on the fusion.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], *, channels: int, stem: str) -> None:
        super().__init__(layers)
        self.channels = channels
        self.stem = stem


class SeparateReluBlock(ResNetBlock):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's basic block with one ReLU per place, none in place: Captum's DeepLift refuses one that serves twice."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        del self.act

    @no_type_check  # torch.fx traces this with proxies, which the shape checks of the tests would refuse
    def forward(self, x: Tensor) -> Tensor:
        """Return the block's feature map."""
        residual = x if self.downsample is None else self.downsample(x)
        inner = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(inner)) + residual)


def resnet(layers: tuple[int, int, int, int], in_channels: int, width: float, dropout: float) -> Trunk:
    """Return a ResNet of basic blocks (He et al. 2016), stem 7 × 7 with stride 2; it has no dropout of its own.

    Raises:
        WorkbenchError: ``dropout`` is not zero.
    """
    if dropout:
        raise WorkbenchError(
            f"trunk_dropout is {dropout}, but a ResNet has no dropout inside", "use feature_dropout or head_dropout"
        )
    planes = [max(1, round(channels * width)) for channels in (64, 128, 256, 512)]
    net = ResNet(
        SeparateReluBlock,
        list(layers),
        planes,
        spatial_dims=2,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
        act=("relu", {"inplace": False}),
    )
    names = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return Trunk(OrderedDict((name, getattr(net, name)) for name in names), channels=planes[-1], stem="conv1")


def densenet121(in_channels: int, width: float, dropout: float) -> Trunk:
    """Return a DenseNet-121 (Huang et al. 2017); its dropout stands in the last block only.

    MONAI's puts dropout after every layer from the first on, and then no part of the network is deterministic: each
    MC-dropout draw would cost a whole pass.
    """
    growth = max(4, round(32 * width))
    net = DenseNet(2, in_channels, 1, init_features=2 * growth, growth_rate=growth, act=("relu", {"inplace": False}))
    if dropout:
        for layer in net.features.denseblock4:
            layer.layers.add_module("dropout", nn.Dropout2d(dropout))
    layers = OrderedDict(net.features.named_children())
    layers["relu5"] = nn.ReLU()
    return Trunk(layers, channels=net.features.norm5.num_features, stem="conv0")


def efficientnet_b0(in_channels: int, width: float, dropout: float) -> Trunk:
    """Return an EfficientNet-B0 (Tan and Le 2019); ``dropout`` is its stochastic depth, active in training only."""
    net = EfficientNet(
        list(B0_BLOCKS),
        in_channels=in_channels,
        num_classes=1,
        width_coefficient=width,
        norm="batch",
        drop_connect_rate=dropout,
    )
    _initialise_by_fan(net)
    for block in net.modules():
        if isinstance(block, MBConvBlock):
            # MONAI's swish is an autograd function that works in place: neither fx nor Captum can follow it.
            block._swish = nn.SiLU()
    layers = OrderedDict(
        stem_padding=net._conv_stem_padding,
        conv_stem=net._conv_stem,
        bn0=net._bn0,
        act0=nn.SiLU(),
        blocks=net._blocks,
        head_padding=net._conv_head_padding,
        conv_head=net._conv_head,
        bn1=net._bn1,
        act1=nn.SiLU(),
    )
    return Trunk(layers, channels=net._conv_head.out_channels, stem="conv_stem")


def _initialise_by_fan(net: nn.Module) -> None:
    """Scale each convolution by its fan-in (He et al. 2015).

    MONAI's own forgets that a depthwise convolution sees one channel, so the signal shrinks at each block and an
    untrained EfficientNet answers logits of 1e-13.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


TRUNKS: Final[dict[str, Callable[[int, float, float], Trunk]]] = {
    "resnet10": partial(resnet, (1, 1, 1, 1)),
    "resnet18": partial(resnet, (2, 2, 2, 2)),
    "resnet34": partial(resnet, (3, 4, 6, 3)),
    "densenet121": densenet121,
    "efficientnet-b0": efficientnet_b0,
}
"""From a name to ``(in_channels, width, dropout) -> Trunk``."""


def make_trunk(name: str, in_channels: int, width: float, dropout: float = 0.0) -> Trunk:
    """Return the trunk of that name; ``width`` multiplies its channels, ``dropout`` is the trunk's own.

    Raises:
        WorkbenchError: no trunk of that name, or a dropout that it does not have.
    """
    if name not in TRUNKS:
        raise WorkbenchError(f"no trunk named {name!r}", f"choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name](in_channels, width, dropout)
