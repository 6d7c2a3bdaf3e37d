"""The Lightning callback that ends and checkpoints a run in all of its processes at the same step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradflow.lightning import Callback, LightningModule, Trainer
from gradflow.runs.stop import InterruptedRun, Stop
from gradflow.runs.together import ALONE, Together
from gradflow.training.learner import Learner

PATIENCE = 3.0  # seconds for which an evaluation goes on after a wish to stop
# (step, {'val/loss': …}) → whether the run had better end here
Judge = Callable[[int, dict[str, float]], bool]


class PrunedRun(Exception):
    """A run that its judge ended at a validation."""


class Lockstep(Callback):
    """Saves checkpoints, stops when asked to, and ends where the run's judge says so.

    A checkpoint is saved, and a wish to stop is granted, just before a chunk of steps or within one: by then everything
    that belongs to the steps before, validation included, has been recorded, so that a run that goes on from there
    leaves the same record as one that was never stopped.

    A wish that has reached one process of several is everybody's at the next chunk. All see the same losses, and so the
    same divergence, already; rank 0 alone asks the judge.

    Args:
        path: the run's record.
        first_step: where this attempt begins.
        stop: the wish to stop, as it has come to this process.
        judge: asked at every validation whether the run ends there, as `PrunedRun`; a search's pruner.
        together: the run's processes.

    Attributes:
        rest: seconds between two checkpoints, at least: in a pack a run's steps come sooner than its own would.
    """

    def __init__(
        self, path: Path, first_step: int, stop: Stop, judge: Judge | None = None, together: Together = ALONE
    ) -> None:
        self.path, self.stop, self.judge, self.together = path, stop, judge, together
        self._saved, self._saved_at = first_step, time.monotonic()
        self.rest = 0.0
        self._asked: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.together.world == 1:
            the_learner(pl_module).leaves = lambda: self.stop.requested

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        learner = the_learner(pl_module)
        step = learner.steps_done
        if self.together.any(self.stop.requested):
            if step > self._saved:
                self.save(trainer, step)
            raise InterruptedRun
        rested = time.monotonic() - self._saved_at >= self.rest
        if step > self._saved and step % learner.budget.checkpoint_every == 0 and rested:
            self.save(trainer, step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        learner = the_learner(pl_module)
        self.collect(trainer, learner)
        if learner.steps_done < batch[1] and learner.diverged_at is None:  # it has left the rest of the chunk
            self.save(trainer, learner.steps_done)
            raise InterruptedRun

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._listen()

    def on_test_batch_start(self, *_: Any) -> None:
        self._listen()

    def _listen(self) -> None:
        """An evaluation that takes long must not keep a wish to stop waiting; the run then goes on from its last
        checkpoint, so that a short one had better be finished."""
        now = time.monotonic()
        if self.stop.requested and self._asked is None:
            self._asked = now
        if self.together.any(self._asked is not None and now - self._asked > PATIENCE):
            raise InterruptedRun

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        learner = the_learner(pl_module)
        self.collect(trainer, learner)
        if learner.diverged_at is None and self.together.first(self.judged(learner)):
            raise PrunedRun

    def judged(self, learner: Learner) -> bool:
        """What the judge says of this validation."""
        return False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.collect(trainer, the_learner(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.collect(trainer, the_learner(pl_module))

    def collect(self, trainer: Trainer, learner: Learner) -> None:
        """Rank 0 has the same figures."""
        learner.figures.clear()

    def save(self, trainer: Trainer, step: int) -> None:
        """Take part in a checkpoint, which rank 0 writes."""
        trainer.save_checkpoint(self.path / "checkpoints" / f".{self.together.rank}.ckpt")
        self._saved, self._saved_at = step, time.monotonic()


def the_learner(module: LightningModule) -> Learner:
    assert isinstance(module, Learner)
    return module
