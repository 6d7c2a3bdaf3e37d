"""Remedies that act on the weights from states to states alone.

Shapes: G units, H hidden units that a matrix [G, H] reads; one matrix for each gate, and for each `model.skip_time`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from gradflow.models.cell import Cell
from gradflow.models.cells.antisymmetric_rnn import AntisymmetricRNN
from gradflow.models.cells.irnn import IRNN
from gradflow.models.network import Network
from gradflow.models.recurrence import Recurrence
from gradflow.training.remedy import Remedy

if TYPE_CHECKING:
    from gradflow.tasks.task import Task


class RecurrentWeights(Remedy):
    """What the remedies of this file share: they know the weights from states to states.

    Args:
        key: the remedy's name in a config.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """Remember the network's recurrent layers.

        Raises:
            ValueError: if there is no matrix from states to states.
        """
        self._modules = [module for module in network.modules() if isinstance(module, Cell | Recurrence)]
        if not any(True for _ in self._matrices()):
            raise ValueError(
                f"remedy.{self.key} acts on matrices from states to states, but this network has none: use "
                f"model=recurrent with a cell that has them, e.g. cell=rnn or lstm, or leave remedy={self.key} out"
            )

    def _matrices(self) -> Iterator[tuple[Cell | Recurrence, Tensor]]:
        """Each matrix [G, H], a view of a parameter of the module beside it."""
        for module in self._modules:
            if isinstance(module, IRNN):  # which offers nothing to initialisers
                yield module, module.recurrent_weight.detach()
            for matrix in module.matrices():
                if matrix.role == "recurrent":
                    yield module, matrix.tensor


class Penalty(RecurrentWeights):
    """The derivative of a penalty on the weights is added to their gradient: that of λ Σ|w| or of λ/2 Σw². The value
    of the penalty is not part of the reported loss.

    Args:
        key: the remedy's name in a config.
        weight: λ.
        power: 1 or 2.
    """

    def __init__(self, key: str, weight: float, power: Literal[1, 2]) -> None:
        super().__init__(key)
        self.weight, self.power = weight, power

    def gradients(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        for module, matrix in self._matrices():
            gradient = _gradient(module, matrix)
            if gradient is not None:
                gradient.add_(matrix.sign() if self.power == 1 else matrix, alpha=self.weight)


class SpectralClipping(RecurrentWeights):
    """After each update the singular values of each matrix are brought down to a bound; singular vectors stay.

    Args:
        largest: the bound.
    """

    def __init__(self, largest: float) -> None:
        super().__init__("spectral_clipping")
        self.largest = largest

    def prepare(self, network: Network, task: Task, total: int) -> None:
        """Remember the network's recurrent layers.

        Raises:
            ValueError: if there is no matrix from states to states, or its singular values are not those of the map
                that a cell makes of it.
        """
        super().prepare(network, task, total)
        if any(isinstance(module, AntisymmetricRNN) for module in self._modules):
            raise ValueError(
                "remedy.spectral_clipping bounds W, but cell=antisymmetric_rnn goes by W − Wᵀ − γI, which its own "
                "equation keeps stable: use another cell, e.g. cell=rnn, or leave remedy=spectral_clipping out"
            )

    @torch.no_grad()
    def updated(self, step: int) -> None:
        for _, matrix in self._matrices():
            matrix.sub_(_excess(matrix, self.largest))


def _excess(matrix: Tensor, largest: float) -> Tensor:
    """What must be taken off a matrix W = A diag(σ) Vᵀ: W V diag(max(0, 1 − largest/σ)) Vᵀ, exactly 0 where nothing.

    From the eigenvectors V of WᵀW, in less than half the time of a singular value decomposition.
    """
    gram = matrix.mT @ matrix
    if not gram.isfinite().all():
        return torch.zeros_like(matrix)  # a run that has diverged is found out by its loss
    on_mps = gram.device.type == "mps"  # has no such decomposition
    squares, vectors = torch.linalg.eigh(gram.cpu() if on_mps else gram)
    squares, vectors = squares.to(matrix.device), vectors.to(matrix.device)
    share = (1 - largest / squares.clamp(min=0).sqrt()).clamp(min=0)  # σ = 0 gives −∞
    excess: Tensor = (matrix @ (vectors * share)) @ vectors.mT
    return excess


def _gradient(module: nn.Module, matrix: Tensor) -> Tensor | None:
    """The part of a parameter's gradient that lies where `matrix` lies in the parameter."""
    place = matrix.untyped_storage().data_ptr()
    (owner,) = (p for p in module.parameters(recurse=False) if p.untyped_storage().data_ptr() == place)
    if owner.grad is None:
        return None
    assert owner.grad.stride() == owner.stride()
    offset = owner.grad.storage_offset() + matrix.storage_offset() - owner.storage_offset()
    return owner.grad.as_strided(matrix.shape, matrix.stride(), offset)
