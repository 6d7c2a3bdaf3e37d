"""Numbers as they are summed and reported."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wide(device: torch.device) -> torch.dtype:
    """float64; float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def widened(tensor: Tensor) -> Tensor:
    """The same numbers in the type in which sums are taken."""
    return tensor.to(wide(tensor.device))


def present(values: Tensor) -> Tensor:
    """Measured numbers, none of which must be taken for `ABSENT`: NaN in place of −∞."""
    return torch.nan_to_num(values, nan=math.nan, posinf=math.inf, neginf=math.nan)
