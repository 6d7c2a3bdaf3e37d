"""Latching a level: who sees what when, the neuron that holds it, and what counts as wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.latch_level import latch_level

CPU = torch.device("cpu")


def test_one_hot_in_class_and_step_then_noise_of_the_standard_deviation_asked_for():
    x, y = latch_level(length=20, signal_steps=4, noise=0.3, batch_size=4_000).load(Path(), 0, CPU).train(0)
    assert x.shape == (4_000, 20, 9)
    assert y.shape == (4_000, 1)
    for index in range(4):
        label = index % 2
        assert float(y[index, 0]) == pytest.approx(0.8 if label else -0.8)
        for step in range(20):
            wanted = torch.zeros(8)
            if step < 4:
                wanted[4 * label + step] = 1
            assert torch.equal(x[index, step, :8], wanted)
    assert not x[:, :4, 8].any()
    noise = x[:, 4:, 8]
    assert abs(noise.mean().item()) < 5 * 0.3 / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(0.3, rel=5 / (2 * noise.numel()) ** 0.5)


def test_classes_take_turns():
    _, y = latch_level().load(Path(), 0, CPU).train(5)
    assert y.flatten().tolist() == pytest.approx([-0.8, 0.8])


def test_wrong_is_the_other_side():
    task = latch_level()
    outputs, y = torch.tensor([[0.01], [-0.01], [0.99], [-0.99]]), torch.tensor([[0.8], [0.8], [0.8], [0.8]])
    assert float(task.score(outputs, y)["wrong"]) == 2


def test_strong_inputs_are_held_by_the_neuron_of_the_paper():
    """x_t = tanh(w x_{t−1} + h_t) with w = 2.5 and inputs ±1: noise of deviation 0.2 does not push it over."""
    task = latch_level(length=50)
    x, y = task.load(Path(), 0, CPU).evaluation("val", 0, 100, torch.float32)
    weights = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0])  # class 0, class 1, noise
    state = torch.zeros(100)
    for step in (x @ weights).unbind(1):
        state = torch.tanh(2.5 * state + step)
    figures = {name: (total / 100).item() for name, total in task.score(state[:, None], y).items()}
    assert task.solved is not None
    assert task.solved.met(figures)
    assert task.solved.met({"wrong": 0.07})
    assert not task.solved.met({"wrong": 0.08})


def test_the_best_constant_answer():
    task = latch_level(level=0.6)
    _, y = task.load(Path(), 0, CPU).evaluation("test", 0, 100, torch.float32)
    assert float(task.score(torch.zeros(100, 1), y)["mse"]) / 100 == pytest.approx(task.chance, rel=1e-6)


def test_a_signal_longer_than_the_sequence_is_refused():
    with pytest.raises(ValueError, match=r"task\.signal_steps=6 exceeds task\.length=5: set task\.signal_steps to 5"):
        latch_level(length=5, signal_steps=6)
