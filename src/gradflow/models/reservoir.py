"""A recurrent layer that is drawn once and never trained.

Shapes: B batch, T time, F features, N units.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import ArpackNoConvergence, eigs
from torch import Generator, Tensor, nn

Topology = Literal["random", "ring", "orthogonal"]

DENSE_EIGENVALUES = 500  # units up to which all eigenvalues are computed
SPARSE_UNITS, SPARSE_SHARE = 250, 0.2  # from how many units, up to which share of non-zero weights CSR is the faster


class Reservoir(nn.Module):
    """h_t = (1 − a) h_{t−1} + a φ(W h_{t−1} + W_in x_t + b), h_0 = 0 (Lukoševičius 2012, eqs. 2 and 3).

    The weights are buffers, zero until `reset` draws them:

    - W of topology 'random': every unit has the same number of incoming weights, N(0, 1) before scaling; 'ring': unit i
      feeds unit i + 1 alone, all with one weight (Rodan & Tiňo 2011, 'simple cycle reservoir'); 'orthogonal': a random
      orthogonal matrix (White, Lee & Sompolinsky 2004). W is then scaled to `spectral_radius`, by which all singular
      values of the latter two are the same.
    - W_in ~ U[−input_scaling, input_scaling], or, where `input_norm` is given, scaled to that largest singular value.
    - b ~ U[−bias, bias].

    States are computed without autograd: the output has no gradient with respect to anything. Autocast is off, so
    that mixed precision leaves them as they are. On a CPU the product W h is a sparse one where that is faster.

    Args:
        features: F, of the input.
        units: N.
        activation: φ, element by element.
        spectral_radius: of W itself, not of (1 − a) I + a W.
        leak: a, above 0 and at most 1.
        input_scaling: of W_in.
        bias: of b.
        connectivity: share of non-zero weights of topology 'random'; each unit has at least one.
        topology: of W.
        input_norm: for an input as wide as a reservoir, for which `input_scaling` would saturate the units.

    Attributes:
        no_gradient: why a gradient cannot be measured here, for instruments to say.
    """

    no_gradient: str = "the reservoir is not trained: no gradient flows through time"

    recurrent: Tensor
    input_weight: Tensor
    bias: Tensor

    def __init__(
        self,
        features: int,
        units: int,
        activation: nn.Module,
        *,
        spectral_radius: float = 0.9,
        leak: float = 1.0,
        input_scaling: float = 1.0,
        bias: float = 0.0,
        connectivity: float = 0.1,
        topology: Topology = "random",
        input_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.spectral_radius, self.leak, self.connectivity, self.topology = (
            spectral_radius,
            leak,
            connectivity,
            topology,
        )
        self.input_scaling, self.bias_scaling, self.input_norm = input_scaling, bias, input_norm
        self.register_buffer("recurrent", torch.zeros(units, units))
        self.register_buffer("input_weight", torch.zeros(units, features))
        self.register_buffer("bias", torch.zeros(units))
        self._sparse: tuple[object, Tensor | None] = (None, None)

    @property
    def features(self) -> int:
        return self.input_weight.shape[1]

    @property
    def units(self) -> int:
        return self.input_weight.shape[0]

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Draw the weights, in float64 on the CPU, from `generator` alone."""
        if self.recurrent.is_meta:
            return
        self.input_weight.copy_(self._draw_input(generator))
        self.bias.copy_(_uniform(generator, self.units) * self.bias_scaling)
        self.recurrent.copy_(self._draw_recurrent(generator))

    def _draw_input(self, generator: Generator) -> Tensor:
        drawn = _uniform(generator, self.units, self.features)
        if self.input_norm is None:
            return drawn * self.input_scaling
        return drawn * (self.input_norm / float(torch.linalg.matrix_norm(drawn, 2)))

    def _draw_recurrent(self, generator: Generator) -> Tensor:
        n = self.units
        if self.topology == "ring":
            return torch.eye(n, dtype=torch.float64).roll(1, dims=0) * self.spectral_radius
        normal = torch.randn(n, n, generator=generator, dtype=torch.float64)
        if self.topology == "orthogonal":
            q, r = torch.linalg.qr(normal)
            uniform: Tensor = q * r.diagonal().sign()  # over all orthogonal matrices, by the signs
            return uniform * self.spectral_radius
        incoming = max(1, round(self.connectivity * n))
        if incoming < n:
            chosen = torch.rand(n, n, generator=generator).topk(incoming, dim=1).indices
            normal = torch.zeros_like(normal).scatter_(1, chosen, normal)
        return normal * (self.spectral_radius / spectral_radius(normal))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def forward(self, x_BTF: Tensor, start_BN: Tensor | None = None) -> Tensor:
        """States after each step, [B, T, N], from the state `start_BN` before the first (0 unless given).

        A long sequence can be run in parts: `start_BN` is the last state of the part before.
        """
        batch, steps, _ = x_BTF.shape
        x_BTF = x_BTF.to(self.input_weight.dtype)
        if x_BTF.is_meta:
            return x_BTF.new_empty(batch, steps, self.units)
        if start_BN is None:
            start_BN = x_BTF.new_zeros(batch, self.units)
        with torch.autocast(x_BTF.device.type, enabled=False):
            sparse = self._csr()
            if sparse is None:
                return self._run_dense(x_BTF, start_BN)
            return self._run_sparse(sparse, x_BTF, start_BN)

    def _run_dense(self, x_BTF: Tensor, h_BN: Tensor) -> Tensor:
        drive_TBN = nn.functional.linear(x_BTF.transpose(0, 1), self.input_weight, self.bias)
        states = torch.empty_like(drive_TBN)
        transposed = self.recurrent.T
        for drive_BN, out in zip(drive_TBN.unbind(), states.unbind(), strict=True):
            h_BN = self._leak(h_BN, self.activation(torch.addmm(drive_BN, h_BN, transposed)), out)
        return states.transpose(0, 1)

    def _run_sparse(self, csr: Tensor, x_BTF: Tensor, h_BN: Tensor) -> Tensor:
        """With units before sequences, since a CSR matrix multiplies from the left; a single sequence is a vector."""
        single = len(x_BTF) == 1
        drive_TNB = (
            nn.functional.linear(x_BTF.transpose(0, 1), self.input_weight, self.bias).transpose(1, 2).contiguous()
        )
        states = torch.empty_like(drive_TNB)
        h = h_BN[0] if single else h_BN.T.contiguous()
        product = torch.addmv if single else torch.addmm
        drives, outs = (t[..., 0] if single else t for t in (drive_TNB, states))
        for drive, out in zip(drives.unbind(), outs.unbind(), strict=True):
            h = self._leak(h, self.activation(product(drive, csr, h)), out)
        return states.permute(2, 0, 1)

    def _leak(self, before: Tensor, proposed: Tensor, out: Tensor) -> Tensor:
        """The next state, written to `out` too."""
        return out.copy_(proposed) if self.leak == 1 else torch.lerp(before, proposed, self.leak, out=out)

    def _csr(self) -> Tensor | None:
        """W as a sparse matrix, kept until W changes; None where a dense product is faster or the only one."""
        if self.recurrent.device.type != "cpu" or self.units < SPARSE_UNITS or not _mkl():
            return None
        key = (self.recurrent.data_ptr(), self.recurrent._version, self.recurrent.dtype)
        if self._sparse[0] != key:
            few = int(self.recurrent.count_nonzero()) <= SPARSE_SHARE * self.recurrent.numel()
            self._sparse = (key, _csr(self.recurrent) if few else None)
        return self._sparse[1]

    def __getstate__(self) -> dict[str, object]:
        """What a copy or a pickle gets: it makes its own sparse matrix."""
        return {**self.__dict__, "_sparse": (None, None)}

    def doubts(self) -> list[str]:
        """Why the state might not forget where it began, one line each, from the weights as they were drawn.

        Of a leaky reservoir with zero input and φ′(0) = 1, such as tanh, the linear part is (1 − a) I + a W; with a
        spectral radius above 1 the zero state is unstable and the echo state property is lost (Jaeger 2001).
        """
        weight = self.recurrent.double().cpu()
        effective = spectral_radius((1 - self.leak) * torch.eye(self.units, dtype=torch.float64) + self.leak * weight)
        if effective < 1:
            return []
        return [
            f"the spectral radius of (1 − leak) I + leak W is {effective:.3g}, not below 1: without input the "
            "reservoir need not forget its initial state (Jaeger 2001)"
        ]

    def extra_repr(self) -> str:
        return (
            f"{self.features}, {self.units}, spectral_radius={self.spectral_radius}, leak={self.leak}, {self.topology}"
        )


@torch.no_grad()
def remaining_distance(reservoir: Reservoir, x_TF: Tensor, generator: Generator) -> float:
    """‖h_T − h′_T‖ ÷ ‖h_0 − h′_0‖ of two runs driven by the same input from two initial states, each U[−1, 1].

    A numerical look at the echo state property: it goes to 0 with T where the reservoir forgets its initial state under
    this input, and stays of order 1 where it does not.
    """
    start_2N = _uniform(generator, 2, reservoir.units).to(reservoir.recurrent)
    end_2N = reservoir(x_TF.expand(2, *x_TF.shape), start_2N)[:, -1]
    return float((end_2N[0] - end_2N[1]).norm() / (start_2N[0] - start_2N[1]).norm())


def spectral_radius(matrix: Tensor) -> float:
    """max |λ| of a square matrix: of all eigenvalues up to 500 units, of the largest by Arnoldi iteration above."""
    n = len(matrix)
    values = matrix.detach().double().cpu().numpy()
    if n > DENSE_EIGENVALUES:
        start = np.random.default_rng(0).standard_normal(n)  # ARPACK would draw its own from NumPy's global state
        try:
            # the edge of a random matrix's spectrum is crowded: a small subspace would take thousands of restarts
            found = eigs(csr_matrix(values), k=8, ncv=96, v0=start, tol=1e-10, return_eigenvectors=False)
            return float(np.abs(found).max())
        except ArpackNoConvergence:
            pass
    return float(np.abs(np.linalg.eigvals(values)).max())


def _csr(dense: Tensor) -> Tensor:
    """With 32-bit indices, which MKL takes as they are: the product takes half as long as with 64-bit ones."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        csr = dense.to_sparse_csr()
    rows, columns = csr.crow_indices().int(), csr.col_indices().int()
    return torch.sparse_csr_tensor(rows, columns, csr.values(), csr.shape, check_invariants=True)


def _mkl() -> bool:
    return bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1
