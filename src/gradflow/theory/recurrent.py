"""Mean-field theory of a wide random recurrent network: its fixed point, and how fast gradients through time decay.

h_t = φ(g W h_{t−1} + input), with N(0, 1/H) weights W: pre-activations become Gaussian with a variance q that settles
at q* = g² E φ(z)² + v, z ~ N(0, q*), v the variance that the input adds. One step back in time multiplies the expected
squared norm of the gradient by χ₁ = g² E φ′(z)² (Poole et al. 2016; Schoenholz et al. 2017, for layers instead of
steps), so that the largest Lyapunov exponent is ½ ln χ₁: below 0 memory fades, above 0 the network is chaotic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gradflow.theory.moments import moments

ITERATIONS = 10_000
SMALLEST = 1e-12  # below this variance the fixed point is taken to be 0, where φ is linear


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


def mean_field(
    phi: Callable[[Tensor], Tensor], gain: float, input_variance: float = 0.0, kinks: Sequence[float] = ()
) -> MeanField:
    """The fixed point, found by iterating the map from q = 1.

    Args:
        phi: acts element by element; see `gradflow.theory.moments.moments`.
        gain: g, √H times the standard deviation of recurrent weights.
        input_variance: v, of what inputs and biases add to pre-activations, independent from step to step.
        kinks: see `moments`.

    Raises:
        ValueError: if the variance does not settle, as that of ReLU with g > √2, or an argument is negative.

    >>> mean_field(lambda z: z, 0.5).exponent == math.log(0.5)
    True
    """
    if not (gain > 0 and input_variance >= 0):
        raise ValueError(f"gain={gain}, input_variance={input_variance}: must be above 0, and at least 0")
    variance = 1.0
    for _ in range(ITERATIONS):
        found = moments(phi, max(variance, SMALLEST), kinks)
        following = gain**2 * found.square + input_variance
        if not following < 1e12:
            break
        if following < SMALLEST or abs(following - variance) <= 1e-12 * variance:
            at = max(following, SMALLEST)
            return MeanField(
                following if following >= SMALLEST else 0.0, gain**2 * moments(phi, at, kinks).slope_square
            )
        variance = following
    raise ValueError(f"gain={gain}: the variance of pre-activations does not settle; it was {variance:.3g}")
