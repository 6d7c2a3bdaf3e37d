"""Asking a run to stop at its next step boundary."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class InterruptedRun(Exception):
    """A run stopped because it was asked to; its checkpoint is written and it will go on from there."""


class Stop:
    """A wish to stop. The first SIGINT or SIGTERM sets it; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.listening: set[int] = set()

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
        """Listen to signals, SIGINT and SIGTERM unless told otherwise, until the block ends."""
        chosen = signals or (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handler) for number in chosen}
        self.listening.update(chosen)
        try:
            yield
        finally:
            self.listening.difference_update(chosen)
            for number, handler in before.items():
                signal.signal(number, handler)
