"""Optimisers. Each is a function of the parameter groups that makes a `torch.optim.Optimizer`.

Two groups are passed: `weights` (matrices and kernels) and `vectors` (biases, norm scales and shifts, and what a module
names in `not_decayed`, as a state-space cell does its dynamics); and a third, `auxiliary`, for the temporary maps of a
pre-training. Weight decay acts on the first alone.
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
    spared = {id(getattr(m, name)) for m in network.modules() for name in getattr(m, "not_decayed", ())}
    groups: Groups = [
        {"name": "weights", "params": [p for p in trained if p.ndim >= 2 and id(p) not in spared]},
        {"name": "vectors", "params": [p for p in trained if p.ndim < 2 or id(p) in spared]},
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


def rmsprop(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    decay: BelowOne = 0.9,
    momentum: BelowOne = 0.0,
    centered: bool = False,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """v ← ρ v + (1 − ρ) g², w ← w − lr · g / (√v + ε) (Tieleman & Hinton 2012, lecture 6e); weight decay is added to
    the gradient.

    Args:
        lr: 10⁻³, as most papers on recurrent networks have it.
        decay: ρ; 0.9, as they have it too. torch's own default is 0.99.
        momentum: μ of b ← μ b + g / (√v + ε), w ← w − lr · b.
        centered: whether v is an estimate of the variance: the squared mean of the gradient is taken off it.
        eps: ε, outside of the root.
        weight_decay: of weight matrices.
    """
    return torch.optim.RMSprop(
        _decayed(groups, weight_decay), lr=lr, alpha=decay, momentum=momentum, centered=centered, eps=eps
    )


def adagrad(
    groups: Groups,
    /,
    *,
    lr: Positive = 0.01,
    initial_accumulator: NonNegative = 0.0,
    eps: NonNegative = 1e-10,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """v ← v + g², w ← w − lr · g / (√v + ε) (Duchi, Hazan & Singer 2011, with a diagonal matrix); weight decay is added
    to the gradient.

    Args:
        lr: torch's default.
        initial_accumulator: v to begin with.
        eps: ε; torch's default.
        weight_decay: of weight matrices.
    """
    optimizer = torch.optim.Adagrad(
        _decayed(groups, weight_decay),
        lr=lr,
        initial_accumulator_value=initial_accumulator,
        eps=eps,
        fused=_fused(groups),
    )
    optimizer.register_step_pre_hook(_begin_sums)
    return optimizer


def _begin_sums(optimizer: Optimizer, *_: Any) -> None:
    """Adagrad's sums where there are none: torch begins them when the optimiser is made, and not again where its state
    is cleared, as it is between pre-training and the task itself."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None and not optimizer.state[p]:
                total = torch.full_like(p, group["initial_accumulator_value"], memory_format=torch.preserve_format)
                optimizer.state[p] = {"step": torch.tensor(0.0, dtype=torch.float32), "sum": total}


def _decayed(groups: Groups, weight_decay: float) -> Groups:
    return [{**group, "weight_decay": weight_decay if group["name"] == "weights" else 0.0} for group in groups]


def _fused(groups: Groups) -> bool:
    """One kernel per update, on the CPU alone: fused CUDA optimisers would unscale float16 gradients after clipping."""
    return all(p.device.type == "cpu" for group in groups for p in group["params"])
