"""Workers and the server that they are forked from, while a scheduler sends its signals to all of them."""

import os
import signal
from multiprocessing import Pipe
from multiprocessing.forkserver import _forkserver

from gradflow.runs.stop import Stop
from gradflow.sweeps import forked


def listening(orders):
    """A worker that takes its time before it listens."""
    stop = Stop()
    orders.recv()
    with stop.on_signals(*forked.SIGNALS):
        forked.hear()
        orders.send(stop.signal)
        orders.recv()


def begin():
    ours, theirs = Pipe()
    return forked.start("json", listening, theirs), ours


def test_a_signal_waits_until_a_worker_listens_and_the_server_survives_it():
    first, orders = begin()
    server = _forkserver._forkserver_pid
    for signum in forked.SIGNALS:
        os.kill(server, signum)
    os.kill(first.pid, signal.SIGUSR1)
    orders.send("listen")
    assert orders.recv() == signal.SIGUSR1

    second, more = begin()
    assert _forkserver._forkserver_pid == server
    more.send("listen")
    assert more.recv() is None  # what the server was sent is not handed on
    for worker, pipe in ((first, orders), (second, more)):
        pipe.send("leave")
        worker.join(10)
        assert worker.exitcode == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(forked.SIGNALS)
