"""The shape that every model has."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """stem → blocks → head.

    Instruments address the blocks by index and name; index 0 is nearest the input.
    `forward` writes no state but running statistics inside normalisations. It draws random numbers, from torch's
    global generator, only while training and only for dropout, noise, stochastic depth and randomised activations.

    Args:
        stem: maps an input of shape [batch, *input_shape] to [batch, width of block 0].
        blocks: the `depth` blocks.
        head: maps the last block's output to [batch, outputs].

    Attributes:
        any_length: whether inputs are sequences [batch, steps, features] of any length.
        has_states: whether layers of a network of any length carry a state from step to step; convolutions do not.
    """

    any_length: bool = False
    has_states: bool = True

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


class InputNoise(nn.Module):
    """x + N(0, σ²) while training (Bishop 1995: to first order a penalty on the squared input gradient)."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * torch.randn_like(x) if self.training else x
