"""Starting workers: forked from a server that has imported what a run needs, once."""

from __future__ import annotations

import multiprocessing as mp
import signal
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def start(preload: str, target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process that runs `target(*args)`.

    A scheduler sends its signals to every process of a job. The server, and a worker before it calls `hear`, have them
    wait: a server that died of one while it still imports would take the whole task down with it.

    Args:
        preload: the module that the server imports.
        target: from a module that is quick to import, since this process imports it too.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([preload])
    resource_tracker.ensure_running()  # where it does not run yet, this unblocks SIGTERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()  # inherits what is blocked, and hands it on
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process = context.Process(target=target, args=args)
    process.start()
    return process


def hear() -> None:
    """Let a worker's signals through, once it has handlers for them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
