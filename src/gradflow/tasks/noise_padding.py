"""Sequences followed by noise, behind which what came before must be remembered.

Shapes: B batch, T time, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradflow.tasks.draws import BLOCK, blocks, generator_on

if TYPE_CHECKING:
    from gradflow.tasks.task import TaskData


@dataclass(frozen=True)
class NoisePadded:
    """`Data` with `steps` steps of noise N(0, 1) behind every sequence, each example's own.

    In training the noise is a function of (seed, step) and of the example's place in the batch; in evaluation of the
    example alone, the same for every run. It is drawn on the device of the sequences, and never stored.

    Attributes:
        data: what is padded.
        steps: of noise.
        seed: the run's.
    """

    data: TaskData
    steps: int
    seed: int

    def train(self, step: int, dtype: torch.dtype = torch.float32, /) -> tuple[Tensor, Tensor]:
        x_BTF, y = self.data.train(step, dtype)
        batches = self.data.train
        # of the whole batch on every process, so that it does not depend on how many there are
        noise = self._noise(batches.batch_size, x_BTF, self.seed, "train", step)[batches.rank :: batches.world]
        return torch.cat([x_BTF, noise], 1), y

    def size(self, split: str) -> int:
        return self.data.size(split)

    def slices(self, split: str, most: int) -> list[tuple[int, int]]:
        return self.data.slices(split, most)

    def evaluation(self, split: str, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x_BTF, y = self.data.evaluation(split, start, stop, dtype)
        stop = start + len(x_BTF)
        noise = [self._noise(BLOCK, x_BTF, 0, split, block)[part] for block, part in blocks(start, stop, BLOCK)]
        return torch.cat([x_BTF, torch.cat(noise)], 1), y

    def _noise(self, count: int, like_BTF: Tensor, seed: int, *name: object) -> Tensor:
        generator = generator_on(like_BTF.device, seed, "noise_padding", *name)
        shape = (count, self.steps, like_BTF.shape[2])
        return torch.randn(shape, generator=generator, device=like_BTF.device).to(like_BTF.dtype)
