"""A norm over the time steps of a sequence, for each example of a batch.

Shapes: S measured times, B examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gradflow.instruments.layers_in_time import TimeLayer
from gradflow.instruments.memory_horizon import Decay, Horizon, decay, memory_horizon

LIFT = 2.0**100  # a power of two, so that dividing it out is exact
SMALL = 1e-30  # norms below this may have lost elements to float32's underflow, which begins at 1e-38


@dataclass(frozen=True)
class TimeCurve:
    """Norms of one part of one layer's state, in some sense, at several times.

    Attributes:
        layer: whose.
        part: 'h', 'c' …
        times: [S] in the sequence's own order, ascending.
        norms: [S, B], float64.
    """

    layer: TimeLayer
    part: str
    times: np.ndarray
    norms: np.ndarray

    def median(self) -> np.ndarray:
        """[S] over the examples."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> np.ndarray:
        """[S] over the examples; infinite or NaN where examples are."""
        with np.errstate(invalid="ignore"):
            values: np.ndarray = np.quantile(self.norms, q, axis=1)
        return values

    def backwards(self) -> tuple[np.ndarray, np.ndarray]:
        """(lags [S] from 0 upwards, norms [S, B]): from the last step that the layer makes to its first."""
        if self.layer.reverse:
            return self.times - self.times[0], self.norms
        return (self.times[-1] - self.times)[::-1], self.norms[::-1]

    def horizon(self, share: float = 0.01) -> Horizon | None:
        """See `memory_horizon`; of the median over the examples."""
        lags, _ = self.backwards()
        median = self.median()
        return memory_horizon(lags, median if self.layer.reverse else median[::-1], share)

    def decay(self) -> Decay | None:
        """See `gradflow.instruments.memory_horizon.decay`."""
        return decay(*self.backwards())


@dataclass(frozen=True)
class TimeCurves:
    """What was measured of all layers at once.

    Attributes:
        curves: one per layer and part of its state.
        without: why there is none, per name of a layer.
    """

    curves: list[TimeCurve]
    without: dict[str, str] = field(default_factory=dict)

    def layers(self) -> list[TimeLayer]:
        """Those that have curves, in order."""
        return list({curve.layer.index: curve.layer for curve in self.curves}.values())

    def horizon(self, layer: TimeLayer, share: float = 0.01) -> Horizon | None:
        """The longest of the horizons of a layer's parts: some cells' h is only read from c, and remembers nothing."""
        found = [each.horizon(share) for each in self.curves if each.layer is layer]
        return max((each for each in found if each is not None), key=lambda each: each.steps, default=None)

    def decay(self, layer: TimeLayer) -> Decay | None:
        """That of the part that decays most slowly."""
        found = [each.decay() for each in self.curves if each.layer is layer]
        return max((each for each in found if each is not None), key=lambda each: each.rate, default=None)

    def curve(self, name: str, part: str = "h") -> TimeCurve:
        """The curve of a layer by its name.

        Raises:
            KeyError: if there is none; with the reason where it is known.
        """
        for each in self.curves:
            if each.layer.name == name and each.part == part:
                return each
        raise KeyError(f"nothing measured of '{part}' in '{name}': {self.without.get(name, 'no such layer or part')}")


def norms_of(gradients: Sequence[Tensor]) -> Tensor:
    """‖·‖₂ of each example: [S, B] in float64 of S tensors [B, …], the real and imaginary parts of complex ones.

    Summed where no square can underflow; on devices without float64 each example is divided by its largest element.
    """
    stacked = torch.stack([torch.view_as_real(g) if g.is_complex() else g for g in gradients]).flatten(2)
    if stacked.device.type != "mps":
        norms: Tensor = torch.linalg.vector_norm(stacked, dim=2, dtype=torch.float64)
        return norms
    top = stacked.abs().amax(2, keepdim=True)
    unit = torch.where((top > 0) & top.isfinite(), top, 1.0)
    scaled: Tensor = (torch.linalg.vector_norm(stacked / unit, dim=2) * unit.squeeze(2)).cpu().double()
    return scaled


def safe_norms(differentiate: Callable[[float], list[list[Tensor]]]) -> list[Tensor]:
    """`norms_of` each of several groups of gradients, without the zeros that are only float32's underflow.

    Where a norm comes out below `SMALL`, everything is differentiated once more with a factor of `LIFT`, which reaches
    down to 1e-75. Beyond that use float64, in which nothing needs to be lifted.

    Args:
        differentiate: groups of gradients of the given factor times something; those of a group are of one shape.
    """
    first = differentiate(1.0)
    norms = [norms_of(group) for group in first]
    liftable = {torch.float32, torch.bfloat16, torch.complex64}
    if not any(g[0].dtype in liftable and bool((n < SMALL).any()) for g, n in zip(first, norms, strict=True)):
        return norms
    lifted = [norms_of(group) / LIFT for group in differentiate(LIFT)]
    return [
        torch.where((n < SMALL) & m.isfinite(), m, n) if g[0].dtype in liftable else n
        for g, n, m in zip(first, norms, lifted, strict=True)
    ]


def differentiated(
    output: Tensor, groups: Sequence[Sequence[Tensor]], factor: Tensor | float, missing: set[int] | None = None
) -> list[list[Tensor]]:
    """∂(factor · output)/∂ of every tensor of every group, in one backward pass; zeros where there is no dependence.

    Args:
        output: a scalar, or a tensor that the factor, of its shape, is multiplied with and summed over.
        groups: tensors that require a gradient.
        factor: the vector of a vector–Jacobian product.
        missing: gets the places of groups on none of whose tensors the output depends.
    """
    weight = factor if isinstance(factor, Tensor) else torch.full_like(output, factor)
    flat = [tensor for group in groups for tensor in group]
    found = iter(torch.autograd.grad(output, flat, weight, retain_graph=True, allow_unused=True))
    gradients = []
    for place, group in enumerate(groups):
        own = [next(found) for _ in group]
        if missing is not None and all(g is None for g in own):
            missing.add(place)
        gradients.append([torch.zeros_like(t) if g is None else g for g, t in zip(own, group, strict=True)])
    return gradients
