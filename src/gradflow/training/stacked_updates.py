"""torch's optimisers for parameters of K members at once, each with its own learning rate and other numbers.

`torch.optim` takes one number for a whole tensor. The formulas are those of its SGD, Adam, AdamW, RMSprop and Adagrad,
and so are the states, one on top of another.

Shapes: K members; a parameter, its gradient and its states [K, …], or several parameters side by side [K, N], whose
counts of steps are then [K, parameters].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Number = float | Tensor  # of all members, or [K, 1, …] where they differ
State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Whole:
    """A group's parameters side by side [K, N], and what belongs to them.

    Attributes:
        gradient: room for theirs; an update may change it.
        places: the parts of it [K, …], by the parameters' names.
    """

    parameters: Tensor
    states: State
    gradient: Tensor
    places: dict[str, Tensor]


class Group:
    """One parameter group of every member.

    Args:
        theirs: the members' own groups.
        states: by the parameters' names.
        whole: of which the parameters and their states are parts, if all have the same kinds of state.
    """

    def __init__(self, theirs: list[dict[str, Any]], states: dict[str, State], whole: Whole | None = None) -> None:
        self._theirs, self.states, self.whole = theirs, states, whole
        self._fixed: dict[tuple[str, int | None], float | list[float]] = {}

    def flag(self, key: str) -> bool:
        """What members have alike."""
        return bool(self._theirs[0][key])

    def times(self, key: str, tensor: Tensor, place: int | None = None) -> Number:
        """A number as it multiplies a tensor [K, …]; of several the one at a place."""
        number = self.number(key, place)
        if isinstance(number, float):
            return number
        return beside(torch.tensor(number, dtype=torch.float64, device=tensor.device).to(tensor.dtype), tensor)

    def number(self, key: str, place: int | None = None) -> float | list[float]:
        """Of all members, or a list where they differ. A learning rate changes from step to step."""
        if key == "lr":
            return self._read(key, place)
        if (key, place) not in self._fixed:
            self._fixed[key, place] = self._read(key, place)
        return self._fixed[key, place]

    def _read(self, key: str, place: int | None) -> float | list[float]:
        values = [float(group[key] if place is None else group[key][place]) for group in self._theirs]
        return values[0] if len(set(values)) == 1 else values


def beside(values_K: Tensor, tensor: Tensor) -> Tensor:
    """[K, 1, …] of as many axes as a tensor [K, …]."""
    return values_K.view(-1, *[1] * (tensor.ndim - 1))


def _decayed(group: Group, p: Tensor, g: Tensor) -> Tensor:
    """g + λ p."""
    return g if group.number("weight_decay") == 0.0 else g + group.times("weight_decay", p) * p


def _sgd(group: Group, p: Tensor, g: Tensor, state: State) -> None:
    g = _decayed(group, p, g)
    if "momentum_buffer" in state:
        momentum = group.times("momentum", p)
        buffer = state["momentum_buffer"].mul_(momentum).add_(g)
        g = g + momentum * buffer if group.flag("nesterov") else buffer
    _descend(p, g, group.times("lr", p))


def _descend(p: Tensor, g: Tensor, rate: Number) -> None:
    """p − rate × g, without a tensor in between: new memory costs more than the sums."""
    if isinstance(rate, float):
        p.add_(g, alpha=-rate)
    else:
        p.addcmul_(g, rate, value=-1.0)


def _follow_square(mean: Tensor, g: Tensor, keep: Number) -> Tensor:
    """mean ← keep × mean + (1 − keep) g²."""
    rest = 1 - keep
    mean.mul_(keep)
    return mean.addcmul_(g, g, value=rest) if isinstance(rest, float) else mean.addcmul_(rest * g, g)


def _adam(group: Group, p: Tensor, g: Tensor, state: State) -> None:
    _follow_moments(group, p, _decayed(group, p, g), state)


def _adamw(group: Group, p: Tensor, g: Tensor, state: State) -> None:
    p.mul_(1 - group.times("lr", p) * group.times("weight_decay", p))
    _follow_moments(group, p, g, state)


def _follow_moments(group: Group, p: Tensor, g: Tensor, state: State) -> None:
    state["step"].add_(1)
    b1, b2 = (group.times("betas", p, place) for place in (0, 1))
    state["exp_avg"].lerp_(g, 1 - b1)
    _follow_square(state["exp_avg_sq"], g, b2)
    c1, c2 = (beside(_correction(group, state["step"], place).to(p), p) for place in (0, 1))
    root = state["exp_avg_sq"].div(c2).sqrt_().add_(group.times("eps", p))
    _descend(p, torch.div(state["exp_avg"], root, out=root), group.times("lr", p) / c1)


def _correction(group: Group, steps: Tensor, place: int) -> Tensor:
    """1 − β^t of each member, in float64."""
    beta = torch.as_tensor(group.number("betas", place), dtype=torch.float64, device=steps.device)
    return 1 - beta ** steps.flatten(1)[:, 0].double() if steps.ndim > 1 else 1 - beta ** steps.double()


def _rmsprop(group: Group, p: Tensor, g: Tensor, state: State) -> None:
    g, decay = _decayed(group, p, g), group.times("alpha", p)
    state["step"].add_(1)
    square = _follow_square(state["square_avg"], g, decay)
    if group.flag("centered"):
        mean = state["grad_avg"].lerp_(g, 1 - decay)
        square = square - mean * mean
    change = g / square.sqrt().add_(group.times("eps", p))
    if "momentum_buffer" in state:
        change = state["momentum_buffer"].mul_(group.times("momentum", p)).add_(change)
    _descend(p, change, group.times("lr", p))


def _adagrad(group: Group, p: Tensor, g: Tensor, state: State) -> None:
    g = _decayed(group, p, g)
    state["step"].add_(1)
    root = state["sum"].addcmul_(g, g).sqrt().add_(group.times("eps", p))
    _descend(p, torch.div(g, root, out=root), group.times("lr", p))


UPDATES: dict[type[Optimizer], Callable[[Group, Tensor, Tensor, State], None]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adamw,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}
