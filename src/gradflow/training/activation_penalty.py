"""A penalty on the size of activations, which makes them sparse.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradflow.models.network import Network
from gradflow.training.remedy import Remedy

if TYPE_CHECKING:
    from gradflow.tasks.task import Task


class ActivationPenalty(Remedy):
    """The loss is E + λ Σ|h|, summed over the outputs of stem and blocks and averaged over the examples of a batch
    (Glorot, Bordes & Bengio 2011, section 4).

    The sum goes over all elements of an example's output, those at every position and time step too. Where a block ends
    in a skip or in dropout, h is what comes out of that. The penalty is part of the training loss that is reported.

    Args:
        weight: λ.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def losses(self, network: Network, task: Task, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        outputs: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            outputs.append(output)

        handles = [part.register_forward_hook(keep) for part in (network.stem, *network.blocks)]
        try:
            loss = task.loss(network(x), y)
        finally:
            for handle in handles:
                handle.remove()
        sizes = torch.stack([output.to(loss.dtype).abs().sum() for output in outputs])
        yield loss + self.weight * sizes.sum() / len(x)
