"""Extreme eigenvalues and moments of a symmetric matrix from its products with vectors.

Shapes: … any number of matrices, p vectors each, N numbers in a vector, k steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GONE = 50  # × rounding, of the largest length met: nothing of a vector is left, the invariant subspace is exhausted


def signs(p: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[p, size] of ±1, the same at every call and from no generator that training uses."""
    drawn = torch.randint(0, 2, (p, size), generator=torch.Generator().manual_seed(0))
    return (2 * drawn - 1).to(device, dtype)


def spectrum(apply: Callable[[Tensor], Tensor], start_pN: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """([…], […], […], […]): largest and smallest eigenvalue, mean and mean square of the eigenvalues.

    Lanczos' method with full reorthogonalisation from each of p vectors. The extreme Ritz values lie inside the
    spectrum: the largest is a lower bound of the largest eigenvalue, usually within a percent after a dozen steps; the
    smallest an upper bound of the smallest, and a loose one where eigenvalues crowd near 0. The moments are
    Hutchinson's, from the first step: with random signs v, E vᵀAv = tr A and E‖Av‖² = tr A².

    Args:
        apply: A v for vectors [..., p, N], A symmetric and positive semi-definite.
        start_pN: vectors of random signs [..., p, N], in the type to compute in.
        steps: of the method; at most N are made.
    """
    q = start_pN / start_pN.shape[-1] ** 0.5
    count = min(steps, start_pN.shape[-1])
    basis = q.new_zeros(*q.shape[:-1], count, q.shape[-1])  # [..., p, k, N]
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    scale = second = q.new_zeros(())
    gone = torch.zeros(q.shape[:-1], dtype=torch.bool, device=q.device)
    for step in range(count):
        basis[..., step, :] = q
        w = apply(q)
        if step == 0:
            second = w.square().sum(-1)
        alpha = (w * q).sum(-1)
        alphas.append(torch.where(gone, alphas[0], alpha) if alphas else alpha)  # a value within the spectrum
        if step == count - 1:
            break
        for _ in range(2):  # once is not enough: what rounding leaves along the basis grows
            w = w - ((basis @ w.unsqueeze(-1)).mT @ basis).squeeze(-2)
        beta = torch.linalg.vector_norm(w, dim=-1)
        scale = torch.maximum(torch.maximum(scale, beta), alpha.abs())
        gone = gone | (beta <= GONE * torch.finfo(q.dtype).eps * scale)
        betas.append(torch.where(gone, 0.0, beta))
        q = w / torch.where(gone, torch.inf, beta).unsqueeze(-1)
    ritz = _eigenvalues(torch.stack(alphas, -1), betas)
    return ritz.amax((-2, -1)), ritz.amin((-2, -1)).clamp(min=0), alphas[0].mean(-1), second.mean(-1)


def _eigenvalues(alpha_pk: Tensor, betas: list[Tensor]) -> Tensor:
    matrix = torch.diag_embed(alpha_pk)
    if betas:
        off = torch.diag_embed(torch.stack(betas, -1), 1)
        matrix = matrix + off + off.mT
    finite = matrix.isfinite().all(-1).all(-1)[..., None]
    found: Tensor = torch.linalg.eigvalsh(torch.where(finite[..., None], matrix, 0.0))  # refuses what is not finite
    return torch.where(finite, found, torch.nan)
