"""The linear maps that every block is made of, and the branch that strings them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Role = Literal["map", "query_key", "gate", "shortcut", "recurrent"]


class Reparametrization(nn.Module):
    """A normalisation of weights instead of activations: maps the stored weight to the one that is used."""

    def attach(self, weight: Tensor) -> None:
        """Make parameters and buffers for a weight of shape [units, fan_in, *kernel]."""

    def reset(self, weight: Tensor) -> None:
        """Fit them to a weight that has just been initialised."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that is used; every reparametrisation has its own."""
        raise NotImplementedError


class Linear(nn.Linear):
    """`torch.nn.Linear` that leaves its weights to gradflow's initialisers.

    torch's own constructor draws from the global generator; this one draws nothing and zeroes the bias.

    Attributes:
        role: what the map is for, which some initialisers ask: a 'map' carries the signal of its block.
        reparametrization: normalises the weight, or None.
    """

    role: Role = "map"

    def __init__(self, units_in: int, units_out: int, bias: bool = True) -> None:
        super().__init__(units_in, units_out, bias)
        self.reparametrization: Reparametrization | None = None

    def reset_parameters(self) -> None:
        _zero(self)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, effective_weight(self), self.bias)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` that leaves its weights to gradflow's initialisers, as `Linear` does.

    The padding keeps the image's size at stride 1: (kernel_size − 1) / 2 on every side.

    Args:
        units_in, units_out: channels.
        kernel_size: odd, so that the kernel has a centre.
        stride: 2 halves height and width, rounding up.
        padding: 'zero', or 'circular', under which all positions are alike, as mean-field theory assumes.
        bias: whether there is one.

    Raises:
        ValueError: for an even kernel.
    """

    role: Role = "map"

    def __init__(
        self,
        units_in: int,
        units_out: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: Literal["zero", "circular"] = "zero",
        bias: bool = True,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"model.kernel_size={kernel_size}: must be odd, so that the kernel has a centre")
        mode: Literal["zeros", "circular"] = "zeros" if padding == "zero" else "circular"
        super().__init__(
            units_in, units_out, kernel_size, stride, padding=kernel_size // 2, bias=bias, padding_mode=mode
        )
        self.reparametrization: Reparametrization | None = None

    def reset_parameters(self) -> None:
        _zero(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, effective_weight(self), self.bias)
        return out


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d` without padding that leaves its weights to gradflow's initialisers, as `Linear` does.

    It takes [B, channels, T] like torch's; `Causal` puts it into a row of modules that pass tokens on.

    Args:
        units_in, units_out: channels.
        kernel_size: taps; the last one is the present.
        dilation: steps from one tap to the next.
        bias: whether there is one.
    """

    role: Role = "map"

    def __init__(
        self, units_in: int, units_out: int, kernel_size: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__(units_in, units_out, kernel_size, dilation=dilation, bias=bias)
        self.reparametrization: Reparametrization | None = None

    def reset_parameters(self) -> None:
        _zero(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, effective_weight(self), self.bias)
        return out


class Causal(nn.Module):
    """Tokens [B, T, F] through a convolution over time that sees the present and the past: [B, T, units].

    Before the first step there are zeros.
    """

    def __init__(self, convolution: Conv1d) -> None:
        super().__init__()
        self.convolution = convolution
        self.past = (convolution.kernel_size[0] - 1) * convolution.dilation[0]

    def forward(self, x_BTF: Tensor) -> Tensor:
        x_BFT = functional.pad(x_BTF.transpose(1, 2), (self.past, 0))
        out: Tensor = self.convolution(x_BFT).transpose(1, 2)
        return out


Map = Linear | Conv1d | Conv2d


def effective_weight(linear: Map) -> Tensor:
    """The weight that is used: the stored one, or what its reparametrisation makes of it."""
    stored: Tensor = linear.weight
    used: Tensor = stored if linear.reparametrization is None else linear.reparametrization(stored)
    return used


def acts_on_activations(norm: nn.Module) -> bool:
    """Whether a normalisation is one, and one of activations."""
    return not isinstance(norm, nn.Identity | Reparametrization)


def attach(norm: nn.Module, linear: Map) -> nn.Module | None:
    """Put a normalisation where it belongs: onto the map's weight (None), or anywhere as a module on activations."""
    if not isinstance(norm, Reparametrization):
        return norm
    linear.reparametrization = norm
    norm.attach(linear.weight)
    return None


class Branch(nn.Sequential):
    """What a skip connection goes around: modules in a row, among them the maps that carry its signal.

    Args:
        modules: in order; None and identities are left out.
        maps: the linear maps among them or inside them, the first nearest the input.
        last_norm: the normalisation that acts on the last map's output within the branch, if any.
    """

    def __init__(
        self, modules: Sequence[nn.Module | None], maps: Sequence[Map], last_norm: nn.Module | None = None
    ) -> None:
        super().__init__(*(module for module in modules if module is not None and not isinstance(module, nn.Identity)))
        self.maps = tuple(maps)  # a tuple registers nothing a second time
        self._last_norm = (last_norm,)

    def scale(self) -> Tensor | None:
        """The scale γ of the normalisation after the last map, if there is one."""
        scale = getattr(self._last_norm[0], "weight", None)
        return scale if isinstance(scale, Tensor) else None


def _zero(linear: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
