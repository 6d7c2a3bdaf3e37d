"""Linear least squares from a stream of examples.

Shapes: M examples of one call, N features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradflow.models.layers import Linear

ROWS = 4096  # examples that are turned into float64 at once
PANELS = 8  # of the Gram matrix's columns: 36 of 64 parts of a symmetric product are computed, not all


class _Float64(nn.Module):
    """A module whose tensors stay float64 whatever the network is cast to; on the CPU beside an Apple GPU, which has no
    float64."""

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> _Float64:
        def moved(t: Tensor) -> Tensor:
            if t.is_meta:
                return fn(t)
            goal = fn(torch.empty(0, device=t.device)).device
            return t.to("cpu" if goal.type == "mps" else goal)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


class Ridge(_Float64):
    """Sums over examples (x, y), from which it solves min over W, b of Σ ‖W x + b − y‖² + λ ‖W‖².

    The intercept b is not penalised. Sums, not means, are penalised, as in reservoirpy: the same λ weighs less the more
    examples there are.

    The sums are buffers, so that a checkpoint holds them: the number of examples, the means of x and y, and the sums of
    (x − x̄)(x − x̄)ᵀ, (x − x̄)(y − ȳ)ᵀ and (y − ȳ)². They are centred as they go (Chan, Golub & LeVeque 1979), since
    subtracting n x̄ x̄ᵀ afterwards loses what is small beside it. All is float64: a Gram matrix has the square of its
    examples' condition number.

    Args:
        features: N.
        outputs: K.
    """

    count: Tensor
    mean_x: Tensor
    mean_y: Tensor
    gram: Tensor
    cross: Tensor
    energy: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        shapes = {
            "count": (),
            "mean_x": (features,),
            "mean_y": (outputs,),
            "gram": (features, features),  # its lower triangle; what lies above is not meant to be read
            "cross": (features, outputs),
            "energy": (outputs,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Forget every example. Nothing is drawn."""
        for buffer in self.buffers():
            buffer.zero_()

    @torch.no_grad()
    def add(self, x_MN: Tensor, y_MK: Tensor) -> None:
        """Count in M examples, of any floating-point type."""
        for x, y in zip(torch.split(x_MN, ROWS), torch.split(y_MK, ROWS), strict=True):
            self._add(x.to(self.gram), y.to(self.gram))

    def _add(self, x: Tensor, y: Tensor) -> None:
        m = len(x)
        share = m / (self.count + m)
        middle_x, middle_y = x.mean(0), y.mean(0)
        shift_x, shift_y = middle_x - self.mean_x, middle_y - self.mean_y
        weight = (self.count * share).sqrt()  # of the distance between old and new mean, one more row
        rows_x = torch.cat([x - middle_x, weight * shift_x[None]])
        rows_y = torch.cat([y - middle_y, weight * shift_y[None]])
        panel = max(64, -(-len(self.gram) // PANELS))
        for start in range(0, len(self.gram), panel):
            stop = start + panel
            self.gram[start:stop, :stop].addmm_(rows_x[:, start:stop].T, rows_x[:, :stop])
        self.cross.addmm_(rows_x.T, rows_y)
        self.energy.add_(rows_y.square().sum(0))
        self.mean_x.add_(share * shift_x)
        self.mean_y.add_(share * shift_y)
        self.count.add_(m)

    @torch.no_grad()
    def solve(self, regularization: float) -> tuple[Tensor, Tensor]:
        """Weight [K, N] and bias [K], in float64.

        By Cholesky's decomposition; with λ = 0, or where that breaks down, from the eigenvalues, of which those below
        N ε of the largest count as 0: the shortest of the weights that fit equally well.

        Args:
            regularization: λ ≥ 0.
        """
        solution = None
        if regularization > 0:
            matrix = self.gram.clone()
            matrix.diagonal().add_(regularization)
            factor, broken = torch.linalg.cholesky_ex(matrix)
            if not broken:
                solution = torch.cholesky_solve(self.cross, factor)
        if solution is None:
            solution = self._shortest(regularization)
        weight = solution.T.contiguous()
        return weight, self.mean_y - weight @ self.mean_x

    def _shortest(self, regularization: float) -> Tensor:
        if not bool(self.gram.isfinite().all()):
            return torch.full_like(self.cross, torch.nan)  # states overflowed; LAPACK would raise
        values, vectors = torch.linalg.eigh(self.gram)  # reads the lower triangle
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
        inverse = torch.where(kept, 1 / (values + regularization), 0.0)
        solution: Tensor = vectors @ (inverse[:, None] * (vectors.T @ self.cross))
        return solution

    @torch.no_grad()
    def error(self, weight_KN: Tensor) -> Tensor:
        """Mean squared error [K] over the examples of the read-out with this weight and its best bias."""
        w = weight_KN.to(self.gram)
        below = self.gram.tril()
        explained = (w @ below * w).sum(1) * 2 - (w.square() @ self.gram.diagonal())
        return ((self.energy - 2 * (w * self.cross.T).sum(1) + explained) / self.count).clamp(min=0)


class ReadOut(_Float64, Linear):
    """A linear map in float64: weights of a barely regularised fit are large and cancel, in float32 not well enough.

    Its output has the type of its input.
    """

    def __init__(self, units_in: int, units_out: int) -> None:
        super().__init__(units_in, units_out)
        for parameter in self.parameters():
            parameter.data = parameter.data.double()

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b in the precision of W, in the type of x."""
    return functional.linear(x.to(weight), weight, bias).to(x)
