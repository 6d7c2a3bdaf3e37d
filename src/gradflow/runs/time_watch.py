"""The Lightning callback that measures the time axis of a run: by a probe beside the training step, and within it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradflow.instruments.time_curve import TimeCurves
from gradflow.instruments.time_grad import TimeGradientHooks
from gradflow.instruments.time_probe import TimeProbe, gradient_rows
from gradflow.lightning import Callback, LightningModule, Trainer
from gradflow.runs.config import Instruments
from gradflow.runs.together import ALONE, Together
from gradflow.training.learner import Learner

SUMMARIES = ("memory_horizon_1%", "memory_horizon_0.1%", "time_decay", "jacobian_decay", "lyapunov_", "forget_leak")


class TimeWatch(Callback):
    """Probes before the steps 0, k, 2k, … and after the last one: every time step, on a small batch.

    The batch is always the first examples of step 0, so that probes of one run compare. With `time_segments` the
    training steps at which gradient norms are measured run in such segments as well, and the gradient at their ends is
    taken from the ordinary backward pass.

    Of several processes all probe the same examples, since a network may need its like on the others to run at all; and
    what a training step shows of each one's share of the batch is put together.

    Args:
        settings: those of the time axis.
        together: the run's processes.

    Attributes:
        rows: measured and not yet taken into the record, which rank 0 writes; in the form of gradflow.parquet.
        seconds: spent on probes, which is no time of training.
    """

    def __init__(self, settings: Instruments, together: Together = ALONE) -> None:
        self.settings, self._together = settings, together
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._learner: Learner | None = None
        self._probe: TimeProbe | None = None
        self._hooks: TimeGradientHooks | None = None
        self._batch: tuple[Tensor, Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        settings, self._learner = self.settings, pl_module
        if settings.time_every_n_steps is not None:
            quantities, loss = settings.time_quantities, pl_module.task.loss
            self._probe = TimeProbe(
                pl_module.network,
                loss,
                quantities,
                examples=settings.time_batch,
                every_step=pl_module.task.every_step,
            )
        if settings.time_segments is not None:
            self._hooks = TimeGradientHooks(pl_module.network, settings.time_segments)
        pl_module.watchers.append(self._before)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The loss is a mean over the batch; a row is about each example's own loss, as those of the probe are."""
        if self._hooks is not None and self._hooks.running:
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            factor = 1.0 if scaler is None else float(scaler.get_scale())
            assert self._learner is not None
            task = self._learner.task
            measured = self._hooks.finish(factor * self._together.world / task.batch_size)
            self._keep(gradient_rows(self._step, self._of_all(measured), task.every_step))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave()
        assert isinstance(pl_module, Learner)
        if pl_module.diverged_at is None and self._probe is not None:
            with trainer.precision_plugin.forward_context():  # as around every training step
                self._measure(self._probe, pl_module.steps_done)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._hooks is not None:
            self._hooks.stop()
        if self._learner is not None and self._before in self._learner.watchers:
            self._learner.watchers.remove(self._before)

    def _before(self, step: int) -> None:
        self._step, every = step, self.settings.time_every_n_steps
        probed = every is not None and step % every == 0
        if self._probe is not None and probed:
            self._measure(self._probe, step)
        if self._hooks is not None and not probed and step % (self.settings.every_n_steps or 1) == 0:
            self._hooks.start()

    def _measure(self, probe: TimeProbe, step: int) -> None:
        learner = self._learner
        assert learner is not None
        began = _now(learner.device)
        if self._batch is None:
            count = self.settings.time_batch
            shares = learner.data.train(0, next(learner.network.parameters()).dtype)
            x, y = (self._together.interleaved(share[: -(-count // self._together.world)]) for share in shares)
            self._batch = x[:count].clone(), y[:count].clone()
        self._keep(probe.measure(step, *self._batch))
        self.seconds += _now(learner.device) - began

    def _of_all(self, measured: TimeCurves) -> TimeCurves:
        """The same of the examples of all processes."""
        if self._together.world == 1:
            return measured
        norms = [self._together.interleaved(torch.from_numpy(each.norms), dim=1) for each in measured.curves]
        curves = [replace(each, norms=whole.numpy()) for each, whole in zip(measured.curves, norms, strict=True)]
        return replace(measured, curves=curves)

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        if self._together.leads:
            self.rows += rows


def _now(device: torch.device) -> float:
    """By when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
