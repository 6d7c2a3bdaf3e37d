"""A whole data set as one tensor on the training device, batched and augmented there.

No worker processes and no host copies: a batch is an index into memory, its augmentation a gather.
Every random choice comes from a CPU generator named by (seed, epoch), so that step k of a run sees the same batch
on every machine, with any number of processes, and after a restart.

Shapes: N examples, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gradflow.rng import stream

# stored examples → what the network takes, of a given floating-point type
ToInput = Callable[[Tensor, torch.dtype], Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    """Examples of one split, along the first axis.

    Images: `x` uint8 [N, C, H, W] and labels `y` int64 [N]. Vectors: `x` [N, inputs] and `y` [N, outputs], float32.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Split:
        """On a device, where runs of one process share what they have in common."""
        return self if self.x.device == device else _copied(self, device)


@lru_cache(maxsize=4)
def _copied(split: Split, device: torch.device) -> Split:
    return Split(split.x.to(device), split.y.to(device))


Splits = dict[str, Split]  # "train", "val", "test"


@dataclass(frozen=True)
class Standardization:
    """x ↦ (x / top − mean) / std per channel; `top` is the largest value a pixel can take."""

    top: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
        scale_C11, shift_C11 = _factors(self, dtype, x_BCHW.device)
        return x_BCHW.to(dtype).mul_(scale_C11).sub_(shift_C11)

    def without_moments(self) -> Standardization:
        """x ↦ x / top, in [0, 1]."""
        return Standardization(self.top, (0.0,) * len(self.mean), (1.0,) * len(self.std))


@lru_cache(maxsize=64)
def _factors(of: Standardization, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What pixels are multiplied by, and what is taken off them; made once, since every batch asks."""
    scale = torch.tensor([1 / (of.top * s) for s in of.std], dtype=dtype).view(-1, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(of.mean, of.std, strict=True)], dtype=dtype).view(-1, 1, 1)
    return scale.to(device), shift.to(device)


class TrainBatches:
    """The batch of any step, as a function of (seed, step) alone.

    An epoch is a permutation of the split cut into whole batches; what is left over waits for another epoch.

    Args:
        split: the training examples, already on the training device.
        batch_size: examples in one step, over all processes together.
        seed: of the order and the augmentation.
        to_input: from what is stored to what the network takes, after augmentation.
        pad: pixels of zero padding around the image before a random crop; 0 for none, as for vectors.
        flip: whether half of the images, chosen at random, are mirrored left to right; False for vectors.
        rank, world: this process and how many there are; each takes every `world`-th example of a batch.

    Raises:
        ValueError: if a batch does not divide among the processes, whose gradients are averaged with equal weights.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        to_input: ToInput,
        *,
        pad: int = 0,
        flip: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % world:
            raise ValueError(f"task.batch_size={batch_size} does not divide among {world} processes")
        self.split, self.batch_size, self.seed, self.to_input = split, batch_size, seed, to_input
        self.pad, self.flip, self.rank, self.world = pad, flip, rank, world
        self.steps_per_epoch = len(split) // batch_size
        self._epoch = -1
        self._draws: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """The batch of `step` (0 is the first): x [B, …] as the network takes it, y [B] or [B, outputs]."""
        epoch, k = divmod(step, self.steps_per_epoch)
        order, corner, mirrored = (draw[self.share(k)] for draw in self.draws(epoch))
        return self.take(order, corner, mirrored, dtype)

    def share(self, k: int) -> slice:
        """Where this process's part of the k-th batch of an epoch is in the epoch's draws."""
        return slice(k * self.batch_size + self.rank, (k + 1) * self.batch_size, self.world)

    def draws(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """One epoch's order [N], crop corners [N, 2] and mirrorings [N]."""
        if epoch != self._epoch or self._draws is None:
            self._epoch, self._draws = epoch, self._draw(epoch)
        return self._draws

    def take(self, order: Tensor, corner: Tensor, mirrored: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples [B], cropped at their corners [B, 2] and mirrored where so said [B], as the network takes them."""
        x, y = self.split.x[order], self.split.y[order]
        if self.pad:
            x = crop(x, corner, self.pad)
        if self.flip:
            x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
        return self.to_input(x, dtype), y

    def is_like(self, other: TrainBatches) -> bool:
        """Whether both batch the same examples in the same way, but for seeds and what the network takes of them."""
        same = all(getattr(self, key) == getattr(other, key) for key in ("batch_size", "pad", "flip", "rank", "world"))
        mine, theirs = self.split, other.split
        pairs = ((mine.x, theirs.x), (mine.y, theirs.y))
        return same and all(a is b or (a.shape == b.shape and torch.equal(a, b)) for a, b in pairs)

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn on the CPU and moved at once."""
        count, generator = len(self.split), stream(self.seed, "batches", epoch)
        order = torch.randperm(count, generator=generator)
        corner = torch.randint(0, 2 * self.pad + 1, (count, 2), generator=generator)
        mirrored = torch.rand(count, generator=generator) < 0.5
        device = self.split.x.device
        return order.to(device), corner.to(device), mirrored.to(device)


def crop(x_BCHW: Tensor, corner_B2: Tensor, pad: int) -> Tensor:
    """Pad by `pad` zeros on every side and cut a window of the old size at each image's own corner."""
    h, w = x_BCHW.shape[2:]
    padded = torch.nn.functional.pad(x_BCHW, (pad, pad, pad, pad))
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # a view [B, C, corners down, corners across, H, W]
    image = torch.arange(len(x_BCHW), device=x_BCHW.device)
    return windows[image, :, corner_B2[:, 0], corner_B2[:, 1]]
