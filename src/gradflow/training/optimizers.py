"""Optimisers. Each is a function of the parameter groups that makes a `torch.optim.Optimizer`.

Two groups are passed: `weights` (matrices and kernels) and `vectors` (biases, norm scales and shifts); and a third,
`auxiliary`, for the temporary maps of a pre-training. Weight decay acts on the first alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradflow.checked import BelowOne, NonNegative, Pair, Positive

Groups = list[dict[str, Any]]
BETAS = [0.9, 0.999]  # Kingma & Ba 2015, algorithm 1


def parameter_groups(network: nn.Module, auxiliary: nn.Module | None = None) -> Groups:
    """[{"name": "weights", "params": …}, …]: 'weights', 'vectors' and 'auxiliary', empty ones left out."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups: Groups = [
        {"name": "weights", "params": [p for p in trained if p.ndim >= 2]},
        {"name": "vectors", "params": [p for p in trained if p.ndim < 2]},
        {"name": "auxiliary", "params": [] if auxiliary is None else list(auxiliary.parameters())},
    ]
    return [group for group in groups if group["params"]]


def sgd(
    groups: Groups,
    /,
    *,
    lr: Positive,
    momentum: BelowOne = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013, eqs. 1-4, in torch's form).

    Raises:
        ValueError: if `nesterov` is asked for without momentum.
    """
    if nesterov and momentum == 0:
        raise ValueError("optimizer.nesterov=true needs optimizer.momentum above 0")
    return torch.optim.SGD(
        _decayed(groups, weight_decay), lr=lr, momentum=momentum, nesterov=nesterov, fused=_fused(groups)
    )


def adam(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    betas: Pair = BETAS,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adam (Kingma & Ba 2015, algorithm 1); weight decay is added to the gradient."""
    return torch.optim.Adam(
        _decayed(groups, weight_decay), lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=_fused(groups)
    )


def adamw(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    betas: Pair = BETAS,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""
    return torch.optim.AdamW(
        _decayed(groups, weight_decay), lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=_fused(groups)
    )


def _decayed(groups: Groups, weight_decay: float) -> Groups:
    return [{**group, "weight_decay": weight_decay if group["name"] == "weights" else 0.0} for group in groups]


def _fused(groups: Groups) -> bool:
    """One kernel per update, on the CPU alone: fused CUDA optimisers would unscale float16 gradients after clipping."""
    return all(p.device.type == "cpu" for group in groups for p in group["params"])
