"""Mean-field theory of a wide random recurrent network: its fixed point, and how fast gradients through time decay.

h_t = φ(g W h_{t−1} + input), with N(0, 1/H) weights W: a step in time is a layer of a plain network with σ_w² = g² and
σ_b² = v, the variance that the input adds, so that the fixed point is that of `gradflow.theory.fixed_point`. One step
back in time multiplies the expected squared norm of the gradient by χ₁ = g² E φ′(z)² (Poole et al. 2016; Schoenholz et
al. 2017, for layers instead of steps), so that the largest Lyapunov exponent is ½ ln χ₁: below 0 memory fades, above 0
the network is chaotic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gradflow.theory.fixed_point import fixed_point


@dataclass(frozen=True)
class MeanField:
    """Of a wide random recurrent network.

    Attributes:
        variance: q*, of the pre-activations.
        chi: χ₁, by which one step multiplies the expected squared norm of the gradient.
    """

    variance: float
    chi: float

    @property
    def exponent(self) -> float:
        """The largest Lyapunov exponent per step, and the slope of ln‖∂h_T/∂h_t‖ over the lag."""
        return 0.5 * math.log(self.chi) if self.chi > 0 else -math.inf

    def log10_gradient(self, lag: int) -> float:
        """log₁₀ of ‖∂L/∂h_{T−lag}‖ / ‖∂L/∂h_T‖, in root mean square, for a loss at step T alone: what a measured curve
        over lags is to be laid beside.

        Args:
            lag: steps back in time, at least 0.
        """
        return lag * self.exponent / math.log(10) if lag else 0.0


def mean_field(
    phi: Callable[[Tensor], Tensor], gain: float, input_variance: float = 0.0, kinks: Sequence[float] = ()
) -> MeanField:
    """The fixed point that the pre-activations' variance reaches from 1.

    Args:
        phi: acts element by element; see `gradflow.theory.moments.moments`.
        gain: g, √H times the standard deviation of recurrent weights.
        input_variance: v, of what inputs and biases add to pre-activations, independent from step to step.
        kinks: see `moments`.

    Raises:
        ValueError: if the variance does not settle, as that of ReLU with g > √2, or an argument is negative.

    >>> round(mean_field(lambda z: z, 0.5).exponent - math.log(0.5), 9) + 0.0
    0.0
    """
    if not (gain > 0 and input_variance >= 0):
        raise ValueError(f"gain={gain}, input_variance={input_variance}: must be above 0, and at least 0")
    found = fixed_point(phi, gain**2, input_variance, kinks)
    if math.isinf(found.q):
        raise ValueError(f"gain={gain}: the variance of pre-activations does not settle; it grows without bound")
    return MeanField(found.q, found.chi)
