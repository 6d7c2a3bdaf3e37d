"""The weights of a network, each with what an initialiser may ask of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gradflow.models.cell import Cell
from gradflow.models.layers import Conv1d, Map, Role
from gradflow.models.recurrence import Recurrence
from gradflow.models.skips import Block

Place = Literal["stem", "block", "query_key", "gate", "shortcut", "recurrent", "head"]


@dataclass(frozen=True, eq=False)
class Weight:
    """A weight of shape [units, fan_in, *kernel].

    Attributes:
        tensor: to be filled in place.
        bias: of the same map, 0 so far; None if it has none.
        role: where it is; a 'block' weight carries the signal of its block, a 'recurrent' one that of time.
        branches: number L of the network's skip connections.
        layers: number m of maps in its branch.
        last: whether it is the last map of a residual branch.
        scale: γ of the norm that follows the last map within the branch, if one does.
        activation: makes the network's activation.
        causal: whether it is a kernel over time, whose last tap is the present.
    """

    tensor: Tensor
    bias: Tensor | None = None
    role: Place = "block"
    branches: int = 1
    layers: int = 1
    last: bool = False
    scale: Tensor | None = None
    activation: Callable[[], nn.Module] = nn.Identity
    causal: bool = False

    @property
    def fan_in(self) -> int:
        """Inputs of one unit."""
        return self.tensor.shape[1] * math.prod(self.tensor.shape[2:])

    @property
    def fan_out(self) -> int:
        """Outputs that one input feeds, times the kernel's positions."""
        return self.tensor.shape[0] * math.prod(self.tensor.shape[2:])

    def gain(self) -> float:
        """1/√E[φ(z)²] of the network's activation, z ~ N(0, 1).

        Raises:
            ValueError: if the activation does not know it.
        """
        activation = self.activation()
        if isinstance(activation, nn.Identity):
            return 1.0
        gain = getattr(activation, "gain", None)
        if gain is None:
            raise ValueError(
                f"init.gain=activation: {type(activation).__name__} does not say its own; give init.gain as a number"
            )
        return float(gain)


def weights(network: nn.Module, activation: Callable[[], nn.Module] = nn.Identity) -> Iterator[Weight]:
    """Every parameter of two axes or more, with its place; of recurrent layers the weights of each gate by itself."""
    branches = [block.branch for block in network.modules() if isinstance(block, Block) and block.residual]
    inside = {id(linear): branch for branch in branches for linear in branch.maps}
    for path, module in network.named_modules():
        if isinstance(module, Cell | Recurrence):
            for matrix in module.matrices():
                yield Weight(
                    matrix.tensor, matrix.bias, _role(matrix.role), max(1, len(branches)), activation=activation
                )
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2:
                continue
            branch = inside.get(id(module))
            last = branch is not None and module is branch.maps[-1]
            yield Weight(
                parameter,
                getattr(module, "bias", None) if name == "weight" else None,
                _place(path, module),
                max(1, len(branches)),
                len(branch.maps) if branch else 1,
                last,
                branch.scale() if branch and last else None,
                activation,
                isinstance(module, Conv1d),
            )


def _place(path: str, module: nn.Module) -> Place:
    parts = path.split(".")
    if "stem" in parts:
        return "stem"
    if "head" in parts:
        return "head"
    return _role(module.role if isinstance(module, Map) else "map")


def _role(role: Role) -> Place:
    return "block" if role == "map" else role
