"""The Lightning callback that writes a run's record while it trains."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gradflow.instruments.flow import flat_rows
from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.lightning import LightningModule, Trainer
from gradflow.runs.claim import Claim
from gradflow.runs.lockstep import Judge, Lockstep, the_learner
from gradflow.runs.record import write_json
from gradflow.runs.series import GRADFLOW, METRICS, Series
from gradflow.runs.stop import Stop
from gradflow.runs.time_watch import TimeWatch
from gradflow.runs.together import ALONE, Together
from gradflow.runs.wandb_logger import WandbLog
from gradflow.training.learner import Learner

HEARTBEAT = 2.0  # seconds between two writes of status.json
PACKED_HEARTBEAT = 20.0  # of each of many runs that share a process
PACKED_REST = 60.0  # seconds between checkpoints of each: those of 64 small runs take two
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class Recorder(Lockstep):
    """Collects figures and measurements, keeps `status.json` fresh, and writes the run's checkpoints.

    Args:
        mine: the right to write the run's record.
        status: what `status.json` holds beside step and heartbeat.
        first_step: where this attempt begins.
        flow: the instrument, or None.
        watch: the instruments of the time axis, or None.
        stop, judge, together: see `Lockstep`.
        on_progress: told (step, total steps, latest training loss) about four times a second.
        wandb: what W&B is told; None where it is not.

    Attributes:
        heartbeat: seconds between two writes of status.json.
        clock_of_run: seconds, of which those of other runs are no part where several share a process.
        train_seconds: of all attempts together, from the first step to the last, validation and compiling included,
            but not the probes of the time axis.
        clock: [step, seconds of training by then] of each validation: when it began, which is when the network that it
            judges was there.
    """

    def __init__(
        self,
        mine: Claim,
        status: dict[str, Any],
        first_step: int,
        flow: GradientFlow | None,
        watch: TimeWatch | None,
        stop: Stop,
        on_progress: Callable[[int, int, float], None] | None = None,
        judge: Judge | None = None,
        together: Together = ALONE,
        wandb: WandbLog | None = None,
    ) -> None:
        super().__init__(mine.path, first_step, stop, judge, together)
        path, self.mine, self.status = mine.path, mine, status
        self.flow, self.watch, self.on_progress, self.wandb = flow, watch, on_progress, wandb
        # A figure of step s was made after s updates; a gradient of step s before update s + 1.
        self.metrics = Series(path / "metrics.parquet", METRICS, before=first_step + 1 if first_step else 0)
        self.gradflow = Series(path / "gradflow.parquet", GRADFLOW, before=first_step)
        self.final = {f"{row['split']}/{row['name']}": row["value"] for row in self.metrics.table().to_pylist()}
        self.heartbeat, self.clock_of_run = HEARTBEAT, time.monotonic
        self.train_seconds = 0.0
        self.clock: list[list[float]] = []
        self._seen = 0
        self._loss = math.nan
        self._beat = self._told = 0.0
        if wandb is not None:
            wandb.recorded(self.metrics, self.gradflow)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._began = self.clock_of_run()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        learner, now = the_learner(pl_module), time.monotonic()
        if self.on_progress is not None and now - self._told > 0.25:
            self._told = now
            self.on_progress(learner.steps_done, learner.budget.total, self._loss)
        if now - self._beat > self.heartbeat:
            self._beat = now
            self.write_status(step=learner.steps_done, total=learner.budget.total)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = the_learner(pl_module).steps_done
        if not self.clock or self.clock[-1][0] != step:  # the first batch; by now the device has caught up
            self.clock.append([step, self._seconds()])
        super().on_validation_batch_start(trainer, pl_module)

    def _listen(self) -> None:
        super()._listen()
        now = time.monotonic()
        if now - self._beat > self.heartbeat:
            self._beat = now
            self.write_status()

    def judged(self, learner: Learner) -> bool:
        if self.judge is None:
            return False
        return self.judge(learner.steps_done, {k: v for k, v in self.final.items() if k.startswith("val/")})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train_seconds = self._seconds()
        self.status["step"] = the_learner(pl_module).steps_done
        super().on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint: the time of earlier attempts counts."""
        return {"train_seconds": self._seconds(), "clock": self.clock}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.train_seconds, self.clock = state_dict["train_seconds"], state_dict["clock"]

    def write_status(self, **more: Any) -> None:
        self.mine.check()
        self.status.update(heartbeat=time.time(), **more)
        write_json(self.path / "status.json", self.status)

    def write_series(self) -> None:
        self.mine.check()
        self.metrics.write()
        self.gradflow.write()

    def collect(self, trainer: Trainer, learner: Learner) -> None:
        """Take what is new from the learner and the instruments, into the record and to W&B."""
        per_epoch = learner.task.steps_per_epoch
        for figure in learner.figures:
            for name, value in figure.values.items():
                epoch = max(0, figure.step - 1) // per_epoch if per_epoch else 0
                self.metrics.add(step=figure.step, epoch=epoch, split=figure.split, name=name, value=value)
            named = {f"{figure.split}/{name}": value for name, value in figure.values.items()}
            self.final.update(named)
            self._loss = named.get("train/loss", named.get("pretrain/loss", self._loss))
            if self.wandb is not None:
                self.wandb.figure(figure.step, named)
        learner.figures.clear()
        if self.flow is not None and hasattr(self.flow, "flow"):
            for measurement in self.flow.flow.measurements[self._seen :]:
                for row in flat_rows(measurement):
                    self.gradflow.add(**row)
                if self.wandb is not None:
                    self.wandb.measured(measurement)
            self._seen = len(self.flow.flow.measurements)
        if self.watch is not None:
            self._take_probes(self.watch)
        if self.wandb is not None:
            self.wandb.reached(learner.steps_done, learner.budget.total)

    def _take_probes(self, watch: TimeWatch) -> None:
        for row in watch.rows:
            self.gradflow.add(**row)
        if self.wandb is not None:
            self.wandb.through_time(watch.rows)
        watch.rows.clear()

    def _seconds(self) -> float:
        probing = self.watch.seconds if self.watch is not None else 0.0
        return self.train_seconds + self.clock_of_run() - self._began - probing

    def save(self, trainer: Trainer, step: int) -> None:
        """Series first: they may reach further than the checkpoint, and are cut back to it, but never less far."""
        self.write_series()
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        temporary = folder / f".{os.getpid()}.ckpt"
        try:
            trainer.save_checkpoint(temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if (folder / LAST).exists():
            os.replace(folder / LAST, folder / PREVIOUS)
        os.replace(temporary, folder / LAST)
        self._saved, self._saved_at = step, time.monotonic()
        self.write_status(step=step)


def newest_checkpoint(path: Path) -> tuple[Path, int] | None:
    """The newest checkpoint that can be read, and its step; a damaged one gives way to the one before."""
    for name in (LAST, PREVIOUS):
        file = path / "checkpoints" / name
        if not file.exists():
            continue
        try:
            step = torch.load(file, map_location="cpu", weights_only=True)["gradflow_step"]
        except Exception:  # noqa: BLE001 - torch raises half a dozen kinds for a damaged file
            continue
        return file, int(step)
    return None
