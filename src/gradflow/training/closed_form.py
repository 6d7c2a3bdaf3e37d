"""Training of a read-out by least squares: one pass over the examples, no gradient.

Shapes: B batch, T time, K outputs, Z what the read-out sees, R values of λ to choose from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradflow.models.esn import EchoState
from gradflow.models.ridge import Ridge
from gradflow.training.budget import Budget
from gradflow.training.learner import Learner, Progress
from gradflow.training.optimizers import Groups
from gradflow.training.remedy import Remedy, Schedule

if TYPE_CHECKING:
    from gradflow.tasks.task import Data, Task


class ClosedFormLearner(Learner):
    """Fits the read-out of a network whose `closed_form` is a `Ridge` to `task.regression_targets`.

    A step adds one batch to the sums of the `Ridge`, from the step at which `task.washout` or the model's ends. At each
    validation the sums are solved for every λ of `network.regularization`; the one with the best `task.metric` on the
    validation split, of equals the largest, is what the read-out gets. Sums and weights are in the checkpoint, and a
    batch is a function of its step: a run that is stopped and goes on leaves the same record as one that is not.

    Examples that come several times count several times. Where a training split is finite and not augmented,
    `trainer.max_epochs=1` shows each once.

    Figures of 'train' appear at validations alone, since each needs a solution: 'loss', the task's own on the last
    batch; 'regression_mse', the mean squared error of the regression over every example so far, from the sums;
    'regularization', the λ that was chosen. For classes the outputs regress their indicators: accuracy is that of the
    largest, and cross-entropy takes them for logits, which they are not, so that it is reported but means little.

    Args:
        network: with `closed_form`.
        task, load, budget: see `Learner`.
        make_optimizer, schedule, forward: not used: nothing is trained by gradient, and states are not compiled.
        remedies: must be empty.

    Raises:
        ValueError: for a remedy, which would have no gradient to act on.
    """

    network: EchoState

    def __init__(
        self,
        network: EchoState,
        task: Task,
        load: Callable[[torch.device, int, int], Data],
        make_optimizer: Callable[[Groups], Optimizer],
        schedule: Schedule,
        budget: Budget,
        remedies: Sequence[Remedy] = (),
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if remedies:
            raise ValueError(
                "model.readout=ridge is solved in closed form, without a gradient for a remedy to act on: "
                "set remedy=none, or model.readout=sgd"
            )
        super().__init__(network, task, load, make_optimizer, schedule, budget)
        self._chosen = network.regularization[0]
        self._solved_at: int | None = None  # steps whose examples are in the read-out's weights
        self._candidates: list[tuple[float, Tensor, Tensor]] = []
        self._candidate_sums: list[dict[str, Tensor]] = []

    @property
    def ridge(self) -> Ridge:
        assert self.network.closed_form is not None
        return self.network.closed_form

    def configure_optimizers(self) -> None:  # type: ignore[override]
        """None: no weight moves along a gradient."""

    def on_train_start(self) -> None:
        if self.trainer.world_size > 1:
            raise ValueError("model.readout=ridge runs in one process: set trainer.devices=1, or model.readout=sgd")
        super().on_train_start()

    # --- training ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def training_step(self, chunk: tuple[int, int]) -> None:
        """Add the batches of steps chunk[0] … chunk[1] − 1."""
        finite: list[Tensor] = []
        for step in range(*chunk):
            for watcher in self.watchers:
                watcher(step)
            self._add(*self.data.train(step, self._param_dtype))
            finite.append(self.ridge.mean_x.isfinite().all() & self.ridge.mean_y.isfinite().all())
        self.steps_done = chunk[1]
        broken = (~torch.stack(finite)).nonzero().flatten().tolist()
        if broken and self.diverged_at is None:
            self.diverged_at = chunk[0] + int(broken[0])
        if self.diverged_at is not None or self.steps_done == self.budget.total:
            self.trainer.should_stop = True

    def _add(self, x: Tensor, y: Tensor) -> None:
        """Count a batch in, part by part of its sequences."""
        targets = self.task.regression_targets(y)
        begin = 0
        for z in self.network.read_states(x):
            if not self.task.every_step:
                self.ridge.add(z, targets)
                continue
            skipped = min(max(0, max(self.task.washout, self.network.washout) - begin), z.shape[1])
            used_BTK = targets[:, begin + skipped : begin + z.shape[1]]
            if used_BTK.numel():
                self.ridge.add(z[:, skipped:].flatten(0, 1), used_BTK.flatten(0, 1))
            begin += z.shape[1]

    # --- solving ----------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        solvable = self.diverged_at is None and bool(self.ridge.count > 0)
        values = sorted(set(self.network.regularization), reverse=True) if solvable else []
        self._candidates = [(value, *self.ridge.solve(value)) for value in values]
        self._candidate_sums = [{} for _ in values]

    def validation_step(self, part: tuple[int, int]) -> None:
        """Score every candidate on the same states."""
        if not self._candidates:
            if self.diverged_at is None:
                super().validation_step(part)
            return
        x, y = self.data.evaluation("val", *part, self._param_dtype)
        weight_RKZ = torch.stack([weight for _, weight, _ in self._candidates])
        bias_RK = torch.stack([bias for _, _, bias in self._candidates])
        answers = self.network.answer(x, weight_RKZ.flatten(0, 1), bias_RK.flatten())
        for sums, outputs in zip(self._candidate_sums, torch.split(answers, bias_RK.shape[1], dim=-1), strict=True):
            for name, total in self.task.score(outputs, y).items():
                sums[name] = sums[name] + total if name in sums else total

    def on_validation_epoch_end(self) -> None:
        if self._candidates:
            size, metric = self.data.size("val"), self.task.metric
            metrics = [float(self.task.figures(sums, size)[metric]) for sums in self._candidate_sums]
            best = _best(metrics, self.task.larger_is_better)
            self._sums = self._candidate_sums[best]
            self._adopt(*self._candidates[best])
            self._report_training()
            self._candidates, self._candidate_sums = [], []
        super().on_validation_epoch_end()

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        if self._solved_at != self.steps_done and self.diverged_at is None and bool(self.ridge.count > 0):
            self._adopt(self._chosen, *self.ridge.solve(self._chosen))  # examples came after the last validation

    @torch.no_grad()
    def _adopt(self, regularization: float, weight: Tensor, bias: Tensor) -> None:
        self.network.head.weight.copy_(weight)  # type: ignore[operator]
        self.network.head.bias.copy_(bias)  # type: ignore[operator]
        self._chosen, self._solved_at = regularization, self.steps_done

    @torch.no_grad()
    def _report_training(self) -> None:
        x, y = self.data.train(self.steps_done - 1, self._param_dtype)
        values = {
            "loss": float(self.task.loss(self.network(x), y)),
            "regression_mse": float(self.ridge.error(self.network.head.weight).mean()),  # type: ignore[arg-type]
            "regularization": self._chosen,
        }
        self.figures.append(Progress(self.steps_done, "train", values))

    @property
    def _param_dtype(self) -> torch.dtype:
        """That of the reservoirs: the read-out is float64 throughout."""
        return self.network.dtype

    # --- restarts ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["gradflow_closed_form"] = {"chosen": self._chosen, "solved_at": self._solved_at}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._chosen = checkpoint["gradflow_closed_form"]["chosen"]
        self._solved_at = checkpoint["gradflow_closed_form"]["solved_at"]


def _best(metrics: list[float], larger_is_better: bool) -> int:
    """The first of the best; what is not a number is worse than any."""
    worth = [(value if larger_is_better else -value) if math.isfinite(value) else -math.inf for value in metrics]
    return worth.index(max(worth))
