"""What an activation is: a module that knows how many pre-activations it takes, how steep it is, and its moments.

Features are counted along `gradflow.models.features.feature_axis`: axis 1 of images, the last axis otherwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models.features import feature_axis
from gradflow.theory.moments import Moments, expectation, moments


class Activation(nn.Module, ABC):
    """Maps pre-activations with `units_in(width)` features to outputs with `width`; other axes are left alone.

    Attributes:
        derivative_bound: sup |∂h/∂z| over outputs h and pre-activations z, ∞ where there is none: the γ of the
            condition under which gradients must vanish (Pascanu, Mikolov & Bengio 2013, section 2.1). A learnt slope
            counts with its initial value.
    """

    derivative_bound: float

    def units_in(self, width: int) -> int:
        """Pre-activation units that a layer must compute for `width` outputs.

        Raises:
            ValueError: if no number of units gives that width.
        """
        return width

    @abstractmethod
    def moments(self, variance: float = 1.0) -> Moments:
        """What independent pre-activations z ~ N(0, variance) become; learnt numbers count with their initial values.

        Computed in float64 on the CPU, whatever the default device, and remembered for equal activations.
        """

    @property
    def gain(self) -> float:
        """1/√E φ(z)² for z ~ N(0, 1): times 1/√fan_in, the weights' standard deviation that keeps the pre-activations'
        second moment at 1 from layer to layer. √2 for ReLU, √(2/(1 + a²)) with a slope a (He et al. 2015, eq. 15).
        """
        return 1 / math.sqrt(self.moments().square)


class Elementwise(Activation):
    """h = φ(z), element by element.

    Args:
        phi: φ(z, **keys), a function with a name of its own, so that equal activations share their moments.
        derivative_bound: see `Activation`.
        kinks: where φ or φ′ jumps, apart from 0.
        keys: of φ.
    """

    def __init__(
        self, phi: Callable[..., Tensor], derivative_bound: float, kinks: tuple[float, ...] = (), **keys: float | str
    ) -> None:
        super().__init__()
        self.phi = phi
        self.derivative_bound = derivative_bound
        self.kinks = kinks
        self.keys = keys

    def forward(self, z: Tensor) -> Tensor:
        return self.phi(z, **self.keys)

    def moments(self, variance: float = 1.0) -> Moments:
        return _moments(self.phi, variance, self.kinks, **self.keys)

    def extra_repr(self) -> str:
        return ", ".join([self.phi.__name__, *(f"{key}={value}" for key, value in self.keys.items())])


class PReLU(Activation):
    """h = z above 0, a·z below, with one slope a for the layer, learnt from its initial value."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.initial = slope
        self.derivative_bound = max(1.0, slope)
        self.slope = nn.Parameter(torch.tensor([float(slope)]))

    def forward(self, z: Tensor) -> Tensor:
        return functional.prelu(z, self.slope)

    def moments(self, variance: float = 1.0) -> Moments:
        return _moments(functional.leaky_relu, variance, negative_slope=self.initial)

    def extra_repr(self) -> str:
        return f"slope={self.initial}"


class RReLU(Activation):
    """h = z above 0, a·z below, with a ~ U[lower, upper] drawn for every element while training, their mean otherwise.

    The moments are those of training, over z and a alike: E a where the slope enters once, E a² where it enters twice.
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.derivative_bound = max(1.0, upper)

    def forward(self, z: Tensor) -> Tensor:
        return functional.rrelu(z, self.lower, self.upper, training=self.training)

    def moments(self, variance: float = 1.0) -> Moments:
        lower, upper = self.lower, self.upper
        once = _moments(functional.leaky_relu, variance, negative_slope=(lower + upper) / 2)
        twice = _moments(
            functional.leaky_relu, variance, negative_slope=math.sqrt((lower**2 + lower * upper + upper**2) / 3)
        )
        return replace(twice, mean=once.mean, slope=once.slope, error=max(once.error, twice.error))

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}"


class CReLU(Activation):
    """h = [max(z, 0), max(−z, 0)], first all of the one kind, then all of the other.

    Of the two derivatives, 1 and −1, one is in force: n outputs have E‖J‖² = n/2, so that slope_square = 1/2 as for
    ReLU, while the two slopes, 1/2 and −1/2, have mean 0.
    """

    derivative_bound = 1.0

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.relu(z), torch.relu(-z)], feature_axis(z))

    def units_in(self, width: int) -> int:
        if width % 2:
            raise ValueError(
                f"activation=crelu gives two outputs per unit: width {width} must be even, such as {width + 1}"
            )
        return width // 2

    def moments(self, variance: float = 1.0) -> Moments:
        return replace(_moments(torch.relu, variance), slope=0.0)


class Maxout(Activation):
    """h = the largest of `pieces` pre-activations; piece k of output j is feature k·width + j.

    One derivative is 1 and the others 0, so that slope = slope_square = 1, whatever the variance. The largest of k
    independent Gaussians has the density k Φ(z/σ)ᵏ⁻¹ times theirs; for k = 2 its second moment is theirs.
    """

    derivative_bound = 1.0

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, z: Tensor) -> Tensor:
        axis = feature_axis(z) % z.ndim
        return torch.unflatten(z, axis, (self.pieces, -1)).amax(axis)

    def units_in(self, width: int) -> int:
        return self.pieces * width

    def moments(self, variance: float = 1.0) -> Moments:
        return _moments_of_largest(self.pieces, variance)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"


class SwiGLU(Activation):
    """h = silu(a)·b, where a is the first half of the pre-activations and b the second.

    a and b being independent, E h² = E silu(a)² E b², and the row of J is (silu′(a)·b, silu(a)):
    slope_square = variance · E silu′² + E silu², slope = E silu.
    """

    derivative_bound = math.inf

    def forward(self, z: Tensor) -> Tensor:
        a, b = z.chunk(2, feature_axis(z))
        return functional.silu(a) * b

    def units_in(self, width: int) -> int:
        return 2 * width

    def moments(self, variance: float = 1.0) -> Moments:
        gate = _moments(functional.silu, variance)
        return Moments(
            mean=0.0,
            square=variance * gate.square,
            slope=gate.mean,
            slope_square=variance * gate.slope_square + gate.square,
            error=gate.error,
        )


@lru_cache(maxsize=4096)
def _moments(
    phi: Callable[..., Tensor], variance: float, kinks: tuple[float, ...] = (), **keys: float | str
) -> Moments:
    return moments(partial(phi, **keys), variance, kinks)


@lru_cache(maxsize=4096)
def _moments_of_largest(count: int, variance: float) -> Moments:
    def integrand(z: Tensor) -> Tensor:
        density_ratio: Tensor = count * torch.special.ndtr(z / math.sqrt(variance)) ** (count - 1)
        return density_ratio * torch.stack([z, z.square()])

    (mean, square), error = expectation(integrand, variance)
    return Moments(mean, square, slope=1.0, slope_square=1.0, error=error)
