"""The wish to stop, and the signals that bring it."""

import os
import signal

import pytest

from gradflow.runs.stop import Stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_a_wish_and_afterwards_means_what_it_did_before(number):
    before = signal.getsignal(number)
    stop = Stop()
    with stop.on_signals():
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert (stop.requested, stop.signal) == (True, number)
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once_and_a_second_sigterm_does_not():
    stop = Stop()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_only_the_signals_asked_for_are_heard():
    stop, before = Stop(), signal.getsignal(signal.SIGINT)
    with stop.on_signals(signal.SIGUSR1):
        assert signal.getsignal(signal.SIGINT) is before
        signal.raise_signal(signal.SIGUSR1)
    assert stop.signal == signal.SIGUSR1
