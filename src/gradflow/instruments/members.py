"""One update of K models at once, as the instruments of each would have seen it.

What looks inside the network is asked once for all models, by `torch.func.vmap` of the same code that looks at one;
norms of gradients are taken over all axes but that of the models; what compares parameters is asked model by model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from gradflow.instruments.delta_norm import DeltaNorm
from gradflow.instruments.grad_norm import GradNorm
from gradflow.instruments.instrument import Instrument, Reading, Row, Update
from gradflow.instruments.slopes import evaluated
from gradflow.instruments.taps import Taps

if TYPE_CHECKING:
    from gradflow.instruments.session import Session

Gradients = dict[int, Tensor]  # by the id of the parameter


@dataclass
class Seen:
    """The readings of one model at one update.

    Attributes:
        before: by the instrument's place, those of `before_clipping`.
        later: the others, in their order.
    """

    before: dict[int, Reading] = field(default_factory=dict)
    later: list[Reading] = field(default_factory=list)


class MembersUpdate:
    """Call `before` when the gradients are complete, `clipped` when they are as the optimisers use them, and `after`
    the optimisers' step; the forward pass runs under `vmap` within `taps`, if there are any.

    Args:
        sessions: of models that differ in their numbers alone, with the same instruments.
        optimizers: of each.
        step: the update's number.

    Attributes:
        seen: of each model.
        taps: where instruments look inside the network.

    Raises:
        ValueError: if what looks inside cannot do so in several networks at once.
    """

    def __init__(self, sessions: Sequence[Session], optimizers: Sequence[Optimizer], step: int) -> None:
        self.seen = [Seen() for _ in sessions]
        self._step, self._sessions = step, sessions
        self._parts = [session.part(optimizer) for session, optimizer in zip(sessions, optimizers, strict=True)]
        self._updates: list[Update | None] = [None] * len(sessions)
        first = sessions[0]
        self._due = [(p, i) for p, i in enumerate(first.instruments) if i.due(step) and not i.of_loss_alone]
        self._inside = [(place, instrument) for place, instrument in self._due if instrument.sees(step)]
        looking = [instrument for _, instrument in self._inside]
        self.taps = Taps(first.model, first.blocks, looking, first.called or ()) if looking else None

    def before(
        self, gradients: Gradients, of_member: Callable[[int], Gradients], deltas: Sequence[Tensor | None]
    ) -> None:
        """
        Args:
            gradients: [K, …], by the first model's parameters.
            of_member: those of one, by its own parameters.
            deltas: ∂(sum of the losses)/∂ each of the taps' outputs.
        """
        part = self._parts[0]
        if part is None:
            return
        for place, instrument in self._due:
            if isinstance(instrument, GradNorm):
                values = instrument.of_members(part, gradients)
                for seen, value in zip(self.seen, values, strict=True):
                    seen.before[place] = Reading(instrument.rows(part), value)
            elif instrument.looks("before_clipping"):
                for k, seen in enumerate(self.seen):
                    reading = self._of(k, place).before_clipping(self._update(k, of_member))
                    if reading is not None:
                        seen.before[place] = reading
        if self.taps is not None:
            self._look_inside(self.taps, deltas)

    def clipped(self, gradients: Gradients) -> None:
        part = self._parts[0]
        for _, instrument in self._due:
            if isinstance(instrument, GradNorm) and instrument.clipped and part is not None:
                self._later(instrument.rows(part, "_clipped"), instrument.of_members(part, gradients))

    def after(self) -> None:
        for place, instrument in self._due:
            if instrument.looks("after_update"):
                for k, (seen, update) in enumerate(zip(self.seen, self._updates, strict=True)):
                    if update is not None:
                        reading = self._of(k, place).after_update(update)
                        seen.later += [] if reading is None else [reading]

    def _of(self, k: int, place: int) -> Instrument:
        return self._sessions[k].instruments[place]

    def _update(self, k: int, of_member: Callable[[int], Gradients]) -> Update:
        update, part = self._updates[k], self._parts[k]
        if update is None:
            assert part is not None
            update = self._updates[k] = Update(self._step, part, gradients=of_member(k))
        return update

    def _later(self, rows: Sequence[Row], values: Tensor) -> None:
        for seen, value in zip(self.seen, values, strict=True):
            seen.later.append(Reading(rows, value))

    def _look_inside(self, taps: Taps, deltas: Sequence[Tensor | None]) -> None:
        there = [(block, d) for (block, _), d in zip(taps.outputs, deltas, strict=True) if d is not None]
        found = self._activated(taps, [place for place, i in self._inside if i.looks("activated")])
        for place, instrument in self._inside:
            reading = instrument.of_members(there) if isinstance(instrument, DeltaNorm) else found.get(place)
            if reading is not None:
                self._later(reading.rows, reading.values)

    def _activated(self, taps: Taps, places: list[int]) -> dict[int, Reading]:
        """What instruments say of activations, by their places; the values are [K, R]."""
        each = list(evaluated(taps.passes))
        if not places or not each:
            return {}
        twins = {place: _twin(self._of(0, place)) for place in places}
        rows: dict[int, Sequence[Row]] = {}

        def of_one(zs: list[Tensor], hs: list[Tensor], slopes: list[Tensor], states: dict[int, Any]) -> tuple[Any, Any]:
            for place, twin in twins.items():
                twin.load_state_dict(states[place])
            for (one, *_), z, h, slope in zip(each, zs, hs, slopes, strict=True):
                for twin in twins.values():
                    twin.activated(one.block, one.activation, z, h, slope)
            readings = {place: reading for place, twin in twins.items() if (reading := twin.inside(1.0)) is not None}
            rows.update({place: reading.rows for place, reading in readings.items()})
            return {p: r.values for p, r in readings.items()}, {p: twin.state_dict() for p, twin in twins.items()}

        theirs = [{place: self._of(k, place).state_dict() for place in twins} for k in range(len(self._sessions))]
        before = tree_map(lambda *tensors: torch.stack(tensors), *theirs)
        hs, slopes = [h for _, h, _ in each], [slope for *_, slope in each]
        values, after = vmap(of_one)([one.z for one, *_ in each], hs, slopes, before)
        for k in range(len(self._sessions)):
            for place in twins:
                self._of(k, place).load_state_dict(tree_map(lambda tensor, k=k: tensor[k], after[place]))
        return {place: Reading(rows[place], found) for place, found in values.items()}


def _twin(instrument: Instrument) -> Instrument:
    """One that may be fed with what the other must not remember."""
    twin = copy.copy(instrument)
    for name, value in vars(twin).items():
        if isinstance(value, list | dict):
            setattr(twin, name, copy.copy(value))
    return twin
