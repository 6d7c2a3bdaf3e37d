"""One worker process: trains one run after another.

What a run needs is imported here, once, in the server that workers are forked from.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch

from gradflow.runs.config import validate
from gradflow.runs.execute import Outcome, execute
from gradflow.runs.stop import Stop


def work(orders: Connection, alive: Connection) -> None:
    """Train what comes through `orders` until it closes.

    Messages in: (config, overrides). Messages out: ('progress', step, total, loss), ('outcome', Outcome).

    Args:
        orders: both ways.
        alive: never written to; it ends when the sweep's process does, however it does, and then the run under way
            is checkpointed and the worker leaves.
    """
    os.setsid()  # a terminal's Ctrl-C is for the sweep, which tells its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    stop = Stop()
    threading.Thread(target=_wait_for_the_end, args=(alive, stop), daemon=True).start()
    with stop.on_signals(signal.SIGTERM):
        while not stop.requested:
            try:
                config, overrides = orders.recv()
            except (EOFError, OSError):
                break
            _send(orders, "outcome", _attempt(config, overrides, stop, orders))
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.teardown()


def _attempt(config: dict[str, Any], overrides: list[str], stop: Stop, orders: Connection) -> Outcome:
    return execute(
        validate(config), overrides, stop, lambda step, total, loss: _send(orders, "progress", step, total, loss)
    )


def _send(orders: Connection, *message: Any) -> None:
    with suppress(OSError):  # the sweep is gone; `alive` says so too, and the record holds the outcome
        orders.send(message)


def _wait_for_the_end(alive: Connection, stop: Stop) -> None:
    try:
        alive.recv()
    except (EOFError, OSError):
        stop.request()
