"""Random numbers drawn where they are used: on the training device, by a generator named by what it is for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gradflow.rng import stream

BLOCK = 100  # examples of a split that is never stored, drawn at once; where lengths vary, each block has its own


def generator_on(device: torch.device, seed: int, *name: object) -> torch.Generator:
    """A generator of `device` that depends on `seed` and `name` alone.

    Unlike `gradflow.rng.stream` its numbers differ between a CPU and a GPU: what is drawn is too much to be moved.
    """
    return torch.Generator(device).manual_seed(stream(seed, *name).initial_seed())


def blocks(start: int, stop: int, size: int) -> Iterator[tuple[int, slice]]:
    """The blocks of `size` examples that examples start … stop lie in, and which part of each.

    >>> list(blocks(150, 320, 100))
    [(1, slice(50, 100, None)), (2, slice(0, 100, None)), (3, slice(0, 20, None))]
    """
    for block in range(start // size, -(-stop // size)):
        yield block, slice(max(start - block * size, 0), min(stop - block * size, size))


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """float32 numbers of U[low, high)."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def integers(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64 numbers of U{low, …, high − 1}."""
    return torch.randint(low, high, shape, generator=generator, device=generator.device)
