"""What a remedy is: a cure for vanishing or exploding gradients that acts while a network trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    def begins(self, step: int) -> None:
        """Told the number of each step before its forward pass; 0 is the first of the run."""

    def losses(self, network: Network, task: Task, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """A step's loss in parts. Each is differentiated before the next is asked for, so that a later part may use
        gradients of an earlier one; gradients add up, and so do the values, to the loss that is reported.

        One remedy of a run may override this. Without one it is `task.loss(network(x), y)`.
        """
        yield task.loss(network(x), y)

    def updated(self, step: int) -> None:
        """Change parameters in place after the optimiser's update of step `step`."""

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


def the_pretraining(remedies: Sequence[Remedy]) -> Pretraining | None:
    """What is trained before the task, if one of several prepared remedies brings it.

    Raises:
        ValueError: if more than one does.
    """
    found = [remedy.pretraining for remedy in remedies if remedy.pretraining is not None]
    if len(found) > 1:
        raise ValueError("remedy: two kinds of pre-training do not go together: choose one")
    return found[0] if found else None


def the_loss(remedies: Sequence[Remedy]) -> Remedy | None:
    """The remedy that computes the loss in its own way, if one of several does.

    Raises:
        ValueError: if more than one does.
    """
    found = [remedy for remedy in remedies if type(remedy).losses is not Remedy.losses]
    if len(found) > 1:
        raise ValueError(
            "remedy: tbptt, horizon, omega, gradient_flossing and activation_l1 each bring a loss of their own: "
            "choose one of them"
        )
    return found[0] if found else None
