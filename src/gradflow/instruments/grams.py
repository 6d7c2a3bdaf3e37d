"""Inner products between the examples of a batch, from which ranks and similarities follow.

Shapes: n examples, K matrices of one size, L names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradflow.instruments.instrument import ABSENT, first
from gradflow.instruments.wide import wide, widened


def gram(tensor: Tensor, examples: int) -> Tensor:
    """[n, n]: ⟨x_i, x_j⟩ of the first examples along axis 0, each flattened; float64."""
    x = first(tensor.detach(), examples)
    x = torch.view_as_real(x) if x.is_complex() else x
    x = widened(x.flatten(1) if x.ndim > 1 else x.unsqueeze(1))
    return x @ x.mT


def mean_cosine(gram_Knn: Tensor) -> Tensor:
    """[K]: the mean cosine over pairs of different examples; those that are exactly 0 form none.

    `ABSENT` where fewer than two examples are left.
    """
    norms_Kn = gram_Knn.diagonal(dim1=-2, dim2=-1).sqrt()
    inverse_Kn = torch.where(norms_Kn == 0, 0.0, 1 / norms_Kn)
    cosines_Knn = inverse_Kn[:, :, None] * gram_Knn * inverse_Kn[:, None, :]
    count_K = (norms_Kn != 0).sum(-1)
    pairs_K = cosines_Knn.sum((-2, -1)) - cosines_Knn.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.where(count_K > 1, pairs_K / (count_K * (count_K - 1)).clamp(min=1), ABSENT)


class Grams:
    """Gram matrices of several tensors by name, several per name if a batch comes in parts."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Tensor]] = {}

    def add(self, name: str, tensor: Tensor, examples: int) -> None:
        """Take the first examples of one more tensor; a single example has no others to be compared with."""
        if tensor.ndim and tensor.shape[0] > 1 and examples > 1 and tensor.numel():
            self._seen.setdefault(name, []).append(gram(tensor, examples))

    def __bool__(self) -> bool:
        return bool(self._seen)

    def take(self, names: Sequence[str], reduce: Callable[[Tensor], Tensor], columns: int) -> Tensor:
        """Numbers of every name, each the mean over its tensors; then forget all.

        Args:
            names: L of them.
            reduce: from [K, n, n] to [K, columns]; all of one n are reduced together.

        Returns:
            [L, columns], `ABSENT` where there is nothing.
        """
        by_size: dict[int, list[tuple[int, Tensor]]] = {}
        for place, name in enumerate(names):
            for each in self._seen.get(name, ()):
                by_size.setdefault(len(each), []).append((place, each))
        self._seen = {}
        device = next((each.device for found in by_size.values() for _, each in found), torch.device("cpu"))
        total = torch.zeros(len(names), columns, dtype=wide(device), device=device)
        count = torch.zeros_like(total)
        for found in by_size.values():
            values = reduce(torch.stack([each.to(device) for _, each in found])).view(len(found), columns)
            rows = torch.tensor([row for row, _ in found], device=device)
            here = values != ABSENT
            total.index_add_(0, rows, torch.where(here, values, 0.0))
            count.index_add_(0, rows, here.to(total.dtype))
        return torch.where(count > 0, total / count.clamp(min=1), ABSENT)
