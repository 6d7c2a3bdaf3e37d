"""The gradient through time, measured while a model learns, and the way to watch one in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradflow.instruments.time_curve import TimeCurves
from gradflow.instruments.time_grad import TimeGradientHooks

SEGMENT = 16  # steps that a fused kernel runs at a time; 10 to 28 were as fast as one call, or faster


@dataclass(frozen=True)
class TimeMeasurement:
    """‖∂L/∂h_t‖ at one training step: `step` updates had been made."""

    step: int
    gradient: TimeCurves

    def scalars(self) -> dict[str, float]:
        """For a dashboard, per layer: 'gradflow/time_grad/<layer>/horizon' and so on; what is unknown is left out.

        'horizon': steps back after which the median over examples is below 1 % of the last step's; the sequence's
        length if it never is. 'decay': the slope of ln‖∂L/∂h_t‖ per step back. 'last': the median at the last step.
        Where other parts of a state were measured too, the first two are those of the part that reaches furthest.
        """
        found: dict[str, float] = {}
        for layer in self.gradient.layers():
            start = f"gradflow/time_grad/{layer.name}/"
            horizon, decay = self.gradient.horizon(layer), self.gradient.decay(layer)
            if horizon is not None:
                found[start + "horizon"] = horizon.steps
            if decay is not None:
                found[start + "decay"] = decay.rate
            first = self.gradient.curve(layer.name, layer.state_names[0])
            found[start + "last"] = float(first.median()[0 if layer.reverse else -1])
        return found


@contextmanager
def watch_time(module: nn.Module, *, every_n_steps: int = 1, every: int = SEGMENT) -> Iterator[list[TimeMeasurement]]:
    """Watch ‖∂L/∂h_t‖ of a model's recurrent layers in a plain PyTorch training loop.

    At every `every_n_steps`-th step of an optimiser that updates parameters of `module`, what the forward and backward
    passes before it let through is measured, by hooks on the states; see `TimeFlow` and `TimeGradientHooks`. With a
    `GradScaler` the norms contain its scale, which shifts no horizon.

    Args:
        module: any module with recurrent layers; afterwards it is as it was.
        every_n_steps, every: see `TimeFlow`.

    Yields:
        The measurements, a list that grows.

    Raises:
        ValueError: if a number is not positive, or there is no recurrent layer.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> gru, x = torch.nn.GRU(2, 8, batch_first=True), torch.randn(4, 40, 2)
        >>> optimizer = torch.optim.SGD(gru.parameters(), lr=0.1)
        >>> with watch_time(gru, every=10) as measurements:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         gru(x)[0][:, -1].square().mean().backward()
        ...         optimizer.step()
        >>> [each.step for each in measurements], measurements[0].gradient.curve("rnn").times.tolist()
        ([0, 1, 2], [9, 19, 29, 39])
    """
    if every_n_steps < 1:
        raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
    hooks = TimeGradientHooks(module, every)
    watched = {id(parameter) for parameter in module.parameters()}
    measurements: list[TimeMeasurement] = []
    taken = 0

    def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal taken
        if not any(id(p) in watched for group in optimizer.param_groups for p in group["params"]):
            return
        if hooks.running:
            measurements.append(TimeMeasurement(taken, hooks.finish()))
        taken += 1
        if taken % every_n_steps == 0:
            hooks.start()

    handle = register_optimizer_step_pre_hook(before_step)
    hooks.start()
    try:
        yield measurements
    finally:
        handle.remove()
        hooks.stop()
