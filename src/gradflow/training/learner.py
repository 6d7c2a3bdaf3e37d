"""The one LightningModule: how a network learns a task.

Lightning's cost per call matters for small networks (its automatic loop makes a 0.67 ms step 54 % longer), so that one
`training_step` runs a chunk of optimiser steps, and losses stay on the device until the logging interval ends.
Batches and learning rate are functions of the step. Modules that draw, such as dropout, do so from torch's global
generator, whose state is saved: this and the step are all that a restart needs to know beside the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from gradflow.lightning import LightningModule
from gradflow.models.network import Network
from gradflow.rng import stream
from gradflow.training.budget import Budget
from gradflow.training.optimizers import Groups, parameter_groups
from gradflow.training.remedy import Remedy, Schedule, Stage, the_loss, the_pretraining

if TYPE_CHECKING:
    from gradflow.tasks.task import Data, Task

EVALUATION_BATCH = 500  # examples at once when nothing is differentiated; a stop waits for one of them


@dataclass(frozen=True)
class Progress:
    """Figures that have just been brought over from the device: `step` updates had been made.

    The split is 'train', 'val' or 'test'; or 'pretrain', with the 'level' that a stage of pre-training trains.
    """

    step: int
    split: str
    values: dict[str, float]


@dataclass(frozen=True)
class Shared:
    """What a pack has done of a learner's next steps.

    Attributes:
        losses: of the batches of n steps [n], detached.
        tell: the instruments, how many of these steps count: a run that diverges ends with its logging interval.
    """

    losses: Tensor
    tell: Callable[[int], None] = lambda _: None


class Learner(LightningModule):
    """Trains `network` on `task`.

    Args:
        network: initialised, on the CPU.
        task: loss, score and the shape of the data.
        load: reads the data to a device, given (device, rank, world).
        make_optimizer: from parameter groups.
        schedule: (step, total steps) → factor of the base learning rate.
        budget: when things happen.
        remedies: act in this order; they are prepared here.
        forward: what is called for the network's outputs, such as a compiled version of it; the network itself unless
            given. Pre-training, and remedies that bring a loss of their own, call the network's own parts.

    Attributes:
        watchers: told the number of each step before its forward pass: instruments that look at states.
        leaves: asked after each step whether the rest of its chunk is left for another attempt, when steps are slow.
        packed: asked before a step of the task itself whether it, and those up to another, are made together with
            other learners: see `gradflow.training.pack`. None where this one trains alone.
        longest_chunk: see `Budget.chunks`.

    Raises:
        ValueError: what a remedy's `prepare` refuses, or if two of them bring a pre-training or a loss.
    """

    def __init__(
        self,
        network: Network,
        task: Task,
        load: Callable[[torch.device, int, int], Data],
        make_optimizer: Callable[[Groups], Optimizer],
        schedule: Schedule,
        budget: Budget,
        remedies: Sequence[Remedy] = (),
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.task = network, task
        self._forward = (network if forward is None else forward,)  # a tuple registers no module a second time
        self._load, self._make_optimizer, self._remedies = load, make_optimizer, tuple(remedies)
        for remedy in remedies:
            remedy.prepare(network, task, budget.total)
            schedule = remedy.schedule(schedule)
        self._schedule = schedule
        self.pretraining = the_pretraining(remedies)
        self._losses_of = the_loss(remedies)
        stages = () if self.pretraining is None else self.pretraining.stages
        self._begin = stages[-1].stop if stages else 0  # of training on the task itself
        self._stages = [*stages, Stage("fine-tuning", self._begin, budget.total)] if stages else []
        self.budget = replace(budget, boundaries=tuple(stage.stop for stage in stages))
        self.steps_done = 0
        self.diverged_at: int | None = None
        self.figures: list[Progress] = []
        self._losses: list[Tensor] = []
        self._solved = False  # and so at its end; looked at only where the budget says that solving ends a run
        self._data: Data | None = None
        self._generators: list[list[Tensor]] = []
        self._sums: dict[str, Tensor] = {}
        self.watchers: list[Callable[[int], None]] = []
        self.leaves: Callable[[], bool] = lambda: False
        self.packed: Callable[[int, int], Shared | None] | None = None
        self.longest_chunk: int | None = None

    @property
    def data(self) -> Data:
        if self._data is None:
            self._data = self._load(self.device, self.trainer.global_rank, self.trainer.world_size)
        return self._data

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """As they were given."""
        return self._remedies

    @property
    def is_plain(self) -> bool:
        """Whether a step's loss is `task.loss(network(x), y)`."""
        return self._losses_of is None and self.pretraining is None and self._forward[0] is self.network

    @property
    def asks_every_step(self) -> bool:
        """Whether somebody is to be told of each step before it is made."""
        return bool(self.watchers) or any(type(r).begins is not Remedy.begins for r in self._remedies)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """{"name", "start", "stop"} of each stage of pre-training and of the fine-tuning after them; else empty."""
        return [asdict(stage) for stage in self._stages]

    def configure_optimizers(self) -> Optimizer:
        optimizer = self._make_optimizer(parameter_groups(self.network, self.pretraining))
        self._base_lr = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    # --- training ---------------------------------------------------------------------------------------------

    def train_dataloader(self) -> Chunks:
        return Chunks(self)

    def on_train_start(self) -> None:
        # Lightning counts from 0 in each process; the step of a resumed run goes on.
        loop = self.trainer.fit_loop.epoch_loop.manual_optimization
        loop.optim_step_progress.total.ready = loop.optim_step_progress.total.completed = self.steps_done
        self.trainer.should_stop |= self._solved  # killed between its last validation and its end
        self._seed_or_restore_generators()
        self._trained = [p for p in self.parameters() if p.requires_grad]

    def _seed_or_restore_generators(self) -> None:
        rank = self.trainer.global_rank
        if rank < len(self._generators):
            cpu, *gpus = self._generators[rank]
            torch.set_rng_state(cpu.cpu())
            if len(gpus) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all([state.cpu() for state in gpus])
        elif self.trainer.world_size > 1:
            # processes that were seeded alike would drop the same units of different examples
            torch.manual_seed(stream(torch.initial_seed(), "rank", rank, self.steps_done).initial_seed())

    def training_step(self, chunk: tuple[int, int]) -> None:
        """Make the updates chunk[0] … chunk[1] − 1, all in one stage, or fewer if `leaves` says so."""
        optimizer = self.optimizers()
        stage = self._stage(chunk[0])
        if chunk[0] == self._begin:
            optimizer.state.clear()  # type: ignore[union-attr]
        while self.steps_done < chunk[1]:
            step = self._step = self.steps_done
            self.set_rates(optimizer, step, stage)
            for watcher in self.watchers:
                watcher(step)
            for remedy in self._remedies:
                remedy.begins(step)
            shared = self.packed(step, chunk[1]) if stage is None and self.packed is not None else None
            losses = self._update(optimizer, stage).view(1) if shared is None else self._take(step, shared)
            while self.steps_done < step + len(losses):
                first, self.steps_done = self.steps_done, self.budget.until_logged(self.steps_done, step + len(losses))
                self._losses.append(losses[first - step : self.steps_done - step])
                if self.budget.logs(self.steps_done):
                    self._bring_losses_over()
            if self.diverged_at is not None or self.leaves():
                break
        if self.steps_done == self.budget.total:
            self.trainer.should_stop = True

    def set_rates(self, optimizer: Any, step: int, stage: int | None = None) -> None:
        """Give the optimiser the learning rates of a step."""
        factor = 1.0 if stage is not None else self._schedule(step - self._begin, self.budget.total - self._begin)
        for group, base in zip(optimizer.param_groups, self._base_lr, strict=True):
            group["lr"] = base * factor

    def _update(self, optimizer: Any, stage: int | None) -> Tensor:
        """One update; its loss."""
        optimizer.zero_grad(set_to_none=True)
        x, y = self.data.train(self._step, self._param_dtype)
        parts: list[Tensor] = []
        for loss in self._parts_of_loss(stage, x, y):
            self.manual_backward(loss)
            parts.append(loss.detach())
        optimizer.step()
        for remedy in self._remedies:
            remedy.updated(self._step)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def _take(self, step: int, shared: Shared) -> Tensor:
        """The losses of updates from `step` on that others have made: as many as it would have made alone."""
        broken = (~shared.losses.isfinite()).nonzero()
        end = step + len(shared.losses)
        losses = shared.losses[: self.budget.until_logged(step + int(broken[0]), end) - step if len(broken) else None]
        shared.tell(len(losses))
        count = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for _ in range(len(losses)):
            count.increment_ready()
            count.increment_completed()
        return losses

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Lightning calls this after unscaling and after the instruments."""
        for remedy in self._remedies:
            remedy.gradients(self._trained, self._step)

    def _parts_of_loss(self, stage: int | None, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """What is differentiated, one after another; their sum is the step's loss."""
        if stage is not None:
            yield self._pretrain(stage, x, y)
        elif self._losses_of is not None:
            yield from self._losses_of.losses(self.network, self.task, x, y)
        else:
            yield self.task.loss(self._forward[0](x), y)

    def _pretrain(self, stage: int, x: Tensor, y: Tensor) -> Tensor:
        assert self.pretraining is not None
        return self.pretraining.loss(self.network, stage, x, y)

    def _stage(self, step: int) -> int | None:
        """The stage of pre-training that step `step` is in, or None."""
        return next((i for i, stage in enumerate(self._stages[:-1]) if step < stage.stop), None)

    def on_train_end(self) -> None:
        self._bring_losses_over()  # of an interval that the clock cut short

    def _bring_losses_over(self) -> None:
        """Mean loss since the last time, all of one stage."""
        if self._losses:
            losses = self._look_for_divergence()
            self._losses.clear()
            if self.diverged_at is None:
                loss, stage = losses.mean().item(), self._stage(self.steps_done - 1)
                split, values = ("train", {}) if stage is None else ("pretrain", {"level": float(stage)})
                self.figures.append(Progress(self.steps_done, split, {"loss": loss, **values}))

    def _look_for_divergence(self) -> Tensor:
        """The losses since the last logging interval; the first non-finite one ends the run."""
        losses = self._losses_of_all()
        broken = (~losses.isfinite()).nonzero()
        if len(broken) and self.diverged_at is None:
            self.diverged_at = self.steps_done - len(losses) + int(broken[0])
            self.trainer.should_stop = True
        return losses

    def _losses_of_all(self) -> Tensor:
        """[steps since the last logging interval] on the CPU, each the mean over the processes' shares of the batch."""
        losses = torch.cat([loss.to(self.device, torch.float64) for loss in self._losses])
        if self.trainer.world_size > 1:
            losses = self.trainer.strategy.reduce(losses, reduce_op="mean")
        return losses.cpu()

    # --- evaluation -------------------------------------------------------------------------------------------

    def val_dataloader(self) -> Slices:
        return Slices(self.data.slices("val", EVALUATION_BATCH))

    def test_dataloader(self) -> Slices:
        return Slices(self.data.slices("test", EVALUATION_BATCH))

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
        for name, total in self.task.score(self._forward[0](x), y).items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def _report(self, split: str) -> None:
        if self.diverged_at is not None:
            return
        figures = self.task.figures(self._sums, self.data.size(split))
        values = dict(zip(figures, torch.stack(list(figures.values())).tolist(), strict=True))
        if split == "test" and not all(map(math.isfinite, values.values())):
            self.diverged_at = self.steps_done  # the last update broke the weights: the next loss would show it
            return
        self.figures.append(Progress(self.steps_done, split, values))
        if split == "val" and self.budget.until_solved and self.task.solved is not None:
            self._solved = self.task.solved.met(values)
            self.trainer.should_stop |= self._solved
        if split == "val":  # for callbacks that watch a metric
            self.trainer.callback_metrics.update({f"val/{n}": torch.tensor(v) for n, v in values.items()})

    @property
    def _param_dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    # --- restarts ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for part in ("state_dict", "optimizer_states", "callbacks"):
            checkpoint[part] = tree_map(_apart, checkpoint[part])
        checkpoint["gradflow_step"] = self.steps_done
        checkpoint["gradflow_solved"] = self._solved
        # not yet averaged over their interval
        checkpoint["gradflow_losses"] = self._losses_of_all().tolist() if self._losses else []
        mine = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        everybody_s = [mine] * self.trainer.world_size
        if self.trainer.world_size > 1:  # only the first process writes, but every one draws numbers of its own
            torch.distributed.all_gather_object(everybody_s, mine)
        checkpoint["gradflow_generators"] = everybody_s

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps_done = checkpoint["gradflow_step"]
        self._solved = checkpoint["gradflow_solved"]
        losses = checkpoint["gradflow_losses"]
        self._losses = [torch.tensor(losses, dtype=torch.float64)] if losses else []
        self._generators = checkpoint["gradflow_generators"]
        checkpoint.pop("loops", None)  # Lightning's own counters are tied to epochs cut at the moment of saving


def _apart(value: Any) -> Any:
    """A tensor that is part of a larger one, as in a pack, by itself: what is saved is all of the memory behind it."""
    whole = isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes
    return value.clone() if whole else value


class Chunks:
    """Lightning's 'data loader': from wherever the learner stands to its next validation."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self.learner.budget.chunks(self.learner.steps_done, self.learner.longest_chunk)


class Slices:
    """Lightning's 'data loader' for evaluation: (start, stop) of each batch."""

    def __init__(self, parts: list[tuple[int, int]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.parts)
