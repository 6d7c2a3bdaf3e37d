"""The product of the activations' slopes from the loss down: the vanishing gradient of the textbooks, live."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradflow.instruments import ranks
from gradflow.instruments.blocks import Block
from gradflow.instruments.instrument import ABSENT, Instrument, Reading, Row
from gradflow.instruments.wide import wide


class DerivativeChain(Instrument):
    """`slope`: the mean of |φ′(z)| over examples, units and positions of a block's activation, of several the product;
    and `slope_chain`, the product of the slopes of all blocks from the loss down to block l, that included: the factor
    by which activations alone shrink the gradient on its way (Hochreiter 1991). Weights, norms and skips have theirs
    besides: it explains a vanishing gradient and does not predict its size.

    Blocks come in the order in which they are watched, a head nearest the loss; one without an activation has no row.
    Only the first `examples` of a batch, of all processes together, are looked at; batches of one update add up, and
    every process must run the same activations.
    """

    looks_at_members = True

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._names: dict[nn.Module, str] = {}
        self._sums: dict[tuple[str, str], tuple[Tensor, int]] = {}

    def bind(self, model: nn.Module, blocks: list[Block]) -> None:
        super().bind(model, blocks)
        self._names = {module: name for name, module in model.named_modules()}
        self._rows = [
            Row(block.name, block.index, quantity) for quantity in ("slope", "slope_chain") for block in blocks
        ]

    @torch.no_grad()
    def activated(self, block: Block, activation: nn.Module, z: Tensor, h: Tensor, slope: Tensor) -> None:
        key = block.name, self._names.get(activation, "")
        here = slope.abs().sum(dtype=wide(slope.device))
        before, count = self._sums.get(key, (None, 0))
        self._sums[key] = here if before is None else before + here.to(before.device), count + slope.numel()

    @torch.no_grad()
    def inside(self, scale: Tensor | float) -> Reading | None:
        found, self._sums = sorted(self._sums.items()), {}
        if not found:
            return None
        device = found[0][1][0].device
        sums = torch.stack([each.to(device) for _, (each, _) in found])
        counts = torch.tensor([count for _, (_, count) in found], dtype=sums.dtype, device=device)
        sums, counts = ranks.total(torch.stack([sums, counts]))
        place = {block.name: i for i, block in enumerate(self.blocks)}
        block_A = torch.tensor([place[name] for (name, _), _ in found], device=device)
        logs = torch.zeros(len(place), dtype=sums.dtype, device=device).index_add(0, block_A, (sums / counts).log())
        here = torch.zeros(len(place), dtype=torch.bool, device=device).index_fill_(0, block_A, True)
        values = torch.stack([logs.exp(), chain(logs.exp())])
        return Reading(self._rows, torch.where(here, values, ABSENT).flatten())


def chain(slopes: Tensor) -> Tensor:
    """The product of slopes [L] from the last down to each, in logarithms, so that only a product below 1e-308 reads 0.

    Five sigmoid layers, block 0 first, after which next to nothing of the gradient is left:

    >>> slopes = torch.tensor([0.15, 0.11, 0.06, 0.11, 0.21], dtype=torch.float64)
    >>> [f"{product:.5g}" for product in chain(slopes).tolist()]
    ['2.2869e-05', '0.00015246', '0.001386', '0.0231', '0.21']
    """
    place = torch.arange(len(slopes), device=slopes.device)
    return torch.where(place[None, :] >= place[:, None], slopes.log(), 0.0).sum(1).exp()
