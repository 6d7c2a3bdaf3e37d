"""What a run records of the flow through time: a probe beside the training step, on a few examples of its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.instruments.forget_leak import forget_leak
from gradflow.instruments.jacobian_time import VECTORS, time_jacobian
from gradflow.instruments.layers_in_time import TimeLayer, find_time_layers
from gradflow.instruments.lyapunov import lyapunov
from gradflow.instruments.memory_horizon import Decay
from gradflow.instruments.time_curve import TimeCurve, TimeCurves
from gradflow.instruments.time_grad import time_gradient
from gradflow.rng import stream

QUANTITIES = ("time_grad", "jacobian_time", "forget_leak", "lyapunov")
SHARES = ((0.01, "memory_horizon_1%"), (0.001, "memory_horizon_0.1%"))
Row = dict[str, Any]
Found = tuple[TimeLayer, int | None, str, float]


class TimeProbe:
    """Measures chosen quantities of a network with recurrent layers, without changing its training.

    | chosen | rows over time | rows without a time |
    | --- | --- | --- |
    | time_grad | time_grad_h, time_grad_c …, and with _q10, _q90 | memory_horizon_1%, memory_horizon_0.1%, time_decay |
    | jacobian_time | time_jacobian; time_jacobian_c … | jacobian_decay |
    | forget_leak | forget_leak (log₁₀) | |
    | lyapunov | | lyapunov_1 … lyapunov_k |

    Beside a decay stand the ends of its 95 % confidence interval, with _low and _high.

    Norms are medians over the examples, with quantiles 10 % and 90 %, of the gradient of the example's own loss: a mean
    over the batch is multiplied by its size. Decays and horizons are those of the part of a state
    that reaches furthest: an S4D layer's h is only read from its c. A horizon equal to the sequence's
    length means 'at least'. What is not known has no row.

    Args:
        network: any module with recurrent layers, called as `network(x)`.
        loss: (outputs, y) → mean loss of a batch.
        quantities: of `QUANTITIES`.
        examples: the first so many of a batch are probed; 16, step by step, cost about a third of a
            fused LSTM's training step on 128 (benchmarks/time_probe.py).
        every: steps between measured states; with more than 1, time_grad is measured of h only.
        vectors: for jacobian_time; None: exact.
        exponents: k of lyapunov.
        every_step: whether the loss reads every step's output [B, T, …]. A state's gradient is then mostly that of the
            outputs next to it, so that horizons and decays are taken of a second gradient: of the last output's part of
            the loss alone.

    Attributes:
        layers: what is watched.
        without: why a quantity is not measured, per name of a layer; known after the first measurement, and for layers
            through which no gradient flows from the beginning.

    Raises:
        ValueError: for a quantity that is not known, numbers that are not positive, or a network without recurrent
            layers.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        quantities: Sequence[str] = ("time_grad",),
        *,
        examples: int = 16,
        every: int = 1,
        vectors: int | None = VECTORS,
        exponents: int = 1,
        every_step: bool = False,
    ) -> None:
        unknown = [name for name in quantities if name not in QUANTITIES]
        if unknown:
            raise ValueError(f"instruments: no quantity is called '{unknown[0]}'; choose of {', '.join(QUANTITIES)}")
        for name, number in (("examples", examples), ("every", every), ("vectors", vectors), ("exponents", exponents)):
            if number is not None and number < 1:
                raise ValueError(f"instruments.{name}={number}: must be at least 1")
        self.network, self.loss, self.quantities = network, loss, tuple(quantities)
        self.examples, self.every, self.vectors, self.exponents = examples, every, vectors, exponents
        self.every_step = every_step
        self.layers = find_time_layers(network)
        self.without = {each.name: each.no_gradient for each in self.layers if each.no_gradient is not None}

    def measure(self, step: int, x: Tensor, y: Tensor) -> list[Row]:
        """One row per number: dict(step, block, name, time, quantity, value).

        Args:
            step: updates made before.
            x, y: a batch, examples first.
        """
        x, y = x[: self.examples], y[: self.examples]
        rows: list[Row] = []
        for name in self.quantities:
            measure = getattr(self, f"_{name}")
            rows += _rows(step, measure(step, x, y))
        return rows

    def _time_grad(self, step: int, x: Tensor, y: Tensor) -> Iterator[Found]:
        def loss(last_alone: bool) -> Tensor:
            out = self.network(x)
            if last_alone:
                out = torch.cat([out[:, :-1].detach(), out[:, -1:]], 1)
            return self.loss(out, y) * len(x)

        measured = time_gradient(self.network, lambda: loss(False), every=self.every, layers=self.layers)
        self.without.update(measured.without)
        yield from _curves(measured)
        if self.every_step:
            measured = time_gradient(self.network, lambda: loss(True), every=self.every, layers=self.layers)
        yield from _reach(measured)

    def _jacobian_time(self, step: int, x: Tensor, y: Tensor) -> Iterator[Found]:
        generator = stream(0, "jacobian_time", step)
        measured = time_jacobian(
            self.network, lambda: self.network(x), vectors=self.vectors, generator=generator, layers=self.layers
        )
        self.without.update(measured.without)
        for curve in measured.curves:
            first = curve.part == curve.layer.state_names[0]
            yield from _over_time(curve, "time_jacobian" if first else f"time_jacobian_{curve.part}", 0.5)
        for layer in measured.layers():
            yield from _slope(layer, "jacobian_decay", measured.decay(layer))

    def _forget_leak(self, step: int, x: Tensor, y: Tensor) -> Iterator[Found]:
        for leak in forget_leak(self.network, lambda: self.network(x), layers=self.layers):
            for time, value in zip(leak.times.tolist(), leak.log10.tolist(), strict=True):
                yield leak.layer, time, "forget_leak", value

    def _lyapunov(self, step: int, x: Tensor, y: Tensor) -> Iterator[Found]:
        for each in lyapunov(self.network, x, self.exponents, generator=stream(0, "lyapunov", step)):
            for number, value in enumerate(each.mean().tolist(), 1):
                yield each.layer, None, f"lyapunov_{number}", value


def gradient_rows(step: int, measured: TimeCurves, every_step: bool = False) -> list[Row]:
    """What `TimeProbe` gives for 'time_grad', of curves that `TimeGradientHooks` measured in a training step.

    Where the loss reads every step's output, nothing is said of horizons and decays.
    """
    return _rows(step, [*_curves(measured), *([] if every_step else _reach(measured))])


def _rows(step: int, found: Iterable[Found]) -> list[Row]:
    return [
        {"step": step, "block": layer.block, "name": layer.name, "time": time, "quantity": quantity, "value": value}
        for layer, time, quantity, value in found
    ]


def _curves(measured: TimeCurves) -> Iterator[Found]:
    for curve in measured.curves:
        name = f"time_grad_{curve.part}"
        yield from _over_time(curve, name, 0.5)
        yield from _over_time(curve, f"{name}_q10", 0.1)
        yield from _over_time(curve, f"{name}_q90", 0.9)


def _reach(measured: TimeCurves) -> Iterator[Found]:
    for layer in measured.layers():
        for share, quantity in SHARES:
            horizon = measured.horizon(layer, share)
            if horizon is not None:
                yield layer, None, quantity, horizon.steps
        yield from _slope(layer, "time_decay", measured.decay(layer))


def _over_time(curve: TimeCurve, quantity: str, q: float) -> Iterator[Found]:
    for time, value in zip(curve.times.tolist(), curve.quantile(q).tolist(), strict=True):
        yield curve.layer, time, quantity, value


def _slope(layer: TimeLayer, quantity: str, found: Decay | None) -> Iterator[Found]:
    if found is not None:
        for suffix, value in (("", found.rate), ("_low", found.low), ("_high", found.high)):
            if value == value:  # NaN: unknown
                yield layer, None, quantity + suffix, value
