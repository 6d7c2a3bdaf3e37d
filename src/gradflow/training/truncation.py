"""Backpropagation through time that stops after a number of steps.

Shapes: B batch, T time, F features of an input, H features of the last block's output, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradflow.models.cell import Cell, State
from gradflow.models.network import Network
from gradflow.models.norms import InstanceNorm
from gradflow.models.recurrence import Recurrence, carrying
from gradflow.training.remedy import Remedy

if TYPE_CHECKING:
    from gradflow.tasks.task import Task

States = Sequence[State | None]  # of every recurrent layer; None: as a sequence begins


class Truncation(Remedy):
    """After every `every` steps the loss of that many outputs goes back `back` steps: BPTT(h; h′) with h = `back` and
    h′ = `every` (Williams & Peng 1990).

    A window of at most `back` steps is processed at a time, from the states that the steps before it have led to, taken
    as constants. No more than `back` steps of any graph exist at once. Windows end at the last step of a sequence and
    every `every` steps before it, so that none of them goes back less than it may; the first one covers all outputs
    that lie within `back` steps of the beginning, whose gradient is whole anyway. The first `task.washout` outputs have
    no loss.

    The gradients of all windows add up to one update per batch, so that runs with and without this remedy make the
    same number of updates. Each window's outputs are put among those of all other steps, which are constants, and the
    task's own loss of the whole sequence is differentiated: whatever its weights and means, the sum of the windows is
    the gradient of that loss without its paths of more than `back` steps, and all of it where `back` ≥ T.

    Tasks with one output: all but the last `back` steps are processed without gradient; where the head reads all
    steps, it reads those as constants.

    What is drawn anew at every call (dropout, zoneout, noise, stochastic depth) is drawn anew for every window: with
    `every` < `back` a step is processed by several windows, and in each of them has draws of its own.

    Args:
        key: the remedy's name in a config.
        every: h′, steps between two windows.
        back: h, steps that a loss goes back; a multiple of `every`.
    """

    def __init__(self, key: str, every: int, back: int) -> None:
        assert back % every == 0
        self.key, self.every, self.back = key, every, back

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """Change nothing.

        Raises:
            ValueError: if the network has no recurrent layer, or a part that must see more of a sequence than a window.
        """
        layers = [module for module in network.modules() if isinstance(module, Recurrence)]
        if not layers:
            raise ValueError(
                f"remedy.{self.key} shortens the way of the gradient through time, but this network has no recurrent "
                f"layer: use model=recurrent, or leave remedy={self.key} out"
            )
        for refused, what, way_out in (
            (any(layer.reverse for layer in layers), "model.bidirectional=true reads", "model.bidirectional=false"),
            (any(layer.skip_time for layer in layers), "model.skip_time reads states", "model.skip_time=0"),
            (_over_time(network), "norm=batch or instance takes statistics", "norm=layer"),
            (_by_step(network), "cell.recurrent_norm=batch counts steps", "cell.recurrent_norm=layer"),
        ):
            if refused:
                raise ValueError(
                    f"remedy.{self.key}: {what} beyond the window of {self.back} steps that is processed at a time: "
                    f"use {way_out}, or leave remedy={self.key} out"
                )

    def losses(self, network: Network, task: Task, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        if task.every_step:
            yield from self._windows(network, task, x, y)
        else:
            yield self._last(network, task, x, y)

    def _windows(self, network: Network, task: Task, x_BTF: Tensor, y: Tensor) -> Iterator[Tensor]:
        """The loss by windows. All but the last have the value 0, the last that of the whole sequence."""
        steps, stops = x_BTF.shape[1], self._stops(x_BTF.shape[1], task.washout)
        states: States = ()
        earlier_BTK: Tensor | float = 0.0
        at = first = 0  # the step that `states` lead to; the first output that has not had its loss
        for stop in stops:
            start = max(0, stop - self.back)
            if start > at:
                with torch.no_grad():
                    _, states = _run(network, network, x_BTF[:, at:start], states)
                at = start
            out, after = _run(network, network, x_BTF[:, start:stop], states)
            first = max(first, start)
            outputs_BTK = earlier_BTK + nn.functional.pad(out[:, first - start :], (0, 0, first, steps - stop))
            loss = task.loss(outputs_BTK, y)
            yield loss if stop == steps else loss - loss.detach()
            earlier_BTK, first = outputs_BTK.detach(), stop
            if self.every == self.back:  # the next window begins where this one ends
                states, at = after, stop

    def _stops(self, steps: int, washout: int) -> list[int]:
        """One past the last step of each window."""
        within = -(-max(0, steps - self.back) // self.every)  # windows after the first one that begins at step 0
        wanted = max(0, steps - washout - 1) // self.every  # windows after the first one that has a loss
        return [steps - self.every * left for left in range(min(within, wanted), -1, -1)]

    def _last(self, network: Network, task: Task, x_BTF: Tensor, y: Tensor) -> Tensor:
        """The loss of the one output at the end."""

        def trunk(x: Tensor) -> Tensor:
            x = network.stem(x)
            for block in network.blocks:
                x = block(x)
            return x

        start = max(0, x_BTF.shape[1] - self.back)
        if not start:
            return task.loss(network(x_BTF), y)
        with torch.no_grad():
            before_BTH, states = _run(network, trunk, x_BTF[:, :start], ())
        last_BTH, _ = _run(network, trunk, x_BTF[:, start:], states)
        out: Tensor = network.head(torch.cat([before_BTH, last_BTH], 1))
        return task.loss(out, y)


def _run(network: Network, part: Callable[[Tensor], Tensor], x: Tensor, states: States) -> tuple[Tensor, States]:
    """part(x), a network or some of it, from the given states of its layers; and the states that follow."""
    with carrying(network) as carries:
        for carry, state in zip(carries, states, strict=False):
            carry.state = state
        return part(x), [carry.state for carry in carries]


def _over_time(network: Network) -> bool:
    """Whether a normalisation between layers has statistics over the steps of a sequence."""
    inside = {id(module) for cell in _cells(network) for module in cell.modules()}
    between = [module for module in network.modules() if id(module) not in inside]
    return any(isinstance(module, _BatchNorm | InstanceNorm) for module in between)


def _by_step(network: Network) -> bool:
    """Whether a cell has running statistics, which are those of a place in the sequence."""
    return any("running" in name for cell in _cells(network) for name, _ in cell.named_buffers())


def _cells(network: Network) -> list[Cell]:
    return [module for module in network.modules() if isinstance(module, Cell)]
