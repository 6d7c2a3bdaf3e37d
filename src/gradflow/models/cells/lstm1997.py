"""Long short-term memory as it was first published: blocks of cells that share gates, no forget gate, cut gradients.

Shapes: B batch, T time, F features, H cells, M blocks, S = H/M cells per block, G = 2·M + H units that see inputs and
each other: input gates, output gates, cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import Several
from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, zeros

Biases = float | list[float]


def lstm1997(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    block_size: Several = 2,
    input_bias: Biases = 0.0,
    output_bias: Biases = 0.0,
    truncated: bool = True,
) -> Cell:
    """c_t = c_{t−1} + i_t g(a_t), h_t = o_t h(c_t) (Hochreiter & Schmidhuber 1997), where the S cells of a block share
    one input gate i and one output gate o.

    Gates are σ(a), g(a) = 4 σ(a) − 2 lies in [−2, 2] and h(c) = 2 σ(c) − 1 in [−1, 1]. Every gate and every cell sees
    the inputs, a bias and all of y_{t−1} = (i, o, h)_{t−1}: the hidden layer is fully connected, gates included, which
    is what gives the paper's counts of weights (93 in experiment 4, 156 and 308 in experiment 6).

    Through the memory c a gradient is multiplied by exactly 1 at every step: the constant error carousel.

    Args:
        block_size: S; 2 as in the paper's experiments 4 to 6. It must divide the width, which counts cells.
        input_bias: of the input gates, to begin with: one number, or one for each block, such as [−3, −6] in experiment
            4. Negative ones keep a memory from being written before it is worth it, and unlike ones tell blocks apart.
        output_bias: of the output gates, likewise.
        truncated: the paper's gradient: errors that leave a block by way of y_{t−1}, towards gates and cells' inputs,
            are cut, so that errors flow back through the memory alone. What it cuts would vanish, the paper argues; and
            the whole gradient through a sequence takes a few large operations instead of many small ones. False: the
            exact gradient.

    Raises:
        ValueError: for another activation than tanh, or if blocks and width or biases do not fit.
    """
    brings_its_own("lstm1997", activation)
    if width % block_size:
        raise ValueError(
            f"cell.block_size={block_size} does not divide the {width} cells of a layer: "
            "set width to a multiple of it, or cell.block_size=1"
        )
    blocks = width // block_size
    return LSTM1997(
        features,
        width,
        blocks,
        _one_each("input_bias", input_bias, blocks),
        _one_each("output_bias", output_bias, blocks),
        truncated,
    )


class LSTM1997(Cell):
    """See `lstm1997`.

    Weights: input [G, F], recurrent [G, G], bias [G]; rows, and columns of the recurrent weight, are the input gates of
    all blocks, then the output gates, then the cells block by block.

    Args:
        blocks: M.
        input_bias, output_bias: M numbers each.
        truncated: see `lstm1997`.
    """

    state_names = ("h", "c", "gates")

    def __init__(
        self,
        features: int,
        width: int,
        blocks: int,
        input_bias: list[float],
        output_bias: list[float],
        truncated: bool,
    ) -> None:
        super().__init__(features, width)
        self.blocks, self.truncated = blocks, truncated
        self.input_bias, self.output_bias = input_bias, output_bias
        self.inputs = width + 2 * blocks
        self.input_weight, self.recurrent_weight = zeros(self.inputs, features), zeros(self.inputs, self.inputs)
        self.bias = zeros(self.inputs)

    def start(self, x_BTF: Tensor) -> State:
        """Zeros: outputs and memories [B, H], gates [B, 2·M]."""
        return tuple(x_BTF.new_zeros(len(x_BTF), size) for size in (self.width, self.width, 2 * self.blocks))

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            h, c, gates = state
            y_BG = torch.cat([gates, h], -1)
            if self.truncated:
                y_BG = y_BG.detach()
            i, o, written = self._parts(z_BG + linear(y_BG, self.recurrent_weight))
            c = c + written
            return self._output(o, c), c, torch.cat([i, o], -1)

        return linear(x_BTF, self.input_weight, self.bias), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        """Where the gradient is cut, y_{t−1} is a constant of it: found step by step without a graph, all the rest is
        then computed for all steps at once, the memory as a cumulative sum."""
        if not self.truncated:
            return None
        z_BTG = linear(x_BTF, self.input_weight, self.bias)
        y_BTG = self._seen(z_BTG, state)
        i, o, written_BTH = self._parts(z_BTG + linear(y_BTG, self.recurrent_weight))
        c_BTH = state[1].unsqueeze(1) + written_BTH.cumsum(1)
        h_BTH = self._output(o, c_BTH)
        return h_BTH, (h_BTH[:, -1], c_BTH[:, -1], torch.cat([i, o], -1)[:, -1])

    def matrices(self) -> Iterator[Matrix]:
        sizes = [self.blocks, self.blocks, self.width]
        tensors, biases = torch.split(self.input_weight.detach(), sizes), torch.split(self.bias.detach(), sizes)
        yield Matrix(tensors[0], "gate", biases[0])
        yield Matrix(tensors[1], "gate", biases[1])
        yield Matrix(tensors[2], "map", biases[2])
        yield Matrix(self.recurrent_weight.detach(), "recurrent")

    def reset(self, generator: Generator) -> None:
        bias = self.bias.detach()
        bias[: 2 * self.blocks].copy_(bias.new_tensor(self.input_bias + self.output_bias))

    @torch.no_grad()
    def _seen(self, z_BTG: Tensor, state: State) -> Tensor:
        """y_{t−1} of every step t, [B, T, G], in six operations per step that allocate nothing.

        Gates stand there once per cell, so that nothing is spread on the way, and σ becomes tanh where that saves a
        scaling: g = 2 tanh(a/2), h(c) = tanh(c/2).
        """
        H, M, steps = self.width, self.blocks, z_BTG.shape[1]
        weight = self.recurrent_weight
        cell = torch.arange(H, device=weight.device)
        block, first = cell // (H // M), torch.arange(0, H, H // M, device=weight.device)
        rows = torch.cat([block, M + block, 2 * M + cell])  # of G for each of 3·H
        columns = torch.cat([first, H + first, 2 * H + cell])  # of 3·H for each of G
        halved = torch.cat([torch.ones(2 * H, device=weight.device), torch.full((H,), 0.5, device=weight.device)])
        halved = halved.to(weight.dtype)
        weights = weight.new_zeros(3 * H, 3 * H).index_copy_(1, columns, weight[rows]).mul_(halved[:, None]).T
        z_TB = (z_BTG.to(weight.dtype)[..., rows] * halved).transpose(0, 1).contiguous()
        y_TB = weight.new_empty(steps + 1, len(z_BTG), 3 * H)
        y_TB[0] = torch.cat([state[2], state[0]], -1).to(weight.dtype)[..., rows]
        half_c = state[1].to(weight.dtype) / 2
        parts = zip(
            z_TB.unbind(),
            y_TB[:-1].unbind(),
            y_TB[1:].unbind(),
            y_TB[1:, :, : 2 * H].unbind(),
            *(part.unbind() for part in torch.split(y_TB[1:], H, -1)),
            strict=True,
        )
        for z, before, after, gates, i, o, h in parts:
            torch.addmm(z, before, weights, out=after)
            gates.sigmoid_()
            h.tanh_()
            half_c.addcmul_(i, h)
            torch.tanh(half_c, out=h).mul_(o)
        return y_TB[:-1, :, columns].transpose(0, 1)

    def _parts(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Input gates and output gates [..., M], and what is added to the memories [..., H]."""
        i, o, cells = torch.split(torch.sigmoid(a), [self.blocks, self.blocks, self.width], -1)
        return i, o, self._spread(i) * (4 * cells - 2)

    def _output(self, o: Tensor, c: Tensor) -> Tensor:
        return self._spread(o) * (2 * torch.sigmoid(c) - 1)

    def _spread(self, gate: Tensor) -> Tensor:
        """[..., M] to [..., H]: each cell its block's gate."""
        size = self.width // self.blocks
        return gate if size == 1 else gate.unsqueeze(-1).expand(*gate.shape, size).flatten(-2)


def _one_each(key: str, biases: Biases, blocks: int) -> list[float]:
    if isinstance(biases, int | float):
        return [float(biases)] * blocks
    if len(biases) != blocks:
        raise ValueError(
            f"cell.{key} has {len(biases)} numbers, but a layer has {blocks} blocks: give one number, or one for each, "
            f"or set width to {len(biases)} times cell.block_size"
        )
    return [float(bias) for bias in biases]
