"""Delayed XOR against its definition, and what a guess scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.delayed_xor import delayed_xor

CPU = torch.device("cpu")


def test_a_label_says_whether_two_bits_differ():
    task = delayed_xor(delay=3, length=20, batch_size=5, val_size=50, test_size=50)
    data = task.load(Path(), 0, CPU)
    for x, y in (data.train(1), data.evaluation("val", 7, 12, torch.float32)):
        assert x.shape == (5, 20, 1)
        assert set(x.unique().tolist()) == {0.0, 1.0}
        bits = x[..., 0].int().tolist()
        for sequence, labels in zip(bits, y.tolist(), strict=True):
            assert labels[6:] == [int(sequence[t - 3] != sequence[t - 6]) for t in range(6, 20)]


def test_first_steps_do_not_count():
    task = delayed_xor(delay=2, length=9)
    _, y = task.load(Path(), 0, CPU).train(0)
    outputs = torch.nn.functional.one_hot(y, 2).float() * 100
    wrong = outputs.clone()
    wrong[:, :4] = wrong[:, :4].flip(2)
    for answers in (outputs, wrong):
        assert task.loss(answers, y) < 1e-6
        assert task.score(answers, y)["accuracy"] == len(y)
    wrong[:, 4] = wrong[:, 4].flip(1)
    assert task.score(wrong, y)["accuracy"].item() == pytest.approx(len(y) * 4 / 5)
    assert task.solved is not None
    assert task.solved.met({"accuracy": 0.99})


def test_a_guess_scores_a_half_with_the_error_that_is_stated():
    task = delayed_xor(delay=2, length=24, test_size=4_000)
    _, y = task.load(Path(), 0, CPU).evaluation("test", 0, 4_000, torch.float32)
    shares = (y[:, 4:] == 0).double().mean(1)
    assert abs(shares.mean().item() - task.chance) < 4 * task.chance_error(4_000)
    assert shares.std().item() == pytest.approx(task.chance_error(1), rel=0.05)


def test_neither_bit_alone_says_anything():
    x, y = delayed_xor(delay=3, length=30, batch_size=4_000).load(Path(), 0, CPU).train(0)
    for lag in range(12):
        bits = x[:, 12 - lag, 0]
        assert abs(torch.corrcoef(torch.stack([bits, y[:, 12].float()]))[0, 1].item()) < 4 / 4_000**0.5


def test_a_sequence_without_a_target_is_refused():
    with pytest.raises(ValueError, match=r"task\.length=20 leaves no step.*set task\.length=21 or more"):
        delayed_xor(length=20)
