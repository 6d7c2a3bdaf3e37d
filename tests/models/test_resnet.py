"""CIFAR ResNets against the paper's counts and against one written independently, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.layers import Conv2d, Linear
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.models.resnet import resnet
from gradflow.rng import stream

IMAGE = (3, 32, 32)
OPTION_B = partial(skips.residual, shortcut="projection")


def build(
    depth: int = 9,
    skip: Callable = skips.residual,
    width: int | tuple[int, ...] = 16,
    norm: Callable = norms.batch,
    activation: Callable = activations.relu,
    image: tuple[int, ...] = IMAGE,
    **keys,
) -> Network:
    return resnet(image, 10, Parts(depth, width, activation, norm, skip), **keys)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# --- sizes ------------------------------------------------------------------------------------------------------


def parameters_of(n: int, width: int = 16) -> int:
    """3×3 stem, three stages of 2n 3×3 convolutions, two numbers of batch norm per channel of each, the head."""
    total = 9 * 3 * width + 2 * width
    channels = width
    for stage in range(3):
        wide = width * 2**stage
        total += 9 * channels * wide + (2 * n - 1) * 9 * wide * wide + 2 * n * 2 * wide
        channels = wide
    return total + channels * 10 + 10


PAPER = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7"}  # millions: He et al. 2016, table 6
EXACT = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


@pytest.mark.parametrize("layers", PAPER)
def test_parameters_and_layers(layers):
    """6n + 2 layers with weights; shortcut A has none, so that the plain twin has as many parameters."""
    n = (layers - 2) // 6
    with torch.device("meta"):
        network, twin, preact = (build(3 * n, skip) for skip in (skips.residual, skips.none, skips.preact_residual))
        option_b = build(3 * n, OPTION_B)
    assert count(network) == count(twin) == EXACT[layers] == parameters_of(n)
    assert f"{count(network) / 1e6:.{len(PAPER[layers]) - 2}f}" == PAPER[layers]
    assert sum(isinstance(m, Conv2d | Linear) for m in network.modules()) == layers == 6 * n + 2
    assert count(option_b) == parameters_of(n) + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    # norms before instead of behind: no 16 of the stem, 16 for 32 and 32 for 64 where stages begin, 64 of the head
    assert count(preact) == parameters_of(n) + 2 * (-16 + (16 - 32) + (32 - 64) + 64)


def test_sizes_of_the_feature_maps():
    """32, 16 and 8 pixels, 16, 32 and 64 channels, n blocks each (He et al. 2016, section 4.2)."""
    with torch.device("meta"):
        network = build(6)
        x = network.stem(torch.empty(2, *IMAGE))
        shapes = [tuple(x.shape)]
        for block in network.blocks:
            x = block(x)
            shapes.append(tuple(x.shape))
    assert shapes == [(2, 16, 32, 32)] * 3 + [(2, 32, 16, 16)] * 2 + [(2, 64, 8, 8)] * 2


@pytest.mark.parametrize("skip", [skips.residual, OPTION_B, skips.preact_residual, skips.dense, skips.none])
def test_odd_sizes_are_rounded_up(skip):
    with torch.device("meta"):
        network = build(3, skip)
        x = network.stem(torch.empty(2, 3, 7, 9))
        shapes = [x.shape[2:]]
        for block in network.blocks:
            x = block(x)
            shapes.append(x.shape[2:])
    assert [tuple(shape) for shape in shapes] == [(7, 9), (7, 9), (4, 5), (2, 3)]


def test_widths_may_be_given_for_every_block():
    with torch.device("meta"):
        network = build(3, width=(4, 6, 10))
    assert [block.branch.maps[1].out_channels for block in network.blocks] == [4, 6, 10]


# --- against one written independently --------------------------------------------------------------------------


class TheirBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, channels: int, wide: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wide, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.stride, self.option = stride, option
        if option == "B" and stride > 1:
            self.down = nn.Sequential(nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.option == "plain":
            return functional.relu(out)
        if self.stride > 1 and self.option == "A":
            zeros = torch.zeros_like(out[:, x.shape[1] :])
            x = torch.cat([functional.max_pool2d(x, 1, 2), zeros], 1)
        elif self.stride > 1:
            x = self.down(x)
        return functional.relu(x + out)


class TheirPreactBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))): He et al. 2016b, figure 1b."""

    def __init__(self, channels: int, wide: int, stride: int, option: str) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(functional.relu(self.bn2(self.conv1(functional.relu(self.bn1(x))))))
        if self.stride > 1:
            x = torch.cat([functional.max_pool2d(x, 1, 2), torch.zeros_like(out[:, x.shape[1] :])], 1)
        return x + out


class Theirs(nn.Module):
    """ResNet-(6n + 2)."""

    def __init__(self, n: int, option: str) -> None:
        super().__init__()
        self.preact = option == "preact"
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(64 if self.preact else 16)
        kind = TheirPreactBlock if self.preact else TheirBlock
        shapes = [(16, 16, 1)] * n + [(16, 32, 2)] + [(32, 32, 1)] * (n - 1) + [(32, 64, 2)] + [(64, 64, 1)] * (n - 1)
        self.blocks = nn.Sequential(*(kind(*shape, option) for shape in shapes))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.blocks(x) if self.preact else self.blocks(functional.relu(self.bn(x)))
        if self.preact:
            x = functional.relu(self.bn(x))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def pairs(ours: Network, theirs: Theirs) -> list[tuple[nn.Module, nn.Module]]:
    """Modules with parameters that correspond, found by what they are for and not by their order."""

    def of(module: nn.Module, kind: type) -> list[nn.Module]:
        return [m for m in module.modules() if isinstance(m, kind)]

    found = [(of(ours.stem, Conv2d)[0], theirs.conv), (of(ours.head, Linear)[0], theirs.fc)]
    found.append((of(ours.head if theirs.preact else ours.stem, norms.BatchNorm)[0], theirs.bn))
    for block, other in zip(ours.blocks, theirs.blocks, strict=True):
        found += zip(block.branch.maps, (other.conv1, other.conv2), strict=True)
        found += zip(of(block.branch, norms.BatchNorm), (other.bn1, other.bn2), strict=True)
        if hasattr(other, "down"):
            found += zip(block.shortcut, other.down, strict=True)
    return found


@pytest.mark.parametrize(
    ("option", "skip"),
    [("A", skips.residual), ("B", OPTION_B), ("plain", skips.none), ("preact", skips.preact_residual)],
)
def test_resnet_20_is_the_one_written_by_hand(option, skip):
    """Outputs, gradients and running statistics in training, outputs at evaluation, in float64."""
    ours, theirs = build(9, skip), Theirs(3, option).double()
    initialize(ours, initializers.he_normal, stream(0, "init"))
    ours.double()
    found = pairs(ours, theirs)
    with torch.no_grad():
        for mine, other in found:
            for name, p in mine.named_parameters():
                if p.ndim == 1:
                    p.add_(0.2 * torch.randn(p.shape, generator=stream(1, name), dtype=p.dtype))
                other.get_parameter(name).copy_(p)
    assert count(ours) == count(theirs) == sum(count(mine) for mine, _ in found)
    x = torch.randn(3, 3, 16, 16, generator=stream(2), dtype=torch.float64)
    for network in (ours, theirs):
        network(x).square().sum().backward()
    for mine, other in found:
        for name, p in mine.named_parameters():
            torch.testing.assert_close(p.grad, other.get_parameter(name).grad, rtol=1e-8, atol=1e-9)
        for name, buffer in mine.named_buffers():
            torch.testing.assert_close(buffer, other.get_buffer(name), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-10, atol=1e-10)


def test_biases_of_convolutions_are_asked_for():
    with torch.device("meta"):
        assert all(m.bias is None for m in build(3).modules() if isinstance(m, Conv2d))
        assert all(m.bias is not None for m in build(3, bias=True).modules() if isinstance(m, Conv2d))


# --- refusals ---------------------------------------------------------------------------------------------------

REFUSED = {
    "vectors": ({"image": (8,)}, r"model=resnet needs images, but an example has shape \[8\]: set task.view=image"),
    "stages": ({"depth": 10}, "depth=10: model=resnet has three equal stages.*must be a multiple of 3"),
    "widths": ({"depth": 3, "width": (4, 8)}, "width lists 2 numbers for depth=3 blocks"),
    "shortcut": ({"skip": partial(skips.residual, shortcut="identity")}, "skip.shortcut=identity cannot span"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line(what):
    keys, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as raised:
        build(**keys)
    assert "\n" not in str(raised.value)
