"""Latching one bit: signal, noise, and the classic one-neuron answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.latch import latch

CPU = torch.device("cpu")


def test_the_signal_tells_the_class_and_the_rest_is_noise_of_the_standard_deviation_asked_for():
    x, y = latch(length=20, signal_steps=4, noise=0.3, batch_size=5_000).load(Path(), 0, CPU).train(0)
    assert x.shape == (5_000, 20, 1)
    assert torch.equal(x[:, :4, 0], (2.0 * y - 1)[:, None].expand(-1, 4))
    noise = x[:, 4:]
    assert abs(noise.mean().item()) < 5 * 0.3 / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(0.3, rel=5 / (2 * noise.numel()) ** 0.5)
    assert abs(y.double().mean().item() - 0.5) < 5 * 0.5 / 5_000**0.5
    correlation = (noise[:, :, 0] * (2.0 * y - 1)[:, None]).mean().item()
    assert abs(correlation) < 5 * 0.3 / noise.numel() ** 0.5


def test_one_tanh_neuron_with_two_stable_states_solves_it():
    """x_t = tanh(w x_{t−1} + u_t) with w = 2.5: noise of deviation 0.2 does not push it from one to the other."""
    task = latch(length=50)
    x, y = task.load(Path(), 0, CPU).evaluation("val", 0, 2_000, torch.float32)
    state = torch.zeros(2_000)
    for step in x[..., 0].unbind(1):
        state = torch.tanh(2.5 * state + step)
    outputs = torch.stack([-state, state], 1)
    figures = {name: (total / 2_000).item() for name, total in task.score(outputs, y).items()}
    assert task.solved is not None
    assert task.solved.met(figures)


def test_a_signal_longer_than_the_sequence_is_refused():
    with pytest.raises(ValueError, match=r"task\.signal_steps=6 exceeds task\.length=5: set task\.signal_steps to 5"):
        latch(length=5, signal_steps=6)
