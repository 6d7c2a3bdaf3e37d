"""Numbers of all processes together. Each function is a collective: every process must call it at the same step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist

from gradflow.instruments.instrument import ABSENT


def world() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share(examples: int) -> int:
    """How many of a batch's first examples this process has, where rank r of n has every n-th of them from r on; one at
    least. Not a collective."""
    if world() == 1:
        return examples
    return max(1, -(-(examples - dist.get_rank()) // world()))


def mean(values: Tensor) -> Tensor:
    """The mean over those processes that have a number; `ABSENT` where none has."""
    if world() == 1:
        return values
    here = values != ABSENT
    both = torch.stack([torch.where(here, values, 0.0), here.to(values.dtype)])
    dist.all_reduce(both)
    return torch.where(both[1] > 0, both[0] / both[1], ABSENT)


def total(values: Tensor) -> Tensor:
    """The sum over processes."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def largest(values: Tensor) -> Tensor:
    """The largest over processes; NaN if one has it."""
    if world() > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor that is sharded, a tensor that is not as it is."""
    share = getattr(tensor, "to_local", None)
    return share() if callable(share) else tensor


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold shares of the parameters: FSDP of either kind."""
    if world() == 1:
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel

    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        callable(getattr(p, "to_local", None)) for p in model.parameters()
    )
