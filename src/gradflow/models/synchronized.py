"""Statistics of a batch that lies on several processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def in_several_processes() -> bool:
    """Whether there are others that may have a share of the batch."""
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def batch_moments(rows_NF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [F], variance [F] with divisor N, N) over the rows of all processes, differentiable on each.

    The variance is that of deviations from the common mean, which loses nothing where the mean is large.
    """
    count = torch.tensor(float(len(rows_NF)), device=rows_NF.device)
    torch.distributed.all_reduce(count)
    mean = all_reduce(rows_NF.sum(0)) / count  # type: ignore[no-untyped-call]
    variance = all_reduce((rows_NF - mean).square().sum(0)) / count  # type: ignore[no-untyped-call]
    return mean, variance, count
