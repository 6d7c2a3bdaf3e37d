"""The shape that every model has."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Network(nn.Module):
    """stem → blocks → head.

    Instruments address the blocks by index and name; index 0 is nearest the input.
    `forward` writes no state but the running statistics inside batch normalisation, and draws no random numbers.

    Args:
        stem: maps an input of shape [batch, *input_shape] to [batch, width of block 0].
        blocks: the `depth` blocks.
        head: maps the last block's output to [batch, outputs].
    """

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]
