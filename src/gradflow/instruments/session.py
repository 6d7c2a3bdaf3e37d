"""One model being watched: which instruments are due when, what each optimiser updates, and hooks put on and off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.optim import Optimizer

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block, in_order
from gradflow.instruments.instrument import Instrument, Part, Reading, Update
from gradflow.instruments.loss_curve import LossCurve
from gradflow.instruments.members import Seen
from gradflow.instruments.observer import Observer

Keep = Callable[[int, Reading], None]


class Session:
    """Leads instruments through the steps of a training loop that somebody else runs.

    `begin` before the first forward pass; then for every update of every optimiser `before`, `after`. Each optimiser
    counts its own updates; what is seen inside the network belongs to the first optimiser that updates any of it.

    Args:
        model: any module.
        blocks: what is watched, as `find_blocks` found it.
        instruments: each with its interval.
        keep: told (step, reading) of whatever was measured.
        find_order: whether the blocks are to be numbered by the order in which they run.
        loss_scale: the factor of automatic mixed precision at this moment, which what comes backward carries.

    Attributes:
        blocks: in the order in which they ran, once they have.
        loss_scale: as given.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block],
        instruments: Sequence[Instrument],
        keep: Keep,
        find_order: bool = False,
        loss_scale: Callable[[], Tensor | float] = lambda: 1.0,
    ) -> None:
        self.model, self.blocks, self.instruments = model, list(blocks), list(instruments)
        self._keep, self._find_order, self.loss_scale = keep, find_order, loss_scale
        self._sharded = ranks.is_sharded(model)
        self._parts: WeakKeyDictionary[Optimizer, Part | None] = WeakKeyDictionary()
        self._taken: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._leader: Any = None
        self._whole: Part | None = None
        self._observer = Observer(model, self.blocks, instruments)
        self._bind()

    def begin(self, step: int = 0) -> None:
        """The next forward pass belongs to update `step`."""
        self._observer.attach([i for i in self.instruments if i.sees(step)], self._find_order)

    def end(self) -> None:
        """Take all hooks off."""
        self._observer.detach()

    @property
    def called(self) -> set[nn.Module] | None:
        """The activations that instruments have been told of; None before they have looked for the first time."""
        return self._observer.called

    def part(self, optimizer: Optimizer) -> Part | None:
        """What `optimizer` updates of what is watched; None if nothing."""
        if optimizer not in self._parts:
            updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
            kept = [
                Block(b.name, b.index, tuple(p for p in b.parameters if id(p) in updated), b.module, b.whole)
                for b in self.blocks
            ]
            kept = [block for block in kept if block.parameters]
            self._parts[optimizer] = Part(kept, optimizer.param_groups, self._sharded) if kept else None
        return self._parts[optimizer]

    def steps_taken(self, optimizer: Optimizer, otherwise: int = 0) -> int:
        """How many updates an optimiser has made."""
        return self._taken.get(optimizer, otherwise)

    def before(
        self,
        optimizer: Optimizer,
        step: int,
        scale: Tensor | float = 1.0,
        gradients: dict[int, Tensor] | None = None,
        clipped: bool = False,
    ) -> Update | None:
        """The gradient for update `step` is complete and nothing has clipped it yet.

        Args:
            optimizer: which will take the step.
            step: its number.
            scale: still on the gradients.
            gradients: instead of the parameters' own.
            clipped: what comes before clipping was told by `by_hand`; this is what the optimiser receives.

        Returns:
            What to give to `after`; None if nothing watches this update.
        """
        self._taken[optimizer] = step + 1
        if self._find_order and self._observer.order:
            self._number()
        part = self.part(optimizer)
        if part is None:
            return None
        if self._leader is None:
            self._leader = id(optimizer)
        update = Update(step, part, scale, gradients)
        for instrument in self._due(step):
            self._take(step, (instrument.after_clipping if clipped else instrument.before_clipping)(update))
        if self._leader == id(optimizer):
            self._observer.tell()
            factor = self.loss_scale()
            for instrument in self._due(step):
                if instrument.sees(step):
                    self._take(step, instrument.inside(factor))
        return update

    def by_hand(self, step: int) -> None:
        """Measure what the parameters' `grad` holds now, whatever optimiser will use it."""
        if self._whole is None:
            self._whole = Part(self.blocks, (), self._sharded)
        for instrument in self.instruments:
            self._take(step, instrument.before_clipping(Update(step, self._whole)))

    def needs(self, step: int) -> str:
        """What update `step` must show to what measures it: 'inside' (of this network alone), 'members' (what
        `MembersUpdate` shows), 'loss', or ''."""
        if self._find_order:
            return "inside"
        measuring = [instrument for instrument in self.instruments if instrument.measures(step)]
        looking = [instrument for instrument in measuring if instrument.sees(step)]
        if any(not i.looks_at_members or (i.looks("activated") and self.called is None) for i in looking):
            return "inside"
        return "members" if any(not i.of_loss_alone for i in measuring) else "loss" if measuring else ""

    def passed(self, optimizer: Optimizer, first: int, losses: Tensor, seen: dict[int, Seen]) -> None:
        """Updates were made without `before` and `after`, of which no more was needed than 'members' and losses.

        Args:
            optimizer: that would have made them.
            first: the number of the first.
            losses: of each [n].
            seen: at those that need 'members'.
        """
        end = first + len(losses)
        self._taken[optimizer] = end
        curves = {i: i.of_steps(losses) for i in self.instruments if isinstance(i, LossCurve)}
        for step in range(first, end):
            here = seen.get(step, Seen())
            for place, instrument in enumerate(self.instruments):
                if instrument in curves and instrument.measures(step):
                    self._take(step, curves[instrument][step - first])
                self._take(step, here.before.get(place))
            for reading in here.later:
                self._take(step, reading)

    def loss(self, value: Tensor) -> None:
        """A loss that is being differentiated; those of one update add up."""
        for instrument in self.instruments:
            instrument.loss(value)

    def after(self, optimizer: Optimizer, update: Update | None, clipped: bool = False) -> None:
        """The optimiser has taken its step, `clipped` as for `before`."""
        if update is None:
            return
        for instrument in self._due(update.step):
            if not clipped:
                self._take(update.step, instrument.after_clipping(Update(update.step, update.part)))
            self._take(update.step, instrument.after_update(update))
        if self._leader == id(optimizer):
            self.begin(update.step + 1)

    def _due(self, step: int) -> list[Instrument]:
        return [instrument for instrument in self.instruments if instrument.due(step)]

    def _take(self, step: int, reading: Reading | None) -> None:
        if reading is not None and len(reading.rows):
            self._keep(step, reading)

    def _number(self) -> None:
        """Number the blocks by the order in which they ran in the first step."""
        self._observer.tell()
        self.blocks = in_order(self.blocks, self._observer.order)
        self._find_order = False
        self._parts.clear()
        self._whole = None
        self._bind()
        self._observer.detach()
        called = self._observer.called
        self._observer = Observer(self.model, self.blocks, self.instruments)
        self._observer.called = called

    def _bind(self) -> None:
        for instrument in self.instruments:
            instrument.bind(self.model, self.blocks)
