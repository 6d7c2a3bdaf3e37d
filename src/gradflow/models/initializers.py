"""Initialisers. Each fills one `Weight` in place, from the generator it is given.

`fan_in` and `fan_out` count the kernel's positions too. Biases stay 0 and norm scales 1 unless an initialiser says
otherwise. Linear maps, convolutions, attention, gates, shortcuts and the head are all filled alike, unless a paper
tells them apart.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor

from gradflow.checked import NonNegative, Positive, Several
from gradflow.models.weights import Weight

Gain = Positive | Literal["activation"]
Fan = Literal["in", "out"]
SQRT2 = math.sqrt(2)
LSUV_TOLERANCE = 0.1


def fan_in_uniform(weight: Weight, generator: Generator, /) -> None:
    """U[−1/√fan_in, 1/√fan_in], variance 1/(3·fan_in): the 'standard' initialisation that Glorot & Bengio 2010
    (eq. 1) found to make gradients vanish: a factor √⅓ per linear block, 0.141 per sigmoid block.

    It is `torch.nn.Linear`'s default. Keras's `lecun_uniform` is another: U[±√(3/fan_in)], variance 1/fan_in.
    """
    _uniform(weight, 1 / math.sqrt(3 * weight.fan_in), generator)


def uniform(weight: Weight, generator: Generator, /, *, bound: Positive = 0.1) -> None:
    """U[−bound, bound], variance bound²/3, whatever the fans.

    Args:
        bound: 0.1 as in Hochreiter & Schmidhuber 1997, experiments 3 to 6.
    """
    weight.tensor.uniform_(-bound, bound, generator=generator)


def gaussian(weight: Weight, generator: Generator, /, *, std: Positive = 0.01) -> None:
    """N(0, σ²), whatever the fans.

    Args:
        std: σ; 0.01 as in Krizhevsky et al. 2012, section 5, which He et al. 2015 (section 2.2) found to stall deep
            networks.
    """
    _normal(weight, std, generator)


def lecun_normal(weight: Weight, generator: Generator, /) -> None:
    """N(0, 1/fan_in) (LeCun et al. 1998, eq. 16): keeps the variance of a linear signal, and SELU's fixed point
    (Klambauer et al. 2017, section 2)."""
    _normal(weight, 1 / math.sqrt(weight.fan_in), generator)


def glorot_uniform(weight: Weight, generator: Generator, /) -> None:
    """U[±√(6/(fan_in+fan_out))] (Glorot & Bengio 2010, eq. 16): variance 2/(fan_in+fan_out)."""
    _uniform(weight, math.sqrt(2 / (weight.fan_in + weight.fan_out)), generator)


def glorot_normal(weight: Weight, generator: Generator, /) -> None:
    """N(0, 2/(fan_in+fan_out)): the variance of Glorot & Bengio 2010, eq. 12."""
    _normal(weight, math.sqrt(2 / (weight.fan_in + weight.fan_out)), generator)


def he_uniform(weight: Weight, generator: Generator, /, *, fan: Fan = "in", gain: Gain = SQRT2) -> None:
    """U with the variance of `he_normal`."""
    _uniform(weight, _gain(weight, gain) / math.sqrt(_fan(weight, fan)), generator)


def he_normal(weight: Weight, generator: Generator, /, *, fan: Fan = "in", gain: Gain = SQRT2) -> None:
    """N(0, gain²/fan) (He et al. 2015, eq. 10): gain² = 2 makes good the half that ReLU sets to zero.

    Args:
        fan: 'in' keeps the variance of the signal's elements (eq. 10), 'out' that of the gradient's elements (eq. 14),
            whose number changes with the width: the gradient's norm, which is what instruments show, is kept by 'in'.
        gain: √2 is ReLU's; 'activation' takes the network's own, 1/√E[φ(z)²] for z ~ N(0, 1), e.g. √(2/(1+a²)) for
            leaky ReLU (eq. 15) and 1 for a linear network.
    """
    _normal(weight, _gain(weight, gain) / math.sqrt(_fan(weight, fan)), generator)


def mean_field(
    weight: Weight, generator: Generator, /, *, sigma_w2: Positive = 1.0, sigma_b2: NonNegative = 0.0
) -> None:
    """Weights N(0, σ_w²/fan_in), biases N(0, σ_b²) (Poole et al. 2016, section 2; Schoenholz et al. 2017, section 2).

    The biases are those of the stem and of the blocks' own maps; the others (gates, queries and keys, shortcuts, head)
    stay as they are.

    Args:
        sigma_w2: σ_w²; with σ_b² = 0 the critical value is 1 for tanh and 2 for ReLU.
        sigma_b2: σ_b²; with 0.05 tanh is critical at σ_w² = 1.7610.
    """
    _normal(weight, math.sqrt(sigma_w2 / weight.fan_in), generator)
    if weight.bias is not None and sigma_b2 and weight.role in ("stem", "block"):
        weight.bias.normal_(0, math.sqrt(sigma_b2), generator=generator)


def orthogonal(weight: Weight, generator: Generator, /, *, gain: Gain = 1.0) -> None:
    """Orthonormal rows or columns, whichever are fewer, times `gain` (Saxe, McClelland & Ganguli 2014).

    Kernels are matrices [units, fan_in].

    Args:
        gain: 1 keeps the norm of a linear signal; √2 is the usual choice for ReLU; 'activation': see `he_normal`.
    """
    rows = weight.tensor.shape[0]
    matrix = orthonormal(rows, weight.tensor.numel() // rows, generator)
    weight.tensor.copy_(_gain(weight, gain) * matrix.reshape(weight.tensor.shape))


def delta_orthogonal(weight: Weight, generator: Generator, /, *, gain: Gain = 1.0) -> None:
    """An orthogonal matrix at the kernel's centre and zeros around it (Xiao et al. 2018, algorithm 1), under which
    every position is transformed alike; `orthogonal` for linear maps.

    The paper needs at least as many channels out as in; with fewer, the rows are orthonormal instead of the columns.

    Args:
        gain: σ_w of the paper; 1 is critical for tanh without biases; 'activation': see `he_normal`.
    """
    units, width = weight.tensor.shape[:2]
    weight.tensor.zero_()
    _centre(weight).copy_(_gain(weight, gain) * orthonormal(units, width, generator))


def identity(weight: Weight, generator: Generator, /, *, gain: Positive = 1.0) -> None:
    """gain · I, as much of it as fits; for kernels at the centre (Le et al. 2015 for recurrent weights; Bartlett et al.
    2018 for deep linear networks).

    Stem and head, whose shapes no identity suits, are filled as by `glorot_uniform`.
    """
    if weight.role in ("stem", "head"):
        glorot_uniform(weight, generator)
        return
    weight.tensor.zero_()
    _centre(weight).copy_(gain * torch.eye(*weight.tensor.shape[:2], dtype=torch.float64))


def sparse(weight: Weight, generator: Generator, /, *, connections: Several = 15, std: Positive = 1.0) -> None:
    """Every unit has a few incoming weights from N(0, σ²), the others are 0 (Martens 2010, section 5).

    The saturation of a unit then does not depend on how many inputs there are.

    Args:
        connections: k, incoming weights per unit; 15 as in the paper. All of them where there are fewer inputs.
        std: σ; 1 as in Sutskever et al. 2013, section 3.1.
    """
    rows = weight.tensor.flatten(1)
    k = min(connections, rows.shape[1])
    chosen = torch.rand(rows.shape, generator=generator).argsort(1)[:, :k]
    drawn = torch.empty(len(rows), k, dtype=rows.dtype).normal_(0, std, generator=generator)
    weight.tensor.copy_(torch.zeros_like(rows).scatter_(1, chosen, drawn).view_as(weight.tensor))


def spectral_radius(
    weight: Weight, generator: Generator, /, *, radius: NonNegative = 1.0, connections: Several | None = None
) -> None:
    """A Gaussian matrix scaled to spectral radius ρ = max |λ|: the W_rec of textbooks. A linear network's gradient
    shrinks or grows by ρ per step in the long run, so that ρ < 1 suffices for it to vanish, and ρ > 1 is necessary
    for it to explode (Pascanu, Mikolov & Bengio 2013, section 2.1).

    For recurrent weights alone: other maps are not square.

    Args:
        radius: ρ; 1 neither vanishes nor explodes, in the linear case.
        connections: incoming weights per unit, the others being 0; null for all. With 15 and ρ = 0.95 it is the 'smart
            tanh' of Pascanu et al. 2013, section 4.1.

    Raises:
        ValueError: if the matrix is not square, or nilpotent.
    """
    rows, columns = weight.tensor.shape[:2]
    if rows != columns or weight.tensor.ndim > 2:
        raise ValueError(
            f"init=spectral_radius needs a square matrix, but a {weight.role} weight has shape "
            f"{list(weight.tensor.shape)}: use it as recurrent_init"
        )
    if connections is None:
        _normal(weight, math.sqrt(1 / columns), generator)
    else:
        sparse(weight, generator, connections=connections)
    if weight.tensor.is_meta:
        return
    largest = float(torch.linalg.eigvals(weight.tensor.double()).abs().max())
    if largest == 0 and radius:
        raise ValueError(
            f"recurrent_init.connections={connections} gave a matrix whose powers vanish: use more of them"
        )
    weight.tensor.mul_(radius / largest if largest else 0.0)


def lsuv(weight: Weight, generator: Generator, /, *, tolerance: Positive = LSUV_TOLERANCE) -> None:
    """Orthonormal weights, then layer by layer divided by the deviation of the layer's output on a batch of training
    data until its variance is within `tolerance` of 1 (Mishkin & Matas 2016, algorithm 1).

    A layer is linear in its weight and biases begin at 0, so that one division is exact, and one forward pass does for
    the network (`initialize.unit_variance`).

    Args:
        tolerance: 0.1 as in the paper; a layer already within it is left as it is.
    """
    orthogonal(weight, generator)


def fixup(weight: Weight, generator: Generator, /) -> None:
    """He's initialisation scaled for L residual branches of m layers by L^(−1/(2m−2)); the last layer of every branch
    and the head are 0 (Zhang et al. 2019, rules 1 and 2 of section 3.1). The scalars are `skip=fixup_scalar`."""
    if weight.role == "head" or weight.last:
        weight.tensor.zero_()
        return
    he_normal(weight, generator)
    if weight.role == "block" and weight.layers > 1:
        weight.tensor.mul_(weight.branches ** (-1 / (2 * weight.layers - 2)))


def zero_last(weight: Weight, generator: Generator, /) -> None:
    """He's initialisation, but every residual branch begins as 0: the scale γ of its last norm (Goyal et al. 2017,
    section 5.1), or its last weight where no norm follows it."""
    he_normal(weight, generator)
    if weight.last:
        (weight.tensor if weight.scale is None else weight.scale).zero_()


def deepnorm(weight: Weight, generator: Generator, /) -> None:
    """Glorot's normal, times β = (4L)^(−¼) for the weights inside L residual branches, except those that make queries
    and keys (Wang et al. 2022, figure 2): (8N)^(−¼) for an encoder of N layers, which has L = 2N. For `skip=deepnorm`.
    """
    glorot_normal(weight, generator)
    if weight.role == "block":
        weight.tensor.mul_((4 * weight.branches) ** -0.25)


def orthonormal(rows: int, columns: int, generator: Generator) -> Tensor:
    """A matrix [rows, columns] in float64 with orthonormal rows or columns, whichever are fewer.

    Drawn uniformly: the Q of a Gaussian matrix's QR, with the signs of R's diagonal (Mezzadri 2007, section 5).
    """
    drawn = torch.empty(max(rows, columns), min(rows, columns), dtype=torch.float64)
    q, r = torch.linalg.qr(drawn.normal_(generator=generator))
    matrix: Tensor = q * r.diagonal().sign()
    return matrix if rows >= columns else matrix.T


def _uniform(weight: Weight, std: float, generator: Generator) -> None:
    bound = math.sqrt(3) * std
    weight.tensor.uniform_(-bound, bound, generator=generator)


def _normal(weight: Weight, std: float, generator: Generator) -> None:
    weight.tensor.normal_(0, std, generator=generator)


def _gain(weight: Weight, gain: float | str) -> float:
    return weight.gain() if gain == "activation" else float(gain)


def _fan(weight: Weight, fan: str) -> int:
    return weight.fan_in if fan == "in" else weight.fan_out


def _centre(weight: Weight) -> Tensor:
    """The matrix at the middle of a kernel, of a causal one at its end, which is the present; or the matrix itself."""
    tensor = weight.tensor
    for size in tensor.shape[2:]:
        tensor = tensor[:, :, size - 1 if weight.causal else size // 2]
    return tensor
