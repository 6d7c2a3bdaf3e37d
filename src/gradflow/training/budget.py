"""How long a run lasts and when something happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_CHUNK = 8  # steps between two looks at the clock and the signals


@dataclass(frozen=True)
class Budget:
    """When things happen, in optimiser steps.

    Attributes:
        total: updates in a run.
        log_every, val_every, checkpoint_every: updates between two of a kind.
        boundaries: numbers of updates after which another objective is trained, rising.
        until_solved: whether the first validation that meets the task's criterion ends the run, so that a paper's
            'sequences to success' costs no more than they are.
    """

    total: int
    log_every: int
    val_every: int
    checkpoint_every: int
    boundaries: tuple[int, ...] = ()
    until_solved: bool = False

    def logs(self, step: int) -> bool:
        """Whether the mean loss is logged after `step` updates: of one objective, never of two."""
        return step % self.log_every == 0 or step in self.boundaries or step == self.total

    def until_logged(self, step: int, stop: int) -> int:
        """The first number of updates after `step` after which the mean loss is logged, or `stop`."""
        return next((done for done in range(step + 1, stop) if self.logs(done)), stop)

    def chunks(self, first: int, longest: int | None = None) -> Iterator[tuple[int, int]]:
        """(start, stop) of each chunk from step `first` up to the next validation or the end.

        Chunks end wherever something is to be logged, saved or validated, or the objective changes.

        Args:
            longest: steps of a chunk that logging does not end; unless given it does, and so do `LONGEST_CHUNK` steps.
        """
        end = min(self.total, (first // self.val_every + 1) * self.val_every)
        while first < end:
            logged = [_next(first, self.log_every)] if longest is None else []
            happenings = [_next(first, self.checkpoint_every), *logged, *(b for b in self.boundaries if b > first)]
            stop = min(end, first + (longest or LONGEST_CHUNK), *happenings)
            yield first, stop
            first = stop


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every
