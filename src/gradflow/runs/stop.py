"""Asking a run to stop at its next step boundary."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class InterruptedRun(Exception):
    """A run stopped because it was asked to; its checkpoint is written and it will go on from there."""


class Stop:
    """A wish to stop. The first signal sets it; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def request(self, signum: int = signal.SIGTERM) -> None:
        self.signal = signum

    def handler(self, signum: int, frame: FrameType | None) -> None:
        if self.requested and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.request(signum)

    @contextmanager
    def on_signals(self, *signals: int) -> Iterator[None]:
        """Listen to signals until the block ends: unless told otherwise to SIGINT, SIGTERM and SIGUSR1, by which
        schedulers announce a preemption or the end of a job's time."""
        chosen = signals or (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        before = {number: signal.signal(number, self.handler) for number in chosen}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
