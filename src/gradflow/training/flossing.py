"""Recurrent weights whose Lyapunov exponents are pushed to zero.

Shapes: B sequences, T time, F features of an input, H hidden units, k exponents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.functional import linear

from gradflow.models.cells.rnn import RNN
from gradflow.models.network import Network
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream
from gradflow.training.omega import is_normalized, mixes_units, recurrences
from gradflow.training.remedy import Pretraining, Remedy, Stage

if TYPE_CHECKING:
    from gradflow.tasks.task import Task

KEY = "remedy.gradient_flossing"


class Flossing(Remedy):
    """The loss is Σ_i λ_i² over the first k Lyapunov exponents of every recurrent layer (Engelken 2023).

    λ_i is the mean over steps of ln |R_ii|, where Q R is the QR decomposition of J_t Q_{t−1} at each step and
    J_t = diag(φ′(x_t)) U is the derivative of the state by the one before it, along the trajectory that a sequence of
    the training batch drives, from the zero state. It is differentiated through states and decompositions by the cell's
    weights and bias. Each sequence has exponents of its own; their squares are summed over exponents and layers, and
    averaged over sequences. A layer's input is taken as given. The first Q is a random orthonormal one, the same at
    every step of a run. A direction that dies out at once, as where ReLUs are off, has an exponent of −∞: the loss is
    then infinite, and the run has diverged.

    Flossing before training is a stage of the run: its steps are the first of `trainer.max_steps`, with the run's
    optimiser at its base learning rate, which then starts anew. The author's program has an Adam of its own for them,
    one sequence of 55 steps at a time, and a transient of 16 steps.

    Args:
        seed: of the first Q.
        exponents: k.
        before: updates before training.
        sequences: of a batch that are followed, the first ones.
        steps: the first ones of each sequence that are followed; None: all.
        warm_up: the share of them that does not count, while Q turns to the directions that grow fastest.
    """

    def __init__(
        self, seed: int, exponents: int, before: int, sequences: int, steps: int | None, warm_up: float
    ) -> None:
        self.seed, self.exponents, self.before = seed, exponents, before
        self.sequences, self.steps, self.warm_up = sequences, steps, warm_up

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """Lay out the stage before training.

        Raises:
            ValueError: if a layer's J_t is not that of the equation, or has fewer than k exponents; if no step counts,
                or none is left to train.
        """
        layers = recurrences(network)
        if not layers or not all(isinstance(layer.cell, RNN) for layer in layers):
            raise ValueError(
                f"{KEY} is defined for h_t = φ(W x_t + U h_{{t−1}} + b): use model=recurrent with cell=rnn or "
                "cell=irnn, or leave remedy=gradient_flossing out"
            )
        self._refuse_other_steps(layers)
        width = min(layer.cell.width for layer in layers)
        if self.exponents > width:
            raise ValueError(f"{KEY}.exponents={self.exponents}: a layer of {width} units has {width}: choose fewer")
        steps = task.input_shape[0] if task.shortest is None else task.shortest
        steps = steps if self.steps is None else min(steps, self.steps)
        if steps < 2:
            raise ValueError(f"{KEY}: one step of a sequence has no exponents: set {KEY}.steps=2 or more")
        if self.before >= total:
            raise ValueError(
                f"{KEY}.before={self.before} leaves none of the run's {total} steps to train the task: choose fewer, "
                "or raise trainer.max_steps"
            )
        if self.before:
            self.pretraining = _Before(self)

    def _refuse_other_steps(self, layers: list[Recurrence]) -> None:
        for refused, what, way_out in (
            (any(map(is_normalized, layers)), "a norm inside the cell changes", "cell.recurrent_norm=none"),
            (any(layer.skip_time for layer in layers), "model.skip_time adds to", "model.skip_time=0"),
            (any(layer.zoneout for layer in layers), "model.zoneout changes", "model.zoneout=0"),
            (any(map(mixes_units, layers)), "this activation does not give", "activation=tanh"),
        ):
            if refused:
                raise ValueError(
                    f"{KEY}: {what} the derivative diag(φ′) U of a state by the one before it, whose exponents these "
                    f"are: use {way_out}, or leave remedy=gradient_flossing out"
                )

    def penalty(self, network: Network, x_BTF: Tensor) -> Tensor:
        """Σ_i λ_i² on a batch."""
        x_BTF = x_BTF[: self.sequences, : self.steps]
        with torch.autocast(x_BTF.device.type, enabled=False):
            return torch.stack([exponents.square().sum(1).mean() for exponents in self.of_layers(network, x_BTF)]).sum()

    def of_layers(self, network: Network, x_BTF: Tensor) -> Iterator[Tensor]:
        """The exponents [B, k] of every layer on a batch, as they come out of the decompositions: nearly in order."""
        layers = recurrences(network)
        for index, (layer, seen) in enumerate(zip(layers, _inputs(network, layers, x_BTF), strict=True)):
            cell = layer.cell
            assert isinstance(cell, RNN)
            generator = stream(self.seed, "gradient flossing", index)
            first_Hk = torch.randn(cell.width, self.exponents, generator=generator, dtype=torch.float64)
            u_BTF = (seen.flip(1) if layer.reverse else seen).to(cell.bias)
            yield exponents_of(cell, u_BTF, torch.linalg.qr(first_Hk).Q.to(cell.bias), self.warm_up)


class FlossingThroughout(Flossing):
    """`Flossing` before training, and after it at every step of the run that `every` divides, where `weight` times its
    loss is added to the task's.

    The author's program stops training now and then instead, for hundreds of updates of this loss alone.

    Args:
        every: 1 for every step.
        weight: of Σ_i λ_i².
    """

    def __init__(self, *args: Any, every: int, weight: float) -> None:
        super().__init__(*args)
        self.every, self.weight = every, weight
        self._step = 0

    def begins(self, step: int) -> None:
        self._step = step

    def losses(self, network: Network, task: Task, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        yield task.loss(network(x), y)
        if self._step % self.every == 0:
            yield self.weight * self.penalty(network, x)


class _Before(Pretraining):
    def __init__(self, flossing: Flossing) -> None:
        super().__init__([Stage("gradient flossing", 0, flossing.before)])
        self.flossing = flossing

    def loss(self, network: Network, stage: int, x: Tensor, y: Tensor) -> Tensor:
        return self.flossing.penalty(network, x)


def exponents_of(cell: RNN, u_BTF: Tensor, first_Hk: Tensor, warm_up: float) -> Tensor:
    """The Lyapunov exponents [B, k] of a cell driven by a batch, differentiable by its weights and bias.

    Args:
        cell: with an elementwise activation.
        u_BTF: its inputs, of the weights' type.
        first_Hk: orthonormal vectors.
        warm_up: the share of steps that do not count.
    """
    drive_BTH = linear(u_BTF, cell.input_weight, cell.bias)
    h_BH = drive_BTH.new_zeros(len(u_BTF), cell.width)
    q_BHk = first_Hk.expand(len(u_BTF), *first_Hk.shape)
    skipped, logs = int(warm_up * u_BTF.shape[1]), []
    for time, drive_BH in enumerate(drive_BTH.unbind(1)):
        x_BH = drive_BH + linear(h_BH, cell.recurrent_weight)
        h_BH, slope_BH = jvp(cell.activation, (x_BH,), (torch.ones_like(x_BH),))  # type: ignore[misc]
        q_BHk, r_Bkk = torch.linalg.qr(slope_BH.unsqueeze(2) * (cell.recurrent_weight @ q_BHk))
        if time >= skipped:
            logs.append(r_Bkk.diagonal(dim1=1, dim2=2).abs().log())
    exponents: Tensor = torch.stack(logs).mean(0)
    return exponents


def _inputs(network: Network, layers: list[Recurrence], x_BTF: Tensor) -> list[Tensor]:
    """What every layer gets [B, T, F], without gradient."""
    seen: dict[Recurrence, Tensor] = {}

    def keep(layer: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(layer, Recurrence)
        seen[layer] = args[0].detach()

    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        with torch.no_grad():
            network(x_BTF)
    finally:
        for handle in handles:
            handle.remove()
    return [seen[layer] for layer in layers]
