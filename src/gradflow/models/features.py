"""Where the features of a tensor are.

Three layouts, told apart by their number of axes: vectors [B, F], tokens [B, T, F], images [B, C, H, W].
"""

from __future__ import annotations

from torch import Tensor


def feature_axis(x: Tensor) -> int:
    """1 for images [B, C, H, W]; the last axis of everything else."""
    return 1 if x.ndim == 4 else -1
