"""Processes that share what takes long: reading many records, drawing pictures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes, which end with the block; where it ends by an error or Ctrl-C, what has not begun is not
    waited for. The module that was started must bear to be imported."""
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=_leave_to_the_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_to_the_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the parent ends the others, also where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
