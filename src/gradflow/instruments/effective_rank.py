"""How many directions a block's outputs, and its weights' gradient, really use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.grams import Grams, mean_cosine
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row, Update, spread
from gradflow.instruments.wide import wide


class EffectiveRank(Instrument):
    """`effective_rank` and `output_cosine` of every block's output, `gradient_rank` of its weights' gradient.

    - `effective_rank`: exp(−Σ_k p_k ln p_k) with p_k = σ_k/Σσ, of the singular values σ of the matrix [examples,
      features] of outputs, each flattened and none centred (Roy & Vetterli 2007, definition 1). Between 1 and the
      number of examples n, or of features if that is smaller. It falls towards 1 as depth makes all examples alike:
      rank collapse (Daneshmand et al. 2020; for attention Dong, Cordonnier & Loukas 2021).
    - `output_cosine`: mean cosine between the outputs of different examples: mean-field theory's correlation c (Poole
      et al. 2016), averaged over pairs. Examples whose output is exactly 0 form no pair.
    - `gradient_rank`: the participation ratio (Σs²)²/Σs⁴ of the singular values s of the gradient of the block's
      largest weight matrix (the first of several equally large ones; a convolution's is [channels out, channels in ×
      kernel]). Between 1 and the smaller side; m equal singular values give m. The block's other matrices are left out.

    Outputs: the first `examples` (32) of every batch along axis 0; the mean over the batches of an update, over the
    calls of a block that is called several times, and over processes. Gram matrices and their eigenvalues are in
    float64; an eigenvalue's rounding error of 1e-16 of the largest is one of 1e-8 in σ. The gradient is divided by
    its norm and squared in its own type, so that a gradient of 1e-30 has the same rank as one of 1.

    Args:
        most_gradients: of more blocks with a matrix than this, that many have their `gradient_rank` taken, evenly
            spread, with the first and the last: it costs a tenth of a training step for 16 of 50 layers.

    Absent: ranks and cosines with fewer than two examples or of zeros alone; `gradient_rank` without a matrix, of
    zeros, of sparse gradients, and where processes hold shares of every tensor (FSDP).
    """

    def __init__(self, most_gradients: int = 16) -> None:
        super().__init__()
        self.most_gradients = most_gradients
        self._outputs = Grams()

    def output(self, block: Block, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._outputs.add(block.name, output, self.examples)

    @torch.no_grad()
    def inside(self, scale: Tensor | float) -> Reading | None:
        if not self._outputs:
            return None
        values = self._outputs.take([block.name for block in self.blocks], _rank_and_cosine, 2)
        rows = [
            Row(block.name, block.index, kind) for block in self.blocks for kind in ("effective_rank", "output_cosine")
        ]
        return Reading(rows, ranks.mean(values.flatten()))

    @torch.no_grad()
    def before_clipping(self, update: Update) -> Reading | None:
        if update.part.sharded:
            return None
        rows: list[Row] = []
        place, matrices = [], []
        with_matrix = [block for block in update.part.blocks if any(p.ndim > 1 for p in block.parameters)]
        chosen = set(spread([block.name for block in with_matrix], self.most_gradients))
        for block in with_matrix:
            if block.name in chosen:
                gradient = update.gradient(max((p for p in block.parameters if p.ndim > 1), key=lambda p: p.numel()))
                if gradient is not None and not gradient.is_sparse and not gradient.is_complex():
                    place.append(len(rows))
                    matrices.append(gradient.detach().flatten(1))
                rows.append(Row(block.name, block.index, "gradient_rank"))
        if not rows:
            return None
        device = update.part.parameters[0].device
        values = torch.full((len(rows),), ABSENT, dtype=wide(device), device=device)
        if matrices:
            values.index_copy_(0, torch.tensor(place, device=device), participation_ratio(matrices).to(device))
        return Reading(rows, values)


def effective_rank(gram_Knn: Tensor) -> Tensor:
    """[K]: exp of the entropy of the shares of the singular values, from those of Gram matrices; `ABSENT` of zeros."""
    finite_K = gram_Knn.isfinite().all(-1).all(-1)
    clean_Knn = torch.where(finite_K[:, None, None], gram_Knn, 0.0)  # eigvalsh refuses what is not finite
    s_Kn = torch.linalg.eigvalsh(clean_Knn).clamp(min=0).sqrt()
    total_K = s_Kn.sum(-1)
    share_Kn = s_Kn / torch.where(total_K > 0, total_K, 1.0)[:, None]
    entropy_K = torch.special.entr(share_Kn).sum(-1)
    found = torch.where(total_K > 0, entropy_K.exp(), ABSENT)
    return torch.where(finite_K, found, torch.nan)


def participation_ratio(matrices: Sequence[Tensor]) -> Tensor:
    """[K]: (Σs²)²/Σs⁴ = ‖G‖_F⁴/‖GGᵀ‖_F² of each matrix; `ABSENT` of zeros, NaN of what is not finite."""
    device = matrices[0].device
    narrow = (torch.float16, torch.bfloat16)
    g = [m.float() if m.dtype in narrow else m for m in matrices]
    norms_K = _stacked(torch._foreach_norm(g, 2, dtype=wide(device)), device)
    units = torch.where(norms_K == 0, 1.0, norms_K).unbind()
    g = [m / unit.to(m.device, m.dtype) for m, unit in zip(g, units, strict=True)]
    squares = [_square(m if m.shape[0] <= m.shape[1] else m.mT) for m in g]
    second_K = _stacked([each.diagonal().sum() for each in squares], device)
    fourth_K = _stacked(torch._foreach_norm(squares), device).square()
    return torch.where(norms_K == 0, ABSENT, second_K.square() / fourth_K)


def _square(g: Tensor) -> Tensor:
    return g @ g.mT


def _stacked(numbers: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.stack([each.to(device, wide(device)) for each in numbers])


def _rank_and_cosine(gram_Knn: Tensor) -> Tensor:
    return torch.stack([effective_rank(gram_Knn), mean_cosine(gram_Knn)], -1)
