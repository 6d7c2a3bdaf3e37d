"""Splits that keep the share of every class."""

from __future__ import annotations

import torch
from torch import Tensor

from gradflow.tasks.resident import Split


def hold_out(x: Tensor, y: Tensor, count: int, seed: int) -> tuple[Split, Split]:
    """Set `count` examples aside, stratified by label: (the rest, those set aside)."""
    from sklearn.model_selection import train_test_split  # a second to import, which a plan can do without

    rest, aside = train_test_split(torch.arange(len(y)).numpy(), test_size=count, stratify=y.numpy(), random_state=seed)
    return Split(x[rest], y[rest]), Split(x[aside], y[aside])
