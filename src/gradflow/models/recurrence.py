"""A recurrent layer: a cell driven through a sequence, fast where possible, step by step where somebody looks.

Shapes: B batch, T time, F features of an input, H hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor

from gradflow.models.cell import Cell, Matrix, State, zeros


class Observer(Protocol):
    """Somebody who looks at states while a sequence is processed, and may put others in their place.

    Attributes:
        every: steps from one look to the next; the last state of a sequence is always looked at. 1 makes a layer go
            step by step, k makes it call its fast way in segments of k steps.
    """

    every: int

    def __call__(self, time: int, state: State) -> State:
        """The state to go on with, and to read the output from, after step `time` (0 is the first of the sequence)."""


@dataclass
class Carry:
    """A state that is kept from one call of a layer to the next; `state` is None before the first."""

    state: State | None = None


class Recurrence(nn.Module):
    """A cell in one direction of time: [B, T, F] to [B, T, H].

    Args:
        cell: what happens at each step.
        zoneout: for each part of the state, the probability with which a unit keeps its old value for a step while
            training; at evaluation the expectation (Krueger et al. 2017, section 3).
        skip_time: k, for a second recurrent connection from the state of k steps ago: W_k h_{t−k} is added to what the
            cell makes of its input (Zhang et al. 2016, figure 2b; El Hihi & Bengio 1996); 0 for none.
        reverse: whether it runs from the last step to the first.

    Attributes:
        observer: looks at states, if set; see `Observer`. Its `time` counts in the sequence's own order.
        carry: keeps the state between calls, if set; see `carrying`.

    Raises:
        ValueError: for parts that do not go together.
    """

    observer: Observer | None = None
    carry: Carry | None = None

    def __init__(self, cell: Cell, zoneout: Sequence[float] = (), skip_time: int = 0, reverse: bool = False) -> None:
        super().__init__()
        if skip_time and cell.linear:
            raise ValueError(
                f"model.skip_time={skip_time} does not go with cell={_name(cell)}, whose linear recurrence has a lag "
                "of one step: use model.skip_time=0, or another cell"
            )
        self.cell, self.skip_time, self.reverse = cell, skip_time, reverse
        self.zoneout = tuple(zoneout) if any(zoneout) else ()
        if skip_time:
            self.skip_weight = zeros(cell.inputs, cell.width)

    def forward(self, x_BTF: Tensor) -> Tensor:
        x = x_BTF.flip(1) if self.reverse else x_BTF
        state = self.cell.start(x) if self.carry is None or self.carry.state is None else self.carry.state
        h, state = self._states(x, state)
        if self.carry is not None:
            self.carry.state = tuple(part.detach() for part in state)
        out = self.cell.read(h, x)
        return out.flip(1) if self.reverse else out

    def matrices(self) -> Iterator[Matrix]:
        """What initialisers fill here beside the cell's own: the skip's weight, gate by gate."""
        if self.skip_time:
            for part in self.skip_weight.detach().chunk(self.cell.inputs // self.cell.width):
                yield Matrix(part, "recurrent")

    def _states(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        steps = x.shape[1]
        observer = self.observer
        stride = steps if observer is None else min(observer.every, steps)
        # kernels of whole sequences have no form over an axis of members (`gradflow.training.pack`)
        if stride > 1 and not self.skip_time and not self.zoneout and not is_batchedtensor(x):
            pieces: list[Tensor] = []
            for start in range(0, steps, stride):
                found = self.cell.fast(x[:, start : start + stride], state)
                if found is None:
                    break
                h, state = found
                stop = start + h.shape[1]
                if observer is not None:
                    state = observer(self._time(stop - 1, steps), state)
                    pieces += [h[:, :-1], state[0].unsqueeze(1)]
                else:
                    pieces.append(h)
            else:
                return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)), state
        return self._loop(x, state)

    def _loop(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Step by step: the one form of every cell that instruments see and tests trust."""
        z_BTG, step = self.cell.begin(x)
        steps, observer = x.shape[1], self.observer
        hidden: list[Tensor] = []
        for time, z in enumerate(z_BTG.unbind(1)):
            if self.skip_time and time >= self.skip_time:
                z = z + nn.functional.linear(hidden[time - self.skip_time], self.skip_weight)
            before, state = state, step(z, state, time)
            if self.zoneout:
                state = self._zone(before, state)
            if observer is not None and ((time + 1) % observer.every == 0 or time == steps - 1):
                state = observer(self._time(time, steps), state)
            hidden.append(state[0])
        return torch.stack(hidden, 1), state

    def _zone(self, before: State, after: State) -> State:
        """Each unit keeps its old value with its part's probability."""
        mixed = []
        for old, new, share in zip(before, after, self.zoneout, strict=True):
            keep = torch.rand(new.shape, device=new.device) < share if self.training else share
            mixed.append(torch.where(keep, old, new) if isinstance(keep, Tensor) else keep * old + (1 - keep) * new)
        return tuple(mixed)

    def _time(self, place: int, steps: int) -> int:
        return steps - 1 - place if self.reverse else place


class Bidirectional(nn.Module):
    """Two layers, one in each direction of time: [B, T, F] to [B, T, 2·H] (Schuster & Paliwal 1997)."""

    def __init__(self, forward: Recurrence, backward: Recurrence) -> None:
        super().__init__()
        self.ahead, self.back = forward, backward

    def forward(self, x_BTF: Tensor) -> Tensor:
        return torch.cat([self.ahead(x_BTF), self.back(x_BTF)], -1)


@contextmanager
def carrying(network: nn.Module) -> Iterator[list[Carry]]:
    """Inside, every recurrent layer of a network begins where its last call ended, detached from it.

    States are carried, and nothing else: connections of `skip_time`, and the place in time that a cell's step is given,
    begin anew with each call.

    Yields:
        One `Carry` per layer, in order: to keep a state aside and put it back.
    """
    layers = [module for module in network.modules() if isinstance(module, Recurrence)]
    for layer in layers:
        layer.carry = Carry()
    try:
        yield [layer.carry for layer in layers if layer.carry is not None]
    finally:
        for layer in layers:
            layer.carry = None


def _name(cell: Cell) -> str:
    return type(cell).__name__.lower()
