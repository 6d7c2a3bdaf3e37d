"""σ_w² and σ_b² of an initialiser: what the weights of a map are worth to the theory of wide networks.

An initialiser is asked for its definition, not for a sample: it is run on a weight without memory, and what it draws
there is read off. Only one that does more than draw and scale, and is not ours, is filled and measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from gradflow.models.initializers import (
    delta_orthogonal,
    identity,
    lsuv,
    orthogonal,
    sparse,
    spectral_radius,
    zero_last,
)
from gradflow.models.weights import Weight

FIRST_ITERATIONS, MOST_ITERATIONS = 15, 100  # of the power method, which has converged long before the second
MEASURED = 4_000_000  # weights that are drawn, at most, where an initialiser has to be measured


@dataclass(frozen=True)
class Variances:
    """Of a map's weights and biases.

    Attributes:
        sigma_w2: the expected squared norm of a unit's incoming weights: fan_in times the variance of one.
        sigma_b2: the variance of a bias.
        measured: whether they come from a sample and not from the definition.
    """

    sigma_w2: float
    sigma_b2: float = 0.0
    measured: bool = False


def variances(init: Callable[[Weight, Generator], None], weight: Weight) -> Variances:
    """The variances that `init` gives to `weight`, which is on the meta device and stays as it is.

    Raises:
        ValueError: if the weights' mean is not 0, as the theory of random networks assumes.

    >>> from gradflow.models.initializers import he_normal, orthogonal
    >>> shape = Weight(torch.empty(64, 256, device="meta"))
    >>> round(variances(he_normal, shape).sigma_w2, 9), variances(orthogonal, shape).sigma_w2
    (2.0, 1.0)
    """
    function, keys = (init.func, init.keywords) if isinstance(init, partial) else (init, {})
    units, inputs = weight.tensor.shape[0], weight.fan_in
    if function is delta_orthogonal:
        inputs = weight.tensor.shape[1]
    if function in (orthogonal, delta_orthogonal, lsuv):
        gain = keys.get("gain", 1.0)
        squared = weight.gain() ** 2 if gain == "activation" else float(gain) ** 2
        return Variances(squared * min(units, inputs) / units)
    if function is sparse:
        return Variances(min(keys.get("connections", 15), inputs) * float(keys.get("std", 1.0)) ** 2)
    if function is spectral_radius:  # of a large random matrix it is √σ_w² (Girko's circular law)
        return Variances(float(keys.get("radius", 1.0)) ** 2)
    if function is zero_last and weight.last:
        return Variances(0.0)  # the weight itself, or the scale of the norm that follows it
    if function is identity and weight.role not in ("stem", "head"):
        raise ValueError("init=identity is no random matrix")
    tensor, bias, scale = (_noted(each) for each in (weight.tensor, weight.bias, weight.scale))
    assert tensor is not None
    with suppress(TypeError, RuntimeError, NotImplementedError):  # what has no memory cannot be all that a tensor is
        init(replace(weight, tensor=tensor, bias=bias, scale=scale), torch.Generator())
        drawn = tensor.variance, 0.0 if bias is None else bias.variance
        if drawn[0] is not None and drawn[1] is not None:
            sigma_w2, sigma_b2 = (float(f"{each:.12g}") for each in (weight.fan_in * drawn[0], drawn[1]))
            return Variances(sigma_w2, sigma_b2)  # 1.5, not 1.4999999999999998
    return _measured(init, weight)


def spectral(init: Callable[[Weight, Generator], None], units: int, inputs: int, iterations: int) -> float:
    """The σ_w² of weights divided by their largest singular value, as `norm=spectral` estimates it at the first step:
    by 15 + `iterations` power iterations, begun with the sum of all columns.

    After k of them the square of the estimate is m_{2k}/m_{2k−1}, m_j the moments of the eigenvalues of W Wᵀ as that
    sum meets them: 1 for orthogonal weights, otherwise those of Marchenko & Pastur 1967. Weights of whatever variance,
    which cancels.

    >>> round(spectral(delta_orthogonal, 64, 64, 1), 6), round(spectral(sparse, 64, 64, 10**6), 3)
    (1.0, 0.252)
    """
    function = init.func if isinstance(init, partial) else init
    if function in (orthogonal, delta_orthogonal):
        return min(units, inputs) / units
    ratio = units / inputs
    k = 2 * (FIRST_ITERATIONS + min(iterations, MOST_ITERATIONS))
    return _moment(k, ratio) / _moment(k + 1, ratio)


def _moment(order: int, ratio: float) -> float:
    """∫ λᵏ of Wᵀ W, for W [units, inputs] of variance 1/inputs and ratio = units/inputs: Narayana's polynomial."""
    terms = (math.comb(order, r) * math.comb(order - 1, r) * ratio ** (order - r) / (r + 1) for r in range(order))
    return math.fsum(terms)


def _measured(init: Callable[[Weight, Generator], None], weight: Weight) -> Variances:
    """From so many weights that their number does not matter, or from the initialiser's own if these are too many."""
    rows = min(weight.tensor.shape[0], max(1, MEASURED // weight.fan_in))
    shape = (rows, *weight.tensor.shape[1:]) if rows > 1 else tuple(weight.tensor.shape)
    bias = None if weight.bias is None else torch.zeros(shape[0], dtype=torch.float64)
    drawn = replace(weight, tensor=torch.zeros(shape, dtype=torch.float64), bias=bias)
    with torch.no_grad():
        init(drawn, torch.Generator().manual_seed(0))
    rows_of = drawn.tensor.flatten(1)
    size = float(rows_of.square().mean())
    if size and float(rows_of.mean()) ** 2 > 25 * size / rows_of.numel() + 1e-12 * size:
        raise ValueError("the initialiser's weights have a mean other than 0, which mean-field theory does not cover")
    spread = 0.0 if bias is None else float(bias.square().mean())
    return Variances(size * weight.fan_in, spread, measured=True)


class _Noted(Tensor):
    """A tensor without memory that notes what is drawn into it.

    Attributes:
        variance: of what was drawn last, with what it was scaled by; None once something else was done to it.
    """

    variance: float | None = 0.0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keys, name = dict(kwargs or {}), getattr(func, "__name__", "")
        self = next((each for each in (*args, *keys.values()) if isinstance(each, _Noted)), None)
        if not isinstance(self, _Noted) or not name.endswith("_") or name.endswith("__"):
            made = super().__torch_function__(func, types, args, keys)  # type: ignore[no-untyped-call]
            if isinstance(made, _Noted) and isinstance(self, _Noted) and made is not self:
                made._whole = self._whole or self
            return made
        if self._whole is not None:  # a part of it
            self._whole.variance = None
        elif not args or self is not args[0]:
            self.variance = None
        elif name == "normal_":
            mean, std = _two(args[1:], keys, ("mean", "std"))
            self.variance = std**2 if mean == 0 else None
        elif name == "uniform_":
            low, high = _two(args[1:], keys, ("from", "to"))
            self.variance = (high - low) ** 2 / 12 if low == -high else None
        elif name == "zero_":
            self.variance = 0.0
        elif name in ("mul_", "div_") and isinstance(args[1], int | float) and self.variance is not None:
            self.variance *= float(args[1]) ** (2 if name == "mul_" else -2)
        else:
            self.variance = None
        return self

    _whole: _Noted | None = None


def _two(given: Any, keys: dict[str, Any], names: tuple[str, str]) -> tuple[float, float]:
    """The two numbers of a distribution, by place or by name; 0 and 1 where they are left out."""
    values = [float(given[i]) if i < len(given) else float(keys.get(name, i)) for i, name in enumerate(names)]
    return values[0], values[1]


def _noted(tensor: Tensor | None) -> _Noted | None:
    return None if tensor is None else torch.empty(tensor.shape, device="meta").as_subclass(_Noted)
