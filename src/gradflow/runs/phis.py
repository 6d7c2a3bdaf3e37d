"""An activation as theory takes it: φ as a function of numbers, where it is one, and the moments of one that is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models.activation import CReLU, Elementwise, Maxout, PReLU, RReLU, SwiGLU
from gradflow.theory.norms import Activated
from gradflow.theory.response import Phi, response


@dataclass(frozen=True)
class ByMoments:
    """An activation of several pre-activations, or of random slope, in the place of a norm in front of φ, which it
    takes no notice of.

    Attributes:
        kind: 'swiglu': silu(a)·b; 'maxout': the larger of two; 'rrelu': a slope drawn for every element.
        low, high: of rrelu's slope below 0.
        eps: of a layer's normalisation before it; None if there is none.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    eps: float | None = None

    def activate(self, phi: Phi, q: float, c: float, kinks: tuple[float, ...]) -> Activated:
        scale = 1.0 if self.eps is None else 1 / (q + self.eps)
        made = {"swiglu": self._swiglu, "maxout": self._maxout, "rrelu": self._rrelu}[self.kind](q * scale, c)
        return Activated(made.mean, made.square, made.product, made.back * scale)

    def _swiglu(self, q: float, c: float) -> Activated:
        """a and b being independent, of E b² = q and E bb′ = qc, all factors."""
        r = response(functional.silu, q, c)
        back = np.diag([q * r.slope_square + r.square, q * c * r.slope_product + r.product])
        return Activated(0.0, q * r.square, q * c * r.product, back)

    def _maxout(self, q: float, c: float) -> Activated:
        """max(a, b) = s + |d| with independent s = (a + b)/2 and d = (a − b)/2; the gradient goes to the larger, in
        both examples to the same unless d changes its sign."""
        r = response(torch.abs, q / 2, c)
        back = np.diag([1.0, (1 + r.slope_product) / 2])
        return Activated(r.mean, q / 2 + r.square, q * c / 2 + r.product, back)

    def _rrelu(self, q: float, c: float) -> Activated:
        """E a where the slope a enters once, E a² where it enters twice; two examples have slopes of their own."""
        once = response(leaky((self.low + self.high) / 2), q, c)
        twice = response(leaky(math.sqrt((self.low**2 + self.low * self.high + self.high**2) / 3)), q, 1.0)
        back = np.diag([twice.slope_square, once.slope_product])
        return Activated(once.mean, twice.square, once.product, back)


@dataclass(frozen=True)
class Known:
    """What theory knows of an activation.

    Attributes:
        phi: element by element.
        kinks: where φ or φ′ jumps, apart from 0.
        moments: stands for φ where there is none.
        note: what is assumed.
    """

    phi: Phi
    kinks: tuple[float, ...] = ()
    moments: ByMoments | None = None
    note: str | None = None


def known(activation: nn.Module, word: str) -> Known:
    """See `Known`.

    Raises:
        ValueError: in a sentence that says why theory does not cover the activation.
    """
    if isinstance(activation, Elementwise):
        return Known(_of_keys(activation.phi, tuple(activation.keys.items())), activation.kinks)
    if isinstance(activation, PReLU):
        return Known(leaky(activation.initial), note="activation=prelu has the slope it begins with")
    if isinstance(activation, CReLU):
        return Known(torch.relu)  # one of relu(z), relu(−z) is in force: per output all moments are those of relu
    if isinstance(activation, RReLU):
        return Known(_identity, moments=ByMoments("rrelu", activation.lower, activation.upper))
    if isinstance(activation, SwiGLU):
        return Known(_identity, moments=ByMoments("swiglu"))
    if isinstance(activation, Maxout):
        if activation.pieces > 2:
            raise ValueError(f"activation=maxout is covered with 2 pieces, not with {activation.pieces}")
        return Known(_identity, moments=ByMoments("maxout"))
    if isinstance(activation, nn.Identity):
        return Known(_identity)
    if _acts_on_elements(activation):
        return Known(activation, note=f"activation={word} is taken to have no kinks but at 0")
    raise ValueError(f"activation={word} does not act on every element by itself")


@lru_cache(maxsize=1024)
def leaky(slope: float) -> Phi:
    """z above 0, slope·z below; equal slopes give the same function."""
    return partial(functional.leaky_relu, negative_slope=slope)


@lru_cache(maxsize=1024)
def _of_keys(phi: Callable[..., Tensor], keys: tuple[tuple[str, float | str], ...]) -> Phi:
    """φ with its keys filled in; equal ones give the same function, whose moments are remembered."""
    return partial(phi, **dict(keys)) if keys else phi


def _identity(z: Tensor) -> Tensor:
    return z


def _acts_on_elements(activation: nn.Module) -> bool:
    """Whether a module from elsewhere gives each element what it gives it alone, the same every time."""
    z = torch.linspace(-3, 3, 13, dtype=torch.float64)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            whole = activation(z)
            alone = torch.cat([activation(z[i : i + 1]) for i in range(len(z))])
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return whole.shape == z.shape and torch.allclose(whole, alone, rtol=1e-9, atol=1e-12)
