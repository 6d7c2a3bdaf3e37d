"""Whether learners are stacked rightly, and whether it pays."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from gradflow.training.pack import Stack

Gradients = dict[str, Tensor]

TOLERANCE = {torch.float32: 2e-2, torch.float64: 1e-6}  # of a member's gradient against its own, relative
TRIALS = 3
LOSS_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def better_apart(stack: Stack, x_KB: Tensor, y_KB: Tensor) -> str | None:
    """Why its members had better take turns: the gradient of one is not its own, or together they take longer.

    Each member's loss and gradient on a batch are computed by itself and in the stack; nothing is changed. Only what
    takes longer in every one of a few trials is told apart: another process may have had the processor meanwhile.

    Args:
        x_KB, y_KB: a batch [B, …] of each member.
    """
    alone, together = [], []
    for trial in range(TRIALS):
        seconds, own = _one_after_another(stack, x_KB, y_KB)
        alone.append(seconds)
        for _ in range(1 if trial else 2):  # the first is not warm
            seconds, losses = _at_once(stack, x_KB, y_KB)
            together.append(seconds)
        for k, (loss, gradients) in enumerate(own if trial == 0 else ()):
            fault = _differs(loss, gradients, losses[k], stack.gradients_of(k))
            if fault is not None:
                return f"of member {k}, {fault}"
        if _pays(min(together), min(alone)):
            return None
    return f"together a step takes {min(together) / min(alone):.2f} times as long as one after another"


def _one_after_another(stack: Stack, x_KB: Tensor, y_KB: Tensor) -> tuple[float, list[tuple[Tensor, Gradients]]]:
    """Seconds, and each member's loss and gradients."""
    own = []
    with stack.kept_buffers():
        began = time.perf_counter()
        for k, learner in enumerate(stack.learners):
            loss = learner.task.loss(learner.network(x_KB[k]), y_KB[k])
            trained = {name: p for name, p in learner.network.named_parameters() if p.requires_grad}
            found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
            own.append((loss.detach(), {n: g for n, g in zip(trained, found, strict=True) if g is not None}))
        _synchronize(x_KB)
        return time.perf_counter() - began, own


def _at_once(stack: Stack, x_KB: Tensor, y_KB: Tensor) -> tuple[float, Tensor]:
    """Seconds, and the losses; the stack has the gradients."""
    with stack.kept_buffers():
        began = time.perf_counter()
        losses = stack.differentiate(x_KB, y_KB)
        _synchronize(x_KB)
        return time.perf_counter() - began, losses


def _pays(together: float, one_after_another: float) -> bool:
    return together < one_after_another


def _differs(loss: Tensor, gradients: dict[str, Tensor], ours: Tensor, found: dict[str, Tensor]) -> str | None:
    if not bool(loss.isfinite()):
        return None  # it ends here, and harms nobody
    if set(found) != set(gradients):
        return "other parameters have a gradient in the stack"
    if not torch.isclose(ours, loss, rtol=LOSS_TOLERANCE[loss.dtype], atol=1e-6):
        return f"the loss in the stack is {float(ours):g} instead of {float(loss):g}"
    whole = torch.stack([g.double().square().sum() for g in gradients.values()]).sum().sqrt()
    error = torch.stack([(g - found[n]).double().square().sum() for n, g in gradients.items()]).sum().sqrt()
    if bool(error > TOLERANCE[loss.dtype] * whole + 1e-12):
        return f"the gradient in the stack is off by {float(error / whole):.1e} of its norm"
    return None


def _synchronize(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
