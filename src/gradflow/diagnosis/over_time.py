"""The time axis of a recurrent layer at its last probe: lengths, horizons, rates, and the gradient's two ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GRADIENT = "time_grad_"
QUANTILES = ("_q10", "_q90")


@dataclass(frozen=True)
class TimeAxis:
    """One recurrent layer.

    Attributes:
        name: of the layer.
        step: of training, at which it was probed last.
        length: time steps of the sequence.
        numbers: what the probe says without a time, such as 'memory_horizon_1%', 'time_decay' and 'lyapunov_1'.
        ratios: median norm of ∂L/∂state at the first time step ÷ at the last, by part of the state ('h', 'c'), from the
            output's side: of a layer that reads backwards it is the other way round.
    """

    name: str
    step: int
    length: int
    numbers: Mapping[str, float]
    ratios: Mapping[str, float]

    @property
    def horizon(self) -> float | None:
        """Steps back until the gradient is below 1 % of the last step's; `length` where it never is."""
        return self.numbers.get("memory_horizon_1%")


def time_axes(
    names: Sequence[str],
    quantities: Sequence[str],
    step: np.ndarray,
    name: np.ndarray,
    moment: np.ndarray,
    quantity: np.ndarray,
    value: np.ndarray,
) -> tuple[TimeAxis, ...]:
    """The layers that have rows with a time; `name` and `quantity` are places in the lists of words."""
    timed = ~np.isnan(moment)
    found = []
    for layer in np.unique(name[timed]):
        last = int(step[timed & (name == layer)].max())
        here = (name == layer) & (step == last)
        inside = here & timed
        length = int(moment[inside].max()) + 1
        numbers = {
            quantities[q]: float(v)
            for q, v in zip(quantity[here & ~timed], value[here & ~timed], strict=True)
            if np.isfinite(v)
        }
        reverse = names[layer].endswith(".backward")
        ratios = {}
        for place in np.unique(quantity[inside]):
            word = quantities[place]
            if word.startswith(GRADIENT) and not word.endswith(QUANTILES):
                curve = inside & (quantity == place)
                order = np.argsort(moment[curve])
                ends = value[curve][order][[0, -1]]
                early, late = ends[::-1] if reverse else ends
                if late > 0 and np.isfinite(early) and length > 1:
                    ratios[word.removeprefix(GRADIENT)] = float(early / late)
        found.append(TimeAxis(names[layer], last, length, numbers, ratios))
    return tuple(found)
