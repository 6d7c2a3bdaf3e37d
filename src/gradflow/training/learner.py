"""The one LightningModule: how a network learns a task.

Lightning's cost per call matters for small networks (its automatic loop makes a 0.67 ms step 54 % longer), so that one
`training_step` runs a chunk of optimiser steps, and losses stay on the device until the logging interval ends.
Batches, learning rate and everything random are functions of the step, which is all that a restart needs to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from gradflow.models.network import Network
from gradflow.tasks.classification import Classification, TaskData
from gradflow.training.budget import Budget
from gradflow.training.optimizers import Groups, parameter_groups

EVALUATION_BATCH = 2_000  # examples at once when nothing is differentiated


@dataclass(frozen=True)
class Progress:
    """Figures that have just been brought over from the device: `step` updates had been made."""

    step: int
    split: str
    values: dict[str, float]


class Learner(LightningModule):
    """Trains `network` on `task`.

    Args:
        network: initialised, on the CPU.
        task: loss, score and the shape of the data.
        load: reads the data to a device, given (device, rank, world).
        make_optimizer: from parameter groups.
        schedule: (step, total steps) → factor of the base learning rate.
        budget: when things happen.
        clip: None, or how to clip all gradients: (parameters) → None.
    """

    def __init__(
        self,
        network: Network,
        task: Classification,
        load: Callable[[torch.device, int, int], TaskData],
        make_optimizer: Callable[[Groups], Optimizer],
        schedule: Callable[[int, int], float],
        budget: Budget,
        clip: Callable[[Sequence[Tensor]], object] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.task, self.budget = network, task, budget
        self._load, self._make_optimizer, self._schedule, self._clip = load, make_optimizer, schedule, clip
        self.steps_done = 0
        self.diverged_at: int | None = None
        self.figures: list[Progress] = []
        self._losses: list[Tensor] = []
        self._data: TaskData | None = None
        self._generators: list[Tensor] = []
        self._sums: dict[str, Tensor] = {}

    @property
    def data(self) -> TaskData:
        if self._data is None:
            self._data = self._load(self.device, self.trainer.global_rank, self.trainer.world_size)
        return self._data

    def configure_optimizers(self) -> Optimizer:
        optimizer = self._make_optimizer(parameter_groups(self.network))
        self._base_lr = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    # --- training ---------------------------------------------------------------------------------------------

    def train_dataloader(self) -> Chunks:
        return Chunks(self)

    def on_train_start(self) -> None:
        # Lightning counts from 0 in each process; the step of a resumed run goes on.
        loop = self.trainer.fit_loop.epoch_loop.manual_optimization
        loop.optim_step_progress.total.ready = loop.optim_step_progress.total.completed = self.steps_done
        if self._generators:
            torch.set_rng_state(self._generators[0].cpu())
            if len(self._generators) - 1 == torch.cuda.device_count():
                torch.cuda.set_rng_state_all([state.cpu() for state in self._generators[1:]])
        self._clipped = [p for p in self.network.parameters() if p.requires_grad]

    def training_step(self, chunk: tuple[int, int]) -> None:
        optimizer = self.optimizers()
        for step in range(*chunk):
            factor = self._schedule(step, self.budget.total)
            for group, base in zip(optimizer.param_groups, self._base_lr, strict=True):  # type: ignore[union-attr]
                group["lr"] = base * factor
            optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
            x, y = self.data.train(step, self._param_dtype)
            loss = self.task.loss(self.network(x), y)
            self.manual_backward(loss)
            optimizer.step()  # type: ignore[union-attr]
            self._losses.append(loss.detach())
        self.steps_done = chunk[1]
        if self.steps_done % self.budget.log_every == 0 or self.steps_done == self.budget.total:
            self._bring_losses_over()
        if self.steps_done == self.budget.total:
            self.trainer.should_stop = True

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Lightning calls this after unscaling and after the instruments."""
        if self._clip is not None:
            self._clip(self._clipped)

    def on_train_end(self) -> None:
        self._bring_losses_over()  # of an interval that the clock cut short

    def _bring_losses_over(self) -> None:
        """Mean loss since the last time."""
        if self._losses:
            losses = self._look_for_divergence()
            self._losses.clear()
            if self.diverged_at is None:
                self.figures.append(Progress(self.steps_done, "train", {"loss": losses.mean().item()}))

    def _look_for_divergence(self) -> Tensor:
        """The losses since the last logging interval; the first non-finite one ends the run."""
        losses = torch.stack([loss.to(self.device, torch.float64) for loss in self._losses])
        if self.trainer.world_size > 1:
            losses = self.trainer.strategy.reduce(losses, reduce_op="mean")
        losses = losses.cpu()
        broken = (~losses.isfinite()).nonzero()
        if len(broken) and self.diverged_at is None:
            self.diverged_at = self.steps_done - len(losses) + int(broken[0])
            self.trainer.should_stop = True
        return losses

    # --- evaluation -------------------------------------------------------------------------------------------

    def val_dataloader(self) -> Slices:
        return Slices(len(self.data.splits["val"]))

    def test_dataloader(self) -> Slices:
        return Slices(len(self.data.splits["test"]))

    def on_validation_epoch_start(self) -> None:
        self._sums = {}
        if self._losses:
            self._look_for_divergence()

    def on_test_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, part: tuple[int, int]) -> None:
        self._score("val", part)

    def test_step(self, part: tuple[int, int]) -> None:
        self._score("test", part)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def _score(self, split: str, part: tuple[int, int]) -> None:
        x, y = self.data.evaluation(split, *part, self._param_dtype)
        for name, total in self.task.score(self.network(x), y).items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def _report(self, split: str) -> None:
        if self.diverged_at is not None:
            return
        names = list(self._sums)
        means = (torch.stack([self._sums[n] for n in names]) / len(self.data.splits[split])).tolist()
        values = dict(zip(names, means, strict=True))
        if split == "test" and not all(map(math.isfinite, means)):
            self.diverged_at = self.steps_done  # the last update broke the weights: the next loss would show it
            return
        self.figures.append(Progress(self.steps_done, split, values))
        if split == "val":  # for callbacks that watch a metric
            self.trainer.callback_metrics.update({f"val/{n}": torch.tensor(v) for n, v in values.items()})

    @property
    def _param_dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    # --- restarts ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gradflow_step"] = self.steps_done
        checkpoint["gradflow_losses"] = [loss.item() for loss in self._losses]  # not yet averaged over their interval
        # gradflow's own parts draw nothing from these; a module from elsewhere, such as dropout, may
        checkpoint["gradflow_generators"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps_done = checkpoint["gradflow_step"]
        self._losses = [torch.tensor(loss, dtype=torch.float64) for loss in checkpoint["gradflow_losses"]]
        self._generators = checkpoint["gradflow_generators"]
        checkpoint.pop("loops", None)  # Lightning's own counters are tied to epochs cut at the moment of saving


class Chunks:
    """Lightning's 'data loader': from wherever the learner stands to its next validation."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self.learner.budget.chunks(self.learner.steps_done)


class Slices:
    """Lightning's 'data loader' for evaluation: (start, stop) of each batch of `count` examples."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return -(-self.count // EVALUATION_BATCH)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.count, EVALUATION_BATCH):
            yield start, min(start + EVALUATION_BATCH, self.count)


def clipper(value: float, algorithm: str) -> Callable[[Sequence[Tensor]], object]:
    """Clip by the 'norm' of all gradients together (Pascanu et al. 2013, algorithm 1), or each element's 'value'."""
    if algorithm == "norm":
        return lambda parameters: clip_grad_norm_(parameters, value)
    return lambda parameters: clip_grad_value_(parameters, value)
