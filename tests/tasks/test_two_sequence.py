"""The two-sequence problem: what is noisy, and what the best answer scores."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import pytest
import torch

from gradflow.tasks.criterion import Criterion
from gradflow.tasks.two_sequence import two_sequence

CPU = torch.device("cpu")


@pytest.mark.parametrize("signal_steps", [1, 3])
@pytest.mark.parametrize("noise", ["noiseless", "noisy"])
def test_signal_and_noise(noise, signal_steps):
    """The noise is given by its variance; 'noisy' has as much on the informative elements."""
    task = two_sequence(noise=noise, length=50, signal_steps=signal_steps, variance=0.2, batch_size=20_000)
    x, y = task.load(Path(), 0, CPU).train(0)
    assert 50 <= x.shape[1] <= 55
    sign = (2.0 * y - 1)[:, None]
    signal, rest = x[:, :signal_steps, 0] - sign, x[:, signal_steps:, 0]
    assert rest.var().item() == pytest.approx(0.2, rel=0.02)
    assert abs((rest * sign).mean().item()) < 5 * 0.45 / rest.numel() ** 0.5
    if noise == "noiseless":
        assert (signal == 0).all()
    else:
        assert signal.var().item() == pytest.approx(0.2, rel=0.05)
        assert abs(signal.mean().item()) < 5 * 0.45 / signal.numel() ** 0.5


@pytest.mark.parametrize("signal_steps", [1, 3])
def test_the_best_answer_to_noisy_sequences(signal_steps):
    """The sign of the informative elements' mean is right with probability Φ(√(N / variance))."""
    task = two_sequence(noise="noisy", length=20, signal_steps=signal_steps, variance=0.5, batch_size=40_000)
    x, y = task.load(Path(), 0, CPU).train(0)
    right = ((x[:, :signal_steps, 0].mean(1) > 0) == y.bool()).double().mean().item()
    share = NormalDist().cdf((signal_steps / 0.5) ** 0.5)
    assert abs(right - share) < 5 * (share * (1 - share) / 40_000) ** 0.5


def test_nobody_is_asked_for_more_than_can_be_told():
    assert two_sequence().solved == Criterion("accuracy", 0.99, at_most=False)
    assert two_sequence(noise="noisy").solved == Criterion("accuracy", 0.99, at_most=False)
    assert two_sequence(noise="noisy", signal_steps=1).solved is None
    assert two_sequence(noise="noisy", variance=0.0).solved is not None


def test_a_signal_longer_than_the_sequence_is_refused():
    with pytest.raises(ValueError, match=r"task\.signal_steps=6 exceeds task\.length=5: set task\.signal_steps to 5"):
        two_sequence(length=5, signal_steps=6)
