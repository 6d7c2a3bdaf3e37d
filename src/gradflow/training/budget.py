"""How long a run lasts and when something happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_CHUNK = 8  # steps between two looks at the clock and the signals


@dataclass(frozen=True)
class Budget:
    """When things happen, in optimiser steps."""

    total: int
    log_every: int
    val_every: int
    checkpoint_every: int

    def chunks(self, first: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of each chunk from step `first` up to the next validation or the end.

        Chunks end wherever something is to be logged, saved or validated.
        """
        end = min(self.total, (first // self.val_every + 1) * self.val_every)
        while first < end:
            stop = min(end, first + LONGEST_CHUNK, *(_next(first, n) for n in (self.log_every, self.checkpoint_every)))
            yield first, stop
            first = stop


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every
