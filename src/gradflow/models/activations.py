"""Activations. Each is a function that makes an `Activation`: φ, and what theory says of it.

z is the pre-activation and φ acts on every element of any shape, unless it says otherwise. None works in place. All but
`rrelu` draw no random numbers; while training it draws from torch's global generator of the device it is on.
The dropout that goes with `selu` is not part of it: see `alpha_dropout` in the config.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gradflow.checked import NonNegative, Positive
from gradflow.models.activation import Activation, CReLU, Elementwise, Maxout, PReLU, RReLU, SwiGLU

Pieces = Annotated[int, Field(ge=2)]

SELU_LARGEST_SLOPE = 1.7580993408473766  # λα of Klambauer et al. 2017
GELU_LARGEST_SLOPE = (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi)  # at z = √2, where φ″ = 0
GELU_TANH_LARGEST_SLOPE = 1.1289930686587718  # at z = 1.41850, by Newton's method in 40 digits; so are the next two
SILU_LARGEST_SLOPE = 1.0998393201288669  # at z = 2.39936
MISH_LARGEST_SLOPE = 1.0884981612517279  # at z = 1.49057
SOFTPLUS_THRESHOLD = 36.0  # where φ = z in float64; at torch's own 20 it is 2e-9 off


def linear() -> Activation:
    """φ(z) = z. What is left of a network without non-linearity: a product of matrices (Saxe et al. 2014)."""
    return Elementwise(_identity, 1.0)


def sigmoid() -> Activation:
    """φ(z) = 1/(1 + e⁻ᶻ); φ′ ≤ 1/4, so that each block costs the gradient a factor of four or more."""
    return Elementwise(torch.sigmoid, 0.25)


def hard_sigmoid() -> Activation:
    """φ(z) = min(max(z + 3, 0), 6)/6; φ′ is 1/6 between −3 and 3 and 0 outside (Howard et al. 2019, section 5.2).

    Courbariaux, Bengio & David 2015 give the name to min(max((z + 1)/2, 0), 1).
    """
    return Elementwise(_hard_sigmoid, 1 / 6, kinks=(-3.0, 3.0))


def tanh() -> Activation:
    """φ(z) = tanh z; φ′ ≤ 1, reached only at 0."""
    return Elementwise(torch.tanh, 1.0)


def softsign() -> Activation:
    """φ(z) = z/(1 + |z|); φ′ = 1/(1 + |z|)² ≤ 1 falls off like a power, not like tanh's exponential
    (Bergstra et al. 2009; Glorot & Bengio 2010, table 1).
    """
    return Elementwise(functional.softsign, 1.0)


def softplus() -> Activation:
    """φ(z) = log(1 + eᶻ), a smooth ReLU; φ′ < 1 is the sigmoid (Dugas et al. 2001; Glorot, Bordes & Bengio 2011)."""
    return Elementwise(functional.softplus, 1.0, threshold=SOFTPLUS_THRESHOLD)


def relu() -> Activation:
    """φ(z) = max(z, 0); φ′ is 0 or 1 (Nair & Hinton 2010; Glorot, Bordes & Bengio 2011)."""
    return Elementwise(torch.relu, 1.0)


def leaky_relu(*, slope: NonNegative = 0.01) -> Activation:
    """φ(z) = z above 0 and slope · z below (Maas, Hannun & Ng 2013): no unit is ever dead.

    Args:
        slope: of the negative side; 0.01 as in the paper. Above 1 it is the steeper side.
    """
    return Elementwise(functional.leaky_relu, max(1.0, slope), negative_slope=slope)


def prelu(*, slope: NonNegative = 0.25) -> Activation:
    """φ(z) = z above 0 and a · z below, a being learnt: one number for the layer, the 'channel-shared' kind of
    He et al. 2015 (eq. 1, section 2.1). Having one axis it is left alone by initialisers and by weight decay.

    Args:
        slope: a at the start; 0.25 as in the paper.
    """
    return PReLU(slope)


def rrelu(*, lower: NonNegative = 1 / 8, upper: NonNegative = 1 / 3) -> Activation:
    """φ(z) = z above 0 and a · z below; while training a ~ U[lower, upper] anew for every element and pass, otherwise
    a = (lower + upper)/2 (Xu et al. 2015).

    Args:
        lower, upper: 1/8 and 1/3, torch's defaults. The paper draws the divisor 1/a from U[3, 8] instead.

    Raises:
        ValueError: if lower is above upper.
    """
    if lower > upper:
        raise ValueError(f"activation.lower={lower} must not be above activation.upper={upper}: swap them")
    return RReLU(lower, upper)


def elu(*, alpha: Positive = 1.0) -> Activation:
    """φ(z) = z above 0 and α(eᶻ − 1) below (Clevert, Unterthiner & Hochreiter 2016); φ′ ≤ max(1, α).

    Args:
        alpha: −α is the value for z → −∞; at 1, as in the paper, φ′ has no jump.
    """
    return Elementwise(functional.elu, max(1.0, alpha), alpha=alpha)


def selu() -> Activation:
    """φ(z) = λz above 0 and λα(eᶻ − 1) below, λ = 1.0507009873554805, α = 1.6732632423543772
    (Klambauer et al. 2017, eq. 2); φ′ < λα.

    The two numbers make mean 0 and variance 1 a fixed point, for weights of variance 1/fan_in: E φ = 0, E φ² = 1. There
    E φ′² = 1.0716, so that the gradient grows by 3.5 % per layer.
    """
    return Elementwise(functional.selu, SELU_LARGEST_SLOPE)


def celu(*, alpha: Positive = 1.0) -> Activation:
    """φ(z) = z above 0 and α(e^{z/α} − 1) below (Barron 2017): `elu` without the jump of φ′ ≤ 1 at 0.

    Args:
        alpha: −α is the value for z → −∞; with 1 it is `elu`.
    """
    return Elementwise(functional.celu, 1.0, alpha=alpha)


def gelu(*, approximate: bool = False) -> Activation:
    """φ(z) = z Φ(z), Φ the distribution function of N(0, 1) (Hendrycks & Gimpel 2016); φ′ ≤ 1.1289.

    Args:
        approximate: z/2 · (1 + tanh(√(2/π)(z + 0.044715 z³))) of the same paper, less than 5e-4 away; the exact one
            costs no more on current hardware.
    """
    if approximate:
        return Elementwise(functional.gelu, GELU_TANH_LARGEST_SLOPE, approximate="tanh")
    return Elementwise(functional.gelu, GELU_LARGEST_SLOPE)


def silu() -> Activation:
    """φ(z) = z/(1 + e⁻ᶻ) (Elfwing, Uchibe & Doya 2018), 'swish' to Ramachandran, Zoph & Le 2017; φ′ ≤ 1.0998."""
    return Elementwise(functional.silu, SILU_LARGEST_SLOPE)


def mish() -> Activation:
    """φ(z) = z tanh(log(1 + eᶻ)) (Misra 2020); φ′ ≤ 1.0885."""
    return Elementwise(functional.mish, MISH_LARGEST_SLOPE)


def relu6() -> Activation:
    """φ(z) = min(max(z, 0), 6) (Krizhevsky 2010); φ′ is 0 or 1. The cap keeps numbers of low precision in range."""
    return Elementwise(functional.relu6, 1.0, kinks=(6.0,))


def squared_relu() -> Activation:
    """φ(z) = max(z, 0)² (So et al. 2021, 'Primer'); φ′ = 2 max(z, 0) has no bound."""
    return Elementwise(_squared_relu, math.inf)


def crelu() -> Activation:
    """h = [max(z, 0), max(−z, 0)] along the features (Shang et al. 2016): nothing of z is lost. Half as many
    pre-activations as outputs, whose number must be even.
    """
    return CReLU()


def maxout(*, pieces: Pieces = 2) -> Activation:
    """h = max(z₁, …, z_k) of k pre-activations per output (Goodfellow et al. 2013); the gradient passes to the largest
    undiminished.

    Args:
        pieces: k; a layer has k times the weights. 2 is the cheapest.
    """
    return Maxout(pieces)


def swiglu() -> Activation:
    """h = silu(a) · b of two pre-activations per output (Shazeer 2020, eq. 5, with β = 1): a gate that is open where
    a ≫ 0. No derivative bound: ∂h/∂a grows with b. A layer has twice the weights; to keep their number, take 2/3 of the
    width, as the paper does.
    """
    return SwiGLU()


def _identity(z: Tensor) -> Tensor:
    return z


def _hard_sigmoid(z: Tensor) -> Tensor:
    return functional.relu6(z + 3) / 6  # torch's own has a derivative of 1/6 in float32, even in float64


def _squared_relu(z: Tensor) -> Tensor:
    return torch.relu(z).square()
