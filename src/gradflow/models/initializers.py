"""Initialisers. Each fills one weight of shape [fan_out, fan_in, *kernel] in place, from the generator it is given.

`fan_in` and `fan_out` count the kernel's positions too. Biases stay 0, norm scales 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from gradflow.checked import Positive

Initializer = Callable[[Tensor, Generator], None]


def initialize(network: nn.Module, init: Initializer, generator: Generator) -> None:
    """Fill every weight matrix or kernel of `network`, in the order of its parameters.

    Args:
        network: lives on the CPU, where the generator does.
        init: one of this module's functions, or another with the same two arguments.
        generator: the only source of randomness: the same generator gives the same weights.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim >= 2:
                init(parameter, generator)


def fan_in_uniform(weight: Tensor, generator: Generator, /) -> None:
    """U[−1/√fan_in, 1/√fan_in], variance 1/(3·fan_in): the 'standard' initialisation that Glorot & Bengio 2010
    (eq. 1) found to make gradients vanish: a factor √⅓ per linear block, 0.141 per sigmoid block.

    It is `torch.nn.Linear`'s default. Keras's `lecun_uniform` is another: U[±√(3/fan_in)], variance 1/fan_in.
    """
    bound = 1 / math.sqrt(fans(weight)[0])
    weight.uniform_(-bound, bound, generator=generator)


def glorot_uniform(weight: Tensor, generator: Generator, /) -> None:
    """U[±√(6/(fan_in+fan_out))] (Glorot & Bengio 2010, eq. 16): variance 2/(fan_in+fan_out)."""
    bound = math.sqrt(6 / sum(fans(weight)))
    weight.uniform_(-bound, bound, generator=generator)


def glorot_normal(weight: Tensor, generator: Generator, /) -> None:
    """N(0, 2/(fan_in+fan_out)): the variance of Glorot & Bengio 2010, eq. 12."""
    weight.normal_(0, math.sqrt(2 / sum(fans(weight))), generator=generator)


def he_uniform(weight: Tensor, generator: Generator, /) -> None:
    """U[±√(6/fan_in)]: the variance of `he_normal`."""
    bound = math.sqrt(6 / fans(weight)[0])
    weight.uniform_(-bound, bound, generator=generator)


def he_normal(weight: Tensor, generator: Generator, /) -> None:
    """N(0, 2/fan_in) (He et al. 2015, eq. 10): the 2 makes good the half that ReLU sets to zero."""
    weight.normal_(0, math.sqrt(2 / fans(weight)[0]), generator=generator)


def orthogonal(weight: Tensor, generator: Generator, /, *, gain: Positive = 1.0) -> None:
    """Orthonormal rows or columns, whichever are fewer, times `gain` (Saxe, McClelland & Ganguli 2014).

    Drawn uniformly: the Q of a Gaussian matrix's QR, with the signs of R's diagonal (Mezzadri 2007, section 5).

    Args:
        gain: 1 keeps the norm of a linear signal; √2 is the usual choice for ReLU.
    """
    rows = weight.shape[0]
    columns = weight.numel() // rows
    gaussian = torch.empty(max(rows, columns), min(rows, columns), dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian.normal_(generator=generator))
    q = q * r.diagonal().sign()
    weight.copy_(gain * (q if rows >= columns else q.T).reshape(weight.shape))


def fans(weight: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape [fan_out, fan_in, *kernel], each times the kernel's positions."""
    positions = math.prod(weight.shape[2:])
    return weight.shape[1] * positions, weight.shape[0] * positions
