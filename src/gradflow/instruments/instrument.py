"""What an instrument is: one measured quantity, and the moments of a training step at which it may look.

A step that is watched goes `output`, `activated` (forward), `delta`, `mapped` (backward), `before_clipping`, `inside`,
`after_clipping`, `after_update`. An instrument overrides what it needs; hooks are attached only for that, and only
during steps at which it is due. Whatever it measures stays on the training device: all instruments of a step come over
to the host in one copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from gradflow.instruments.blocks import Block

ABSENT = -math.inf  # the value of a row about which nothing is known at this step; it is dropped


@dataclass(frozen=True)
class Row:
    """What one number of a measurement is about: a block, or a parameter group, or a group within a block."""

    name: str
    block: int | None
    quantity: str


class Named(dict[str, Any]):
    """Keyword arguments of a call, told apart from a dict that was given as an argument."""


@dataclass(frozen=True)
class Reading:
    """Numbers of one instrument: `values` [R], one per row, on whatever device; `ABSENT` where there is none."""

    rows: Sequence[Row]
    values: Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """What one optimiser updates.

    Attributes:
        blocks: those with parameters of this optimiser, and of their parameters only these.
        groups: the optimiser's parameter groups.
        sharded: whether each process holds a share of every tensor, as under FSDP.
    """

    blocks: list[Block]
    groups: Sequence[dict[str, Any]] = ()
    sharded: bool = False

    @property
    def parameters(self) -> list[Tensor]:
        return [p for block in self.blocks for p in block.parameters]


@dataclass(eq=False)
class Update:
    """One update by one optimiser.

    Attributes:
        step: updates that this optimiser has made before.
        part: what it updates.
        scale: a factor that is still on the gradients: a loss scale.
        gradients: by id of the parameter, instead of the parameters' own `grad`.
    """

    step: int
    part: Part
    scale: Tensor | float = 1.0
    gradients: dict[int, Tensor] | None = field(default=None, repr=False)

    def gradient(self, parameter: Tensor) -> Tensor | None:
        """∂L/∂parameter × `scale`, or None."""
        return parameter.grad if self.gradients is None else self.gradients.get(id(parameter))


class Instrument:
    """One measured quantity. Each method does nothing unless an instrument overrides it.

    What `output`, `activated`, `delta` and `mapped` see adds up over the batches of one update and is reported by
    `inside`. They see the first `examples` of a batch, except `delta`, which sees all of it: cut it by
    `first`. What comes backward carries the loss scale of automatic mixed precision, which `inside` is told.

    Attributes:
        every: updates between two measurements.
        blocks: all that is watched, from `bind`.
        examples: of a batch that are looked at inside the network.
        beside: modules that are no blocks, whose `output` it wants to see too.
        of_loss_alone: whether it needs neither gradients nor parameters.
        looks_at_members: whether it can look inside several networks at once: `activated` and `inside` under
            `torch.func.vmap`, with what it remembers (tensors alone) in `state_dict`; see `instruments.members`.
    """

    of_loss_alone = False
    looks_at_members = False

    def __init__(self) -> None:
        self.every = 1
        self.examples = 32
        self.blocks: list[Block] = []
        self.beside: list[Block] = []

    @property
    def name(self) -> str:
        """The word for it in configs: the name of its module."""
        return type(self).__module__.rpartition(".")[2]

    def bind(self, model: nn.Module, blocks: list[Block]) -> None:
        """Learn what will be watched; called once, before the first step, and again if the blocks' order changes."""
        self.blocks = blocks

    def due(self, step: int) -> bool:
        """Whether it looks at update number `step`."""
        return step % self.every == 0

    def measures(self, step: int) -> bool:
        """Whether anything comes of its looking at update number `step`."""
        return self.due(step)

    def sees(self, step: int) -> bool:
        """Whether it looks inside the network during update number `step`: at no more steps than it is due."""
        return self.looks_inside and self.due(step)

    # --- inside the network, during a step that is due ------------------------------------------------------------

    def output(self, block: Block, inputs: tuple[Any, ...], output: Tensor) -> None:
        """A block's output (the first tensor of a tuple), all examples, before anything changes it in place.

        `inputs` are what it was called with, keyword arguments as a `Named` at the end.
        """

    def activated(self, block: Block, activation: nn.Module, z: Tensor, h: Tensor, slope: Tensor) -> None:
        """An activation inside a block: h = φ(z) and φ′(z) of the first examples, detached.

        Of one that mixes features, such as SwiGLU, `slope` is Σ_j ∂h_j/∂z_i, of z's shape.
        """

    def delta(self, block: Block, gradient: Tensor) -> None:
        """∂L/∂(block output), all examples, times the loss scale of automatic mixed precision."""

    def mapped(self, block: Block, module: nn.Module, x: Tensor, gradient: Tensor) -> None:
        """A linear map or convolution inside a block: its input and ∂L/∂(its output), first examples, loss scaled."""

    def loss(self, value: Tensor) -> None:
        """The loss of one batch, or a part of it, that is being differentiated: at every step, due or not."""

    # --- around the optimiser's update -----------------------------------------------------------------------------

    def before_clipping(self, update: Update) -> Reading | None:
        """The gradient is complete, unscaled and averaged over processes."""
        return None

    def after_clipping(self, update: Update) -> Reading | None:
        """The gradient as the optimiser used it."""
        return None

    def inside(self, scale: Tensor | float) -> Reading | None:
        """What was seen inside the network since the last call, which this ends; `scale` is on what came backward."""
        return None

    def after_update(self, update: Update) -> Reading | None:
        """The parameters have been changed."""
        return None

    # --- restarts --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a run must remember to go on with the same measurements: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; after `bind`."""

    def looks(self, moment: str) -> bool:
        """Whether it overrides a method."""
        return getattr(type(self), moment) is not getattr(Instrument, moment)

    @cached_property
    def looks_inside(self) -> bool:
        """Whether it needs hooks inside the network."""
        return any(self.looks(moment) for moment in ("output", "activated", "delta", "mapped"))


def first(tensor: Tensor, examples: int) -> Tensor:
    """The first examples along axis 0."""
    return tensor[:examples] if tensor.ndim else tensor


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of them, evenly spread, the first and the last among them."""
    last = len(names) - 1
    return list(names) if last < most else [names[round(i * last / max(1, most - 1))] for i in range(most)]
