"""A small network, a training loop that is watched, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gradflow.instruments.flow import Flow, watch
from gradflow.instruments.panel import Choice
from gradflow.rng import stream

SEVEN = [
    "delta_norm",
    "grad_histogram",
    "update_ratio",
    "weight_norm",
    "activation_stats",
    "derivative_chain",
    "loss_curve",
]
Numbers = dict[tuple[int, str, str], float]


def network(dtype: torch.dtype = torch.float64, inplace: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Three layers; the same weights whenever it is made."""
    made = nn.Sequential(
        nn.Linear(5, 7), nn.Sigmoid(), nn.Dropout(dropout), nn.Linear(7, 6), nn.ReLU(inplace), nn.Linear(6, 3)
    )
    fill(made)
    return made.to(dtype)


class Checkpointed(nn.Module):
    """The same network, whose activations are computed once more on the way back."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = network(), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.net, x.requires_grad_(), use_reentrant=self.reentrant)


def under(prefix: str, found: Numbers) -> Numbers:
    """The numbers of a network that lies inside another as `prefix`."""
    return {(s, n if n == "all" else f"{prefix}.{n}", q): v for (s, n, q), v in found.items()}


def fill(model: nn.Module) -> None:
    generator = stream(0, "weights")
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / 2)


def batches(count: int, size: int = 8, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    generator = stream(0, "batches")
    return [
        (
            torch.randn(size, 5, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)


def train(
    model: nn.Module,
    instruments: Choice,
    data: Sequence[tuple[Tensor, Tensor]],
    *,
    accumulate: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    criterion: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    **options: Any,
) -> Flow:
    """A plain loop, watched."""
    optimizer = make_optimizer(model)
    with watch(model, instruments=instruments, scaler=scaler, **options) as flow:
        for i, (x, y) in enumerate(data):
            if i % accumulate == 0:
                optimizer.zero_grad()
            loss = criterion(model(x), y) / accumulate
            flow.loss(loss)
            (loss if scaler is None else scaler.scale(loss)).backward()
            if i % accumulate == accumulate - 1:
                if scaler is None:
                    optimizer.step()
                else:
                    scaler.step(optimizer)
                    scaler.update()
    return flow


def numbers(flow: Flow) -> Numbers:
    return {(row["step"], row["name"], row["quantity"]): row["value"] for row in flow.rows()}


def of(found: Numbers, quantity: str, step: int = 0) -> dict[str, float]:
    """One quantity of one step, by block."""
    return {name: value for (at, name, what), value in found.items() if (at, what) == (step, quantity)}
