"""The Lightning callback that watches the gradient through time of any LightningModule."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gradflow.instruments.time_grad import TimeGradientHooks
from gradflow.instruments.time_probe import TimeProbe
from gradflow.instruments.watch_time import SEGMENT, TimeMeasurement
from gradflow.lightning import Callback, LightningModule, Trainer

__all__ = ["TimeFlow", "TimeProbe"]


class TimeFlow(Callback):
    """Measures ‖∂L/∂h_t‖ of every recurrent layer, as `Trainer(callbacks=[TimeFlow()])`.

    It is measured in the ordinary training step, whose numbers stay the same but for rounding: at measured steps,
    `nn.RNN`, `nn.LSTM` and `nn.GRU` run in segments, and hooks keep the gradient at their ends. Horizon, decay and the
    last step's norm of each layer go to the trainer's loggers; the curves stay in `measurements`.

    The norms are those of the loss as it is differentiated, on this process's own examples. A mean over B examples
    makes each of them B times smaller than the gradient of the example's own loss, which shifts no horizon. The first
    backward pass of a step is measured; see `TimeGradientHooks`.

    Args:
        every_n_steps: optimiser steps between measurements.
        every: time steps between measured states; 1 measures every step, and all parts of a state, such as an LSTM's c.

    Attributes:
        measurements: one per measured step, in order.

    Raises:
        ValueError: if a number is not positive; at the beginning of `fit`, if there is no recurrent layer.
    """

    def __init__(self, every_n_steps: int = 50, every: int = SEGMENT) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: must be at least 1")
        if every < 1:
            raise ValueError(f"every={every}: must be at least 1")
        self.every_n_steps, self.every = every_n_steps, every
        self.measurements: list[TimeMeasurement] = []
        self._hooks: TimeGradientHooks | None = None
        self._scale: Tensor | float = 1.0
        self._next = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hooks = TimeGradientHooks(pl_module, self.every)
        self._next = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert self._hooks is not None
        step = trainer.global_step // max(1, len(trainer.optimizers))
        if step >= self._next:
            self._step, self._next = step, step - step % self.every_n_steps + self.every_n_steps
            self._hooks.start()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._scale = 1.0 if scaler is None or scaler._scale is None else scaler._scale.clone()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._hooks is None or not self._hooks.running:
            return
        measurement = TimeMeasurement(self._step, self._hooks.finish(self._scale))
        self.measurements.append(measurement)
        for logger in trainer.loggers:
            logger.log_metrics(measurement.scalars(), step=measurement.step)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._hooks is not None:
            self._hooks.stop()
