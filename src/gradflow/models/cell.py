"""What a recurrent cell is: one step of a state, written once, and the fast way through a sequence where there is one.

Shapes: B batch, T time, F features of an input, G numbers per step that a cell makes of them, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from gradflow.models.layers import Role

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, int], State]  # (the inputs' part z_BG of a step, state, place in time) → state


@dataclass(frozen=True)
class Matrix:
    """A weight that an initialiser fills: one gate's part of a parameter.

    Attributes:
        tensor: [units, fan_in], a view of a parameter.
        role: 'recurrent' from states to states, 'gate' or 'map' from inputs: to a gate, and to what is gated.
        bias: [units] of the same map, which begins at 0; None if it has none.
    """

    tensor: Tensor
    role: Role
    bias: Tensor | None = None


class Cell(nn.Module):
    """One recurrent layer's mathematics.

    A subclass defines `begin`; `fast` where there is a fused kernel or a parallel scan; `read` where the output is not
    the state itself. Constructors draw nothing and fill parameters with zeros.

    Args:
        features: F, numbers per step of the input.
        width: H, numbers per step of the output.

    Attributes:
        inputs: G; H unless a subclass says otherwise.
        state_names: one word per part of the state; the first part, 'h', is what `read` turns into the output.
        linear: whether the recurrence is linear in the state: it is then scanned, and takes no skips through time.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    linear: ClassVar[bool] = False

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.features, self.width, self.inputs = features, width, width

    def start(self, x_BTF: Tensor) -> State:
        """The state before the first step: zeros [B, H] for every part."""
        return tuple(x_BTF.new_zeros(len(x_BTF), self.width) for _ in self.state_names)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        """All that does not depend on the state, computed at once: z_BTG, and the function of one step.

        The step must be a function of its arguments and of what `begin` has computed: it is called T times, and the
        same step may be called twice.
        """
        raise NotImplementedError

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        """The first parts h_BTH of all states, and the last state, in one call; None: only step by step."""
        return None

    def read(self, h_BTH: Tensor, x_BTF: Tensor) -> Tensor:
        """The output [B, T, H] of states and inputs."""
        return h_BTH

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        """What share [B, H] of each unit's memory a step keeps (a forget gate); None for cells without such a gate.

        Args:
            z_BG: the inputs' part of this step, from the latest call of `begin`.
            state: before this step.
            time: its place.
        """
        return None

    def matrices(self) -> Iterator[Matrix]:
        """Every weight that `init` and `recurrent_init` fill, gate by gate."""
        return iter(())

    def reset(self, generator: Generator) -> None:
        """Fill the parameters that `matrices` leaves out; the last thing that happens to a cell before training."""


def gates(parameter: Tensor, bias: Tensor | None, roles: tuple[Role, ...]) -> Iterator[Matrix]:
    """The parts of a parameter [gates · H, fan_in], and of its bias, one per role."""
    tensors = parameter.detach().chunk(len(roles))
    biases = (None,) * len(roles) if bias is None else bias.detach().chunk(len(roles))
    for tensor, role, part in zip(tensors, roles, biases, strict=True):
        yield Matrix(tensor, role, part)


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))


def phi(activation: nn.Module) -> object:
    """The function behind an elementwise activation, by which fused kernels are chosen; None for others."""
    return getattr(activation, "phi", None)


def brings_its_own(name: str, activation: Callable[[], nn.Module]) -> None:
    """For cells whose non-linearities are part of their definition.

    Raises:
        ValueError: if the person has asked for another activation than tanh, the recurrent models' default.
    """
    if phi(activation()) is not torch.tanh:
        raise ValueError(
            f"cell={name} has its own non-linearities, so that another activation has no effect: "
            "use activation=tanh, which stands for them, or cell=rnn"
        )
