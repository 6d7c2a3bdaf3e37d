"""Training batches: functions of (seed, step) alone, split among processes, cropped and mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradflow.tasks.resident import Split, Standardization, TrainBatches, crop

PLAIN = Standardization(1, (0.0,), (1.0,))
N, BATCH = 50, 8


def split(count: int = N, size: int = 6) -> Split:
    """Random images, labelled by their own index."""
    x = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Split(x, torch.arange(count))


def batches(seed: int = 0, **more: object) -> TrainBatches:
    return TrainBatches(split(), BATCH, seed, PLAIN, **more)  # type: ignore[arg-type]


AUGMENTED = {"pad": 2, "flip": True}


@pytest.mark.parametrize("options", [{}, AUGMENTED], ids=["plain", "augmented"])
def test_a_batch_depends_on_seed_and_step_alone(options):
    """In order, backwards, one step asked of a fresh object (a restart): always the same batch."""
    steps = range(20)
    forwards, backwards = batches(**options), batches(**options)
    seen = {step: forwards(step) for step in steps}
    for step in reversed(steps):
        for again in (backwards(step), batches(**options)(step)):
            assert all(torch.equal(a, b) for a, b in zip(seen[step], again, strict=True))


def test_an_epoch_is_a_permutation_cut_into_whole_batches():
    made = batches()
    assert made.steps_per_epoch == N // BATCH == 6
    epochs = [torch.cat([made(6 * epoch + k)[1] for k in range(6)]) for epoch in range(30)]
    assert all(len(epoch.unique()) == 48 for epoch in epochs)
    assert all(not torch.equal(epochs[i], epochs[j]) for i in range(30) for j in range(i))
    assert len(torch.cat(epochs).unique()) == N  # whoever waits in one epoch comes in another


def test_the_order_is_uniform():
    """Which example comes first, over 2,000 seeds: each of 50 with a count of 40 ± 6.3."""
    first = torch.stack([batches(seed)(0)[1][0] for seed in range(2000)])
    chi2 = ((torch.bincount(first, minlength=N) - 40.0) ** 2 / 40).sum()
    assert chi2 < 49 + 5 * np.sqrt(2 * 49)


def test_another_seed_gives_another_order():
    assert not torch.equal(batches(0)(0)[1], batches(1)(0)[1])


def test_images_and_labels_stay_together():
    x, y = batches()(3)
    assert torch.equal(x, split().x[y].float())


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("options", [{}, AUGMENTED], ids=["plain", "augmented"])
def test_processes_partition_the_global_batch(options, world):
    """Rank r has examples r, r + world, … of the batch that one process alone would see, with their augmentation."""
    for step in (0, 5, 6, 17):
        x, y = batches(**options)(step)
        for rank in range(world):
            mine_x, mine_y = batches(**options, rank=rank, world=world)(step)
            assert torch.equal(mine_x, x[rank::world])
            assert torch.equal(mine_y, y[rank::world])


def test_a_batch_that_does_not_divide_among_the_processes_is_refused():
    """DDP averages over processes: examples of a smaller share would count for more."""
    with pytest.raises(ValueError, match="batch_size"):
        TrainBatches(split(), 5, 0, PLAIN, rank=0, world=2)


@pytest.mark.parametrize("pad", [1, 2, 4])
def test_crop_against_a_loop(pad):
    x = torch.randint(1, 256, (12, 3, 5, 7), dtype=torch.uint8)
    corner = torch.randint(0, 2 * pad + 1, (12, 2))
    expected = torch.zeros_like(x)
    for b in range(12):
        for row in range(5):
            for column in range(7):
                i, j = row + int(corner[b, 0]) - pad, column + int(corner[b, 1]) - pad
                if 0 <= i < 5 and 0 <= j < 7:
                    expected[b, :, row, column] = x[b, :, i, j]
    assert torch.equal(crop(x, corner, pad), expected)


def test_crop_at_the_middle_changes_nothing():
    x = split().x
    assert torch.equal(crop(x, torch.full((N, 2), 2), 2), x)


def test_training_crops_take_every_corner_equally():
    """pad=1: nine windows, each with a ninth of 2,880 crops."""
    made, images = batches(pad=1), torch.nn.functional.pad(split().x, (1, 1, 1, 1)).float()
    counts = torch.zeros(3, 3)
    for step in range(360):
        for image, label in zip(*made(step), strict=True):
            windows = [[torch.equal(image, images[label, :, i : i + 6, j : j + 6]) for j in range(3)] for i in range(3)]
            assert np.sum(windows) == 1
            counts += torch.tensor(windows)
    chi2 = ((counts - 320) ** 2 / 320).sum()
    assert chi2 < 8 + 5 * np.sqrt(16)


def test_flip_mirrors_half_of_the_images_left_to_right_and_does_nothing_else():
    made, images, mirrored = batches(flip=True), split().x.float(), 0
    for step in range(120):
        for image, label in zip(*made(step), strict=True):
            as_it_was, turned = torch.equal(image, images[label]), torch.equal(image, images[label].flip(-1))
            assert as_it_was != turned
            mirrored += turned
    assert abs(mirrored - 480) < 5 * np.sqrt(960 / 4)


def test_standardization():
    """(x / top − mean) / std per channel."""
    x = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    out = Standardization(255, mean, std)(x, torch.float64)
    expected = (x.numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=1e-13)
    assert Standardization(255, mean, std)(x, torch.float32).dtype == torch.float32
    shades = Standardization(255, mean, std).without_moments()(x, torch.float64)
    np.testing.assert_allclose(shades.numpy(), x.numpy() / 255, rtol=0, atol=1e-15)


def test_float_vectors_and_targets_are_served_as_they_are():
    """An epoch of vectors is a permutation of the examples, x and y together, in the type asked for."""
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    made = TrainBatches(Split(x, 2 * x[:, :2]), BATCH, 0, torch.Tensor.to)
    epoch = [made(step, torch.float64) for step in range(6)]
    assert all(a.shape == (BATCH, 3) and torch.equal(b.double(), 2 * a[:, :2]) for a, b in epoch)
    seen = torch.cat([a for a, _ in epoch])
    assert seen.dtype == torch.float64
    assert len(seen[:, 0].unique()) == 48
    assert torch.isin(seen[:, 0], x[:, 0].double()).all()
