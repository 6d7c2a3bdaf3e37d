"""Random networks of finite width in float64, measured by autograd: what the laws are held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class Maps:
    """Draws linear maps and remembers (input, pre-activation) of each, by block."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.blocks: list[list[tuple[Tensor, Tensor]]] = []

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def __call__(self, x: Tensor, sigma_w2: float, sigma_b2: float = 0.0, *, weights: str = "gaussian") -> Tensor:
        n = x.shape[1]
        w = self.normal(n, n)
        if weights == "orthogonal":
            w = torch.linalg.qr(w)[0] * math.sqrt(n)
        if weights == "centred":
            w = w - w.mean(1, keepdim=True)
        z = x @ w.T * math.sqrt(sigma_w2 / n) + math.sqrt(sigma_b2) * self.normal(n)
        z.retain_grad()
        self.blocks[-1].append((x, z))
        return z


@dataclass
class Measured:
    """Each [networks, …], by block, in mean over examples and pairs.

    Attributes:
        p, c: [L] after each block.
        squared: [L + 1] E‖g‖² at x_{−1} … x_{L−1} relative to x_{L−1}.
        weight, bias: [L] ‖∂L/∂W‖²/fan_in and ‖∂L/∂b‖² of one example relative to ‖g‖² at x_{L−1}.
    """

    p: np.ndarray
    c: np.ndarray
    squared: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


def measure(
    block: Callable[[Maps, Tensor], Tensor],
    p: float,
    c: float,
    depth: int,
    *,
    width: int = 192,
    networks: int = 32,
    examples: int = 4,
    kappa: float = 0.0,
    start: Callable[[Tensor], Tensor] = lambda x: x,
) -> Measured:
    """Networks of `depth` blocks on signals of second moment p, every two with correlation c, passed through `start`.
    The gradients of the examples at the end have correlation kappa."""
    rows = []
    for seed in range(networks):
        maps = Maps(seed)

        def correlated(c: float, maps: Maps = maps) -> Tensor:
            """[examples, width] with exactly these second moments."""
            basis = math.sqrt(width) * torch.linalg.qr(maps.normal(width, examples))[0].T
            target = (1 - c) * torch.eye(examples, dtype=torch.float64) + c
            return torch.linalg.cholesky(target) @ basis

        x = start(math.sqrt(p) * correlated(c)).detach().requires_grad_()
        boundaries = [x]
        for _ in range(depth):
            maps.blocks.append([])
            x = block(maps, x)
            x.retain_grad()
            boundaries.append(x)
        (correlated(kappa) * x).sum().backward()
        values = np.array([_square(x) / width for x in boundaries[1:]])
        squared = np.array([_square(x.grad)[0] for x in boundaries])
        weight = [sum(float((_norms(x) * _norms(z.grad)).mean()) for x, z in each) / width for each in maps.blocks]
        bias = [sum(float(_norms(z.grad).mean()) for _, z in each) for each in maps.blocks]
        whole = squared[-1]
        rows.append(
            (
                values[:, 0],
                values[:, 1] / values[:, 0],
                squared / whole,
                np.array(weight) / whole,
                np.array(bias) / whole,
            )
        )
    return Measured(*(np.array(each) for each in zip(*rows, strict=True)))


def agrees(predicted: np.ndarray, measured: np.ndarray, bias: float = 0.01, deviations: float = 4.0) -> bool:
    """Whether the prediction lies within so many standard errors of the networks' mean, and `bias` for 1/width."""
    mean, error = measured.mean(0), measured.std(0) / math.sqrt(len(measured))
    off = np.abs(predicted - mean)
    within = off <= deviations * error + bias * np.abs(mean)
    if not within.all():
        print("predicted", predicted, "measured", mean, "standard error", error)
    return bool(within.all())


def _norms(x: Tensor) -> Tensor:
    return x.detach().square().sum(1)


def _square(x: Tensor) -> np.ndarray:
    """(mean of ‖x‖², mean of x·x′ over pairs)."""
    gram = (x @ x.T).detach()
    count = len(gram)
    own = gram.diagonal().mean()
    other = (gram.sum() - gram.diagonal().sum()) / (count * (count - 1))
    return np.array([own.item(), other.item()])
