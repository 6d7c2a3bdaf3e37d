"""The regulariser that keeps the size of the gradient from one time step to the one before it.

Shapes: B batch, T time, F features of an input, H hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gradflow.models.activation import RReLU
from gradflow.models.cells.rnn import RNN
from gradflow.models.network import Network
from gradflow.models.recurrence import Recurrence
from gradflow.training.remedy import Remedy

if TYPE_CHECKING:
    from gradflow.tasks.task import Task


class Omega(Remedy):
    """The loss is E + α Ω, with Ω the mean over pairs of neighbouring steps, and the sum over layers, of

        ( ‖∂E/∂x_{k+1} · ∂x_{k+1}/∂x_k‖ / ‖∂E/∂x_{k+1}‖ − 1 )²

    (Pascanu, Mikolov & Bengio 2013, eq. 9). x_k is the state before its activation, x_{k+1} = U φ(x_k) + W u_{k+1} + b,
    so that ∂x_{k+1}/∂x_k = U diag(φ′(x_k)), and ∂E/∂x_{k+1} is the whole gradient, through all later steps. As in
    eq. 10 only the immediate derivative by the recurrent weight U is taken: states and ∂E/∂x are constants.

    The paper writes a sum over k. Here it is a mean over k and over the sequences of a batch, each with a gradient of
    its own, so that α does not depend on length and batch size. Steps at which ∂E/∂x is 0 do not count.

    The network's own forward and backward pass stay as they are. ∂E/∂x comes from the gradients of each layer's output,
    by the recursion of backpropagation through time in float64, in which a gradient that vanishes over hundreds of
    steps still has a direction where float32 has zeros.

    Args:
        alpha: α.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """Change nothing.

        Raises:
            ValueError: if a layer's ∂x_{k+1}/∂x_k is not that of the equation.
        """
        layers = recurrences(network)
        if not layers or not all(isinstance(layer.cell, RNN) for layer in layers):
            raise ValueError(
                "remedy.omega is defined for h_t = φ(W x_t + U h_{t−1} + b): use model=recurrent with cell=rnn or "
                "cell=irnn, or leave remedy=omega out"
            )
        for refused, what, way_out in (
            (any(map(is_normalized, layers)), "a norm inside the cell changes", "cell.recurrent_norm=none"),
            (any(layer.skip_time for layer in layers), "model.skip_time adds to", "model.skip_time=0"),
            (any(layer.zoneout for layer in layers), "model.zoneout changes", "model.zoneout=0"),
            (any(map(mixes_units, layers)), "this activation does not give", "activation=tanh"),
        ):
            if refused:
                raise ValueError(
                    f"remedy.omega: {what} the derivative U diag(φ′) of a state by the one before it, on which the "
                    f"penalty rests: use {way_out}, or leave remedy=omega out"
                )

    def losses(self, network: Network, task: Task, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        with _watched(recurrences(network)) as passes:
            out = network(x)
        yield task.loss(out, y)
        with torch.autocast(x.device.type, enabled=False):
            penalty = torch.stack([_omega(each) for each in passes]).sum()
        yield self.alpha * penalty


@dataclass
class _Pass:
    """What one layer saw and gave, in the order in which its cell goes through time.

    Attributes:
        inputs: [B, T, F].
        states: [B, T, H], which are the output.
        direct: ∂E/∂h [B, T, H] by way of the layers above, without the paths through later states; None before the
            backward pass, and where E does not depend on the layer.
    """

    cell: RNN
    inputs: Tensor
    states: Tensor
    direct: Tensor | None = None


@contextmanager
def _watched(layers: Sequence[Recurrence]) -> Iterator[list[_Pass]]:
    """Keeps what layers see and give inside, and the gradients of that in the backward pass that follows."""
    passes: list[_Pass] = []

    def keep(layer: Recurrence, args: tuple[Any, ...], out: Tensor) -> None:
        def order(sequence: Tensor) -> Tensor:
            return sequence.detach().flip(1) if layer.reverse else sequence.detach()

        def keep_gradient(gradient: Tensor) -> None:
            seen.direct = order(gradient)

        assert isinstance(layer.cell, RNN)
        seen = _Pass(layer.cell, order(args[0]), order(out))
        passes.append(seen)
        out.register_hook(keep_gradient)  # type: ignore[no-untyped-call]

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _omega(seen: _Pass) -> Tensor:
    """Ω of one layer: a function of its recurrent weight alone."""
    U = seen.cell.recurrent_weight
    if seen.direct is None:
        return 0 * U.sum()
    slope_BTH = _slopes(seen)
    later_BTH = _whole_gradients(seen.direct, slope_BTH, U.detach())[:, 1:]
    size_BT = torch.linalg.vector_norm(later_BTH, dim=-1)
    counted_BT = size_BT > 0
    direction_BTH = (later_BTH / size_BT.where(counted_BT, 1).unsqueeze(-1)).to(U.dtype)
    ratio_BT = torch.linalg.vector_norm((direction_BTH @ U) * slope_BTH[:, :-1], dim=-1)
    squares: Tensor = (ratio_BT - 1).square() * counted_BT
    mean: Tensor = squares.sum() / counted_BT.sum().clamp(min=1)
    return mean


def _slopes(seen: _Pass) -> Tensor:
    """φ′(x_k) at every step."""
    cell = seen.cell
    u_BTF, h_BTH = (each.to(cell.bias.dtype) for each in (seen.inputs, seen.states))
    with torch.no_grad():
        before_BTH = nn.functional.pad(h_BTH[:, :-1], (0, 0, 1, 0))
        x_BTH = linear(u_BTF, cell.input_weight, cell.bias) + linear(before_BTH, cell.recurrent_weight)
    x_BTH.requires_grad_()
    with torch.enable_grad():
        slope_BTH: Tensor = torch.autograd.grad(cell.activation(x_BTH).sum(), x_BTH)[0]
    return slope_BTH


@torch.no_grad()
def _whole_gradients(direct_BTH: Tensor, slope_BTH: Tensor, U: Tensor) -> Tensor:
    """∂E/∂x_k = (direct_k + ∂E/∂x_{k+1} U) ⊙ φ′(x_k), from the last step to the first."""
    wide = torch.float32 if U.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    U, direct_BTH, slope_BTH = U.to(wide), direct_BTH.to(wide), slope_BTH.to(wide)
    later_BH = torch.zeros_like(direct_BTH[:, 0])
    found = []
    for direct_BH, slope_BH in zip(reversed(direct_BTH.unbind(1)), reversed(slope_BTH.unbind(1)), strict=True):
        later_BH = torch.addmm(direct_BH, later_BH, U) * slope_BH
        found.append(later_BH)
    return torch.stack(found[::-1], 1)


def recurrences(network: Network) -> list[Recurrence]:
    """The recurrent layers of a network, in order."""
    return [module for module in network.modules() if isinstance(module, Recurrence)]


def is_normalized(layer: Recurrence) -> bool:
    """Whether norms inside the cell add to the derivative of a state by the one before it."""
    assert isinstance(layer.cell, RNN)
    return layer.cell.recurrent_norm != "none"


def mixes_units(layer: Recurrence) -> bool:
    """Activations that mix units, or draw their slopes anew at every call."""
    return layer.cell.inputs != layer.cell.width or any(isinstance(each, RReLU) for each in layer.cell.modules())
