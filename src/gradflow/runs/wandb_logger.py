"""Weights & Biases: one W&B run per gradflow run, under the same id."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from gradflow.runs.config import Config
from gradflow.runs.identity import labels, run_id, title


class StepLogger(WandbLogger):
    """Lightning's logger, with W&B's own step set to the training step, so that every viewer has it as its x-axis
    and a run that goes on after a kill does not log a step twice.

    W&B drops what comes for an earlier step than its latest, and instruments report at the end of a chunk of steps, one
    after another: what is logged waits for `save`, and goes out in the order of steps.
    """

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self._waiting: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        self._waiting.setdefault(step, {}).update(metrics)

    def save(self) -> None:
        for step, metrics in sorted(self._waiting.items()):
            self.experiment.log({**metrics, "trainer/global_step": step}, step=step)
        self._waiting.clear()


def make_logger(config: Config, path: Path) -> WandbLogger | None:
    """The logger of a run, its files in the record's `wandb/`; None where `logger.mode` is 'disabled'.

    Offline needs no account and sends nothing. The W&B run has the run id, so that one that goes on after a kill is
    the same W&B run.
    """
    if config.logger.mode == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    run = wandb.init(
        name=title(labels(config)),
        dir=path,
        id=run_id(config),
        resume="allow",  # offline too: `wandb sync` then puts an attempt behind those before it, and not in their place
        mode=config.logger.mode,
        project=config.logger.project,
        entity=config.logger.entity,
        group=config.logger.group,
        tags=config.logger.tags,
        config=labels(config),
        settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True, **_flush_often()),
    )
    run.summary.update({"state": "running"})
    return StepLogger(experiment=run)


def _flush_often() -> dict[str, Any]:
    """W&B's core drops what it has not written when a run is killed: let that be a second's worth, not fifteen."""
    import wandb

    name = "x_transaction_log_flush_interval"
    return {name: 1.0} if name in wandb.Settings.model_fields else {}


def finish(state: str) -> None:
    """Close the W&B run, if one is open, so that the next run of this process gets its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        if state in ("failed", "preempted"):
            wandb.run.summary.update({"state": state})
        wandb.finish(exit_code=0 if state in ("completed", "diverged") else 1)
