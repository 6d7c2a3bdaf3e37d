"""What one skip connection spans: a few linear maps, and the parts that go between them in one of three orders.

    layer          M N φ, M N φ …     the ordinary layer: Ioffe & Szegedy 2015, section 3.2
    bare           M N φ, … M N       the activation follows the addition: He et al. 2016, figure 2
    preactivation  N φ M, N φ M …     nothing follows the addition: He et al. 2016b, figure 1b

M linear map, N normalisation, φ activation followed by dropout; a bare branch has dropout at its end too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from gradflow.models.layers import Branch, Map, attach
from gradflow.models.parts import Parts, units_in, units_out

Order = Literal["layer", "bare", "preactivation"]
Shortcut = Literal["identity", "zero_pad", "projection", "projection_everywhere"]
Position = Literal["pre", "post"]
MakeMap = Callable[..., Map]  # (units in, units out, *, bias=…)


class Unit(Protocol):
    """What a skip is given.

    Attributes:
        width_in, width_out: features before and after.
        index, count: place among the network's units, and how many there are.
        changes_shape: whether the branch changes width or size.
    """

    width_in: int
    width_out: int
    index: int
    count: int

    @property
    def changes_shape(self) -> bool: ...

    def branch(self, order: Order, *, normalized: bool = True, scalar_biases: bool = False) -> Branch:
        """F, from `width_in` to `width_out`, in one of the three orders."""

    def after_sum(self, order: Order) -> nn.Module:
        """What follows the addition."""

    def norm_after(self) -> nn.Module:
        """A normalisation of the sum, for skips that bring their own."""

    def shortcut(self, kind: Shortcut, *, normalized: bool = True) -> nn.Module:
        """From the unit's input to the shape of its output."""

    def halve(self) -> nn.Module:
        """From the unit's input to the height and width of its output."""

    def gate(self, *, pointwise: bool = False) -> Map:
        """A linear map for a gate, of the branch's own kind or, if `pointwise`, of each position by itself, from the
        unit's input to the shape of its output; it always has a bias."""


class LayerUnit:
    """A unit of plain layers, linear or convolutional: what `mlp`, `convnet` and `resnet` are made of.

    Args:
        parts: activation, norm and dropout.
        index, count, width_in: see `Unit`.
        width_out: units of every map of the branch.
        maps: make the branch's maps from (units in, units out); the first one brings the stride.
        project: makes a map for a shortcut, and for a gate of each position by itself; it brings the stride.
        stride: of the first map.
        position: of the normalisation: before ('pre') or after ('post') the activation.
    """

    def __init__(
        self,
        parts: Parts,
        index: int,
        count: int,
        width_in: int,
        width_out: int,
        maps: Sequence[MakeMap],
        project: MakeMap,
        stride: int = 1,
        position: Position = "pre",
    ) -> None:
        self.parts, self.index, self.count = parts, index, count
        self.width_in, self.width_out = width_in, width_out
        self.maps, self.project, self.stride, self.position = maps, project, stride, position

    @property
    def changes_shape(self) -> bool:
        return self.width_in != self.width_out or self.stride > 1

    def branch(self, order: Order, *, normalized: bool = True, scalar_biases: bool = False) -> Branch:
        if order != "layer" and self.position == "post":
            raise ValueError(
                "model.norm_position=post goes with whole layers (skip=none, highway, rezero): "
                "another skip says itself where its norm is, so leave model.norm_position=null"
            )
        modules: list[nn.Module | None] = []
        maps: list[Map] = []
        width, last_norm = self.width_in, None
        for make in self.maps:
            activation, drop = self.parts.activation(), self.parts.drop()
            if order == "preactivation":
                linear = make(units_out(activation, width), self.width_out)
                row: list[nn.Module | None] = [self._norm(width, linear, normalized), activation, drop, linear]
            elif order == "bare" and len(maps) == len(self.maps) - 1:
                linear = make(width, self._units_of_a_sum(activation))
                last_norm = self._norm(self.width_out, linear, normalized)
                row = [linear, last_norm, nn.Dropout(self.parts.dropout) if self.parts.dropout else None]
            elif self.position == "post":
                linear = make(width, units_in(activation, self.width_out))
                row = [linear, activation, drop, self._norm(self.width_out, linear, normalized)]
            else:
                units = units_in(activation, self.width_out)
                linear = make(width, units)
                last_norm = self._norm(units, linear, normalized)
                row = [linear, last_norm, activation, drop]
            for module in row:
                modules += [ScalarBias()] if scalar_biases and module in (linear, activation) else []
                modules.append(self._placed(linear) if module is linear else module)
            maps.append(linear)
            width = self.width_out
        return Branch(modules, maps, last_norm)

    def after_sum(self, order: Order) -> nn.Module:
        return self.parts.activation() if order == "bare" else nn.Identity()

    def norm_after(self) -> nn.Module:
        return self.parts.norm(self.width_out)

    def shortcut(self, kind: Shortcut, *, normalized: bool = True) -> nn.Module:
        if not self.changes_shape and kind != "projection_everywhere":
            return nn.Identity()
        if kind in ("projection", "projection_everywhere"):
            linear = self.project(self.width_in, self.width_out)
            linear.role = "shortcut"
            norm = attach(self.parts.norm(self.width_out), linear)  # one of weights goes onto every map
            return nn.Sequential(linear, norm) if normalized and norm is not None else linear
        if kind == "zero_pad" and self.width_out >= self.width_in:
            return ZeroPad(self.width_out - self.width_in, self.stride)
        change = f"from {self.width_in} to {self.width_out} units" if self.width_in != self.width_out else "in size"
        raise ValueError(
            f"skip.shortcut={kind} cannot span a block that goes {change}: use skip.shortcut=projection, "
            "one width for all blocks, or skip=none"
        )

    def halve(self) -> nn.Module:
        return nn.AvgPool2d(self.stride, ceil_mode=True) if self.stride > 1 else nn.Identity()

    def gate(self, *, pointwise: bool = False) -> Map:
        make = self.project if pointwise else self.maps[0]
        linear = make(self.width_in, self.width_out, bias=True)
        linear.role = "gate"
        return linear

    def _placed(self, linear: Map) -> nn.Module:
        """What stands for a map in a branch: itself, or something around it."""
        return linear

    def _norm(self, units: int, linear: Map, normalized: bool) -> nn.Module | None:
        return attach(self.parts.norm(units), linear) if normalized else None

    def _units_of_a_sum(self, activation: nn.Module) -> int:
        if units_in(activation, self.width_out) != self.width_out:
            raise ValueError(
                f"activation={type(activation).__name__.lower()} changes the number of units, so that it cannot "
                "follow an addition as this skip has it: use skip=preact_residual, or another activation"
            )
        return self.width_out


class ZeroPad(nn.Module):
    """Every `stride`-th position, and `extra` features of zeros: option A of He et al. 2016, section 3.3."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return nn.functional.pad(x, (0, self.extra))


class ScalarBias(nn.Module):
    """x + b with one number b, 0 at first (Zhang et al. 2019, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def layer(parts: Parts, make: MakeMap, width_in: int, width_out: int, position: Position = "pre") -> Branch:
    """One ordinary layer, for a stem."""
    return LayerUnit(parts, 0, 1, width_in, width_out, [make], make, position=position).branch("layer")
