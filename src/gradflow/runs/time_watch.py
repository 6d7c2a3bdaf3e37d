"""The Lightning callback that measures the time axis of a run: by a probe beside the training step, and within it."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gradflow.instruments.time_grad import TimeGradientHooks
from gradflow.instruments.time_probe import TimeProbe, gradient_rows
from gradflow.runs.config import Instruments
from gradflow.training.learner import Learner

SUMMARIES = ("memory_horizon_1%", "memory_horizon_0.1%", "time_decay", "jacobian_decay")


class TimeWatch(Callback):
    """Probes before the steps 0, k, 2k, … and after the last one: every time step, on a small batch.

    The batch is the first examples of the step's own, so that a run that goes on after a kill measures the same. With
    `time_segments` the training steps at which gradient norms are measured run in such segments as well, and the
    gradient at their ends is taken from the ordinary backward pass.

    Args:
        settings: those of the time axis.

    Attributes:
        rows: measured and not yet taken into the record; in the form of gradflow.parquet.
        seconds: spent on probes, which is no time of training.
    """

    def __init__(self, settings: Instruments) -> None:
        self.settings = settings
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._probe: TimeProbe | None = None
        self._hooks: TimeGradientHooks | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        settings, self._learner = self.settings, pl_module
        if settings.time_every_n_steps is not None:
            quantities, loss = settings.time_quantities, pl_module.task.loss
            self._probe = TimeProbe(pl_module.network, loss, quantities, examples=settings.time_batch)
        if settings.time_segments is not None:
            self._hooks = TimeGradientHooks(pl_module.network, settings.time_segments)
        pl_module.watchers.append(self._before)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The loss is a mean over the batch; a row is about each example's own loss, as those of the probe are."""
        if self._hooks is not None and self._hooks.running:
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            factor = 1.0 if scaler is None else float(scaler.get_scale())
            self.rows += gradient_rows(self._step, self._hooks.finish(factor / self._learner.task.batch_size))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave()
        if self._learner.diverged_at is None and self._probe is not None:
            self._measure(self._probe, self._learner.steps_done)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._hooks is not None:
            self._hooks.stop()
        if self._before in self._learner.watchers:
            self._learner.watchers.remove(self._before)

    def _before(self, step: int) -> None:
        self._step, every = step, self.settings.time_every_n_steps
        probed = every is not None and step % every == 0
        if self._probe is not None and probed:
            self._measure(self._probe, step)
        if self._hooks is not None and not probed and step % (self.settings.every_n_steps or 1) == 0:
            self._hooks.start()

    def _measure(self, probe: TimeProbe, step: int) -> None:
        began = _now(self._learner.device)
        x, y = self._learner.data.train(step, next(self._learner.network.parameters()).dtype)
        self.rows += probe.measure(step, x, y)
        self.seconds += _now(self._learner.device) - began


def _now(device: torch.device) -> float:
    """By when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
