"""torchvision's data sets, real and tiny: reading them, also from a read-only disk, and saying that one is missing."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, MNIST

from gradflow.errors import ConfigError
from gradflow.tasks import torchvision_data
from gradflow.tasks.cifar10 import cifar10
from gradflow.tasks.classification import Splits
from gradflow.tasks.mnist import mnist


@pytest.fixture(scope="module")
def tiny_mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """(folder, images [120, 28, 28], labels [120]) of 100 training and 20 test examples in MNIST's own format."""
    folder = tmp_path_factory.mktemp("tiny")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    x = np.random.default_rng(0).integers(0, 256, (120, 28, 28), dtype=np.uint8)
    y = (np.arange(120) % 10).astype(np.uint8)
    for name, part in (("train", slice(0, 100)), ("t10k", slice(100, 120))):
        count = len(y[part])
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + x[part].tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + y[part].tobytes())
    return folder, x, y


def test_read(tiny_mnist):
    """Train and val share torchvision's training part, stratified; images are uint8 [N, 1, 28, 28]."""
    folder, x, y = tiny_mnist
    torchvision_data.prepare(MNIST, "mnist", folder, "…")
    splits = torchvision_data.read(MNIST, folder, held_out=20, split_seed=0)
    assert {name: tuple(part.x.shape) for name, part in splits.items()} == {
        "train": (80, 1, 28, 28),
        "val": (20, 1, 28, 28),
        "test": (20, 1, 28, 28),
    }
    assert all(part.x.dtype == torch.uint8 and part.y.dtype == torch.int64 for part in splits.values())
    assert torch.bincount(splits["val"].y).tolist() == [2] * 10
    np.testing.assert_array_equal(splits["test"].x[:, 0].numpy(), x[100:])
    label = {image.tobytes(): int(k) for image, k in zip(x, y, strict=True)}
    seen = [
        (i.numpy().tobytes(), int(k)) for s in ("train", "val") for i, k in zip(splits[s].x, splits[s].y, strict=True)
    ]
    assert sorted(seen) == sorted(item for item in label.items() if item[0] in {image.tobytes() for image in x[:100]})


def test_the_split_seed_decides_what_is_held_out(tiny_mnist):
    folder, *_ = tiny_mnist
    a, again, b = (torchvision_data.read(MNIST, folder, 20, seed)["val"].x for seed in (0, 0, 1))
    assert torch.equal(a, again)
    assert not torch.equal(a, b)


def test_colour_images_get_their_channels_first():
    """torchvision's CIFAR-10 holds [N, H, W, C] and a list of labels."""
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 5, 3), dtype=np.uint8)
    splits = torchvision_data.read(
        lambda *_, **__: SimpleNamespace(data=images, targets=[k % 2 for k in range(40)]), Path(), 10, 0
    )
    np.testing.assert_array_equal(splits["test"].x.numpy(), images.transpose(0, 3, 1, 2))
    assert splits["test"].x.is_contiguous()


@pytest.mark.parametrize("make", [mnist, cifar10], ids=["mnist", "cifar10"])
def test_missing_data(make, tmp_path):
    """One line: the data set, what was looked for, where, and both ways to get it. A file where the folder should be
    keeps torchvision from downloading, with or without internet access."""
    folder = tmp_path / "data"
    folder.write_text("not a folder")
    with pytest.raises(ConfigError) as caught:
        make().prepare(folder)
    (line,) = caught.value.lines
    assert "\n" not in line
    name = make().name
    for word in (f"task={name}", str(folder), "GRADFLOW_DATA_DIR", "paths.data", "internet"):
        assert word in line
    assert {"mnist": "train-images-idx3-ubyte", "cifar10": "data_batch_1"}[name] in line


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_read_only_folder_of_unpacked_files(tiny_mnist):
    """Nothing is written there. Root may write anywhere, so the path is called itself."""
    folder, x, _ = tiny_mnist
    before = files(folder)
    dataset = torchvision_data._open_read_only(MNIST, folder, train=False)
    np.testing.assert_array_equal(dataset.data.numpy(), x[100:])
    assert files(folder) == before


def test_real_packed_mnist_on_a_read_only_disk(real_data):
    folder = real_data("MNIST")
    before = files(folder)
    assert all(name.endswith(".gz") for name in before if "ubyte" in name)
    dataset = torchvision_data._open_read_only(MNIST, folder, train=True)
    assert dataset.data.shape == (60_000, 28, 28)
    assert files(folder) == before
    with gzip.open(folder / "MNIST/raw/train-images-idx3-ubyte.gz") as file:
        assert file.read()[16:] == dataset.data.numpy().tobytes()


def check(task, folder: Path, per_class_held_out: int | None) -> Splits:
    """Sizes, storage, strata, and the standardisation by a count of all pixels; returns the splits."""
    task.prepare(folder)
    splits, standardize = task.read(folder)
    held_out, train = 5_000, task.train_size
    assert {n: tuple(s.x.shape) for n, s in splits.items()} == {
        n: (count, *task.input_shape) for n, count in (("train", train), ("val", held_out), ("test", 10_000))
    }
    for part in splits.values():
        assert part.x.dtype == torch.uint8
        assert sorted(part.y.unique().tolist()) == list(range(10))
    share = torch.bincount(splits["val"].y) / torch.bincount(torch.cat([splits["train"].y, splits["val"].y]))
    assert (share - held_out / (train + held_out)).abs().max() < 2e-4
    if per_class_held_out is not None:
        assert torch.bincount(splits["val"].y).tolist() == [per_class_held_out] * 10
    counts = np.zeros((task.input_shape[0], 256))
    for name in ("train", "val"):
        images = splits[name].x.numpy()
        for start in range(0, len(images), 5_000):
            for channel in range(len(counts)):
                counts[channel] += np.bincount(images[start : start + 5_000, channel].ravel(), minlength=256)
    shade = np.arange(256) / 255
    mean = counts @ shade / counts.sum(1)
    deviation = np.sqrt(counts @ shade**2 / counts.sum(1) - mean**2)
    np.testing.assert_allclose(standardize.mean, mean, atol=5.1e-5)
    np.testing.assert_allclose(standardize.std, deviation, atol=5.1e-5)
    return splits


def test_real_mnist(real_data):
    """Sizes, and mean and deviation as published, of the 60,000 training images."""
    check(mnist(), real_data("MNIST"), None)


def test_real_cifar10(real_data):
    """Sizes, 500 images held out of each class, published mean and deviation; images as in the batches' own layout."""
    folder = real_data("cifar-10-batches-py")
    splits = check(cifar10(), folder, 500)
    with open(folder / "cifar-10-batches-py/test_batch", "rb") as file:
        batch = pickle.load(file, encoding="bytes")
    np.testing.assert_array_equal(splits["test"].x.numpy(), batch[b"data"].reshape(-1, 3, 32, 32))
    assert splits["test"].y.tolist() == batch[b"labels"]
    assert CIFAR10(str(folder), train=False).classes[splits["test"].y[0]] == "cat"
