"""Noise behind sequences: whose it is, what it depends on, and that it is noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.classification import Classification
from gradflow.tasks.resident import Split, Standardization

CPU = torch.device("cpu")


def task(noise_steps: int = 7, **more: object) -> Classification:
    x = torch.randint(0, 256, (240, 2, 3, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    splits = dict.fromkeys(("train", "val", "test"), Split(x, torch.arange(240) % 3))
    return Classification(
        name="padded",
        image_shape=(2, 3, 5),
        outputs=3,
        train_size=240,
        batch_size=8,
        prepare=lambda _: None,
        read=lambda _: (splits, Standardization(255, (0.4, 0.5), (0.2, 0.3))),
        view="rows",
        noise_steps=noise_steps,
        **more,  # type: ignore[arg-type]
    )


def load(seed: int = 0, rank: int = 0, world: int = 1, **more: object):
    return task(**more).load(Path(), seed, CPU, rank, world)  # type: ignore[arg-type]


def test_the_sequence_comes_first_as_it_is_without_noise():
    assert task().input_shape == (10, 10)
    padded, plain = load(), load(noise_steps=0)
    for (x, y), (bare, label) in (
        (padded.train(4), plain.train(4)),
        (padded.evaluation("test", 90, 210, torch.float32), plain.evaluation("test", 90, 210, torch.float32)),
    ):
        assert x.shape[1:] == (10, 10)
        assert torch.equal(x[:, :3], bare)
        assert torch.equal(y, label)
    assert (padded.size("val"), padded.slices("val", 100)) == (240, [(0, 100), (100, 200), (200, 240)])
    assert padded.train(0, torch.float64)[0].dtype == torch.float64


def test_noise_is_normal_and_each_example_s_own():
    noise = load(noise_steps=200).evaluation("val", 0, 240, torch.float64)[0][:, 3:]
    assert abs(noise.mean().item()) < 5 / noise.numel() ** 0.5
    assert abs(noise.var().item() - 1) < 5 * (2 / noise.numel()) ** 0.5
    assert len({row.numpy().tobytes() for row in noise}) == 240


def test_training_noise_depends_on_seed_and_step_alone():
    noise = {step: load().train(step)[0][:, 3:] for step in range(4)}
    data = load()
    for step in reversed(range(4)):
        assert torch.equal(data.train(step)[0][:, 3:], noise[step])
        assert not torch.equal(load(seed=1).train(step)[0][:, 3:], noise[step])
        assert not any(torch.equal(noise[step], noise[other]) for other in range(step))
    first, second = (data.train(30 * epoch)[0][:, 3:] for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_evaluation_noise_is_the_same_for_every_run_and_however_a_split_is_cut():
    a, b = load(), load(seed=9)
    whole = a.evaluation("test", 0, 240, torch.float32)[0]
    assert torch.equal(whole, b.evaluation("test", 0, 240, torch.float32)[0])
    parts = [a.evaluation("test", start, min(start + 70, 240), torch.float32)[0] for start in range(0, 240, 70)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(a.evaluation("test", 200, 500, torch.float32)[0], whole[200:])
    assert not torch.equal(a.evaluation("val", 0, 240, torch.float32)[0][:, 3:], whole[:, 3:])


@pytest.mark.parametrize("world", [2, 4])
def test_processes_partition_the_global_batch(world):
    x, y = load().train(33)
    for rank in range(world):
        mine, labels = load(rank=rank, world=world).train(33)
        assert torch.equal(mine, x[rank::world])
        assert torch.equal(labels, y[rank::world])
