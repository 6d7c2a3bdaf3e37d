"""What a remedy is: a cure for vanishing or exploding gradients that acts while a network trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gradflow.models.network import Network

if TYPE_CHECKING:
    from gradflow.tasks.task import Task

Schedule = Callable[[int, int], float]


class Remedy:
    """The hooks through which the learner lets a remedy act. Each does nothing unless a remedy overrides it.

    Of several remedies each hook is called in the order in which the person named them.

    Attributes:
        pretraining: what is trained before the task itself; known after `prepare`.
    """

    pretraining: Pretraining | None = None

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """See what will be trained and for how many steps; called once, before anything trains.

        Must leave the network and torch's global generator as they are. The network may be on the meta device, inside
        `torch.device("meta")`: so is a plan checked before it runs.

        Raises:
            ValueError: in one line for the user, if this remedy cannot act on this network, task or budget.
        """

    def schedule(self, schedule: Schedule) -> Schedule:
        """The learning-rate schedule to use instead of (step, total steps) → factor. It spans what follows
        pre-training."""
        return schedule

    def gradients(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        """Change gradients in place between `backward()` and the optimiser's update.

        They are unscaled, averaged over the processes and already measured by the instruments.

        Args:
            parameters: everything that is trained, in the same order at every step and in every process, temporary
                maps last; those that have no part in this step's loss have `grad` None.
            step: 0 is the first of the run.
        """


@dataclass(frozen=True)
class Stage:
    """Steps start … stop − 1, in which one objective is trained."""

    name: str
    start: int
    stop: int


class Pretraining(nn.Module):
    """Objectives that are trained one after another before the task itself.

    Its parameters are temporary maps. They are trained beside the network's, saved in checkpoints, and have no part in
    the network's output.

    Args:
        stages: in order, without gaps, from step 0.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = tuple(stages)

    def loss(self, network: Network, stage: int, x: Tensor, y: Tensor) -> Tensor:
        """The objective of one stage on a batch; parameters that it does not reach stay as they are.

        Args:
            network: what is pre-trained.
            stage: place in `stages`.
            x, y: a training batch of the task.
        """
        raise NotImplementedError
