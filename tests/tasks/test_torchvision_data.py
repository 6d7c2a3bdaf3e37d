"""torchvision's data sets, real and tiny: reading them, also from a read-only disk, and saying that one is missing."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100, MNIST

from gradflow.errors import ConfigError
from gradflow.tasks import torchvision_data
from gradflow.tasks.binary_mnist import binary_mnist
from gradflow.tasks.cifar10 import cifar10
from gradflow.tasks.cifar100 import cifar100
from gradflow.tasks.fashion_mnist import fashion_mnist
from gradflow.tasks.mnist import mnist
from gradflow.tasks.resident import Splits


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


LOOKED_FOR = {
    mnist: "MNIST/raw/train-images-idx3-ubyte",
    binary_mnist: "MNIST/raw/train-images-idx3-ubyte",
    fashion_mnist: "FashionMNIST/raw/train-images-idx3-ubyte",
    cifar10: "cifar-10-batches-py/data_batch_1",
    cifar100: "cifar-100-python/train",
}


@pytest.mark.parametrize("make", LOOKED_FOR)
def test_missing_data(make, tmp_path):
    """One line: the data set, what was looked for, where, and both ways to get it. A file where the folder should be
    keeps torchvision from downloading, with or without internet access."""
    folder = tmp_path / "data"
    folder.write_text("not a folder")
    with pytest.raises(ConfigError) as caught:
        make().prepare(folder)
    (line,) = caught.value.lines
    assert "\n" not in line
    for word in (
        f"task={make.__name__}:",
        LOOKED_FOR[make],
        str(folder),
        "GRADFLOW_DATA_DIR",
        "paths.data",
        "internet",
    ):
        assert word in line


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
    most_frequent = torch.bincount(splits["test"].y).max().item() / 10_000
    assert task.chance == most_frequent  # what naming one class for every image scores
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


def test_fashion_mnist_reads_its_own_folder_in_mnist_s_format(real_data, tmp_path):
    """MNIST's files under Fashion-MNIST's name: the same images, splits and labels, another standardisation."""
    source, raw = real_data("MNIST"), tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in (source / "MNIST/raw").glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    task = fashion_mnist()
    task.prepare(tmp_path)
    splits, standardize = task.read(tmp_path)
    mnist().prepare(source)
    expected, _ = mnist().read(source)
    for name, split in splits.items():
        assert torch.equal(split.x, expected[name].x)
        assert torch.equal(split.y, expected[name].y)
    assert (standardize.top, standardize.mean, standardize.std) == (255, (0.2860,), (0.3530,))


@pytest.fixture
def small_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, dict[str, object]]]:
    """(folder, {"train", "test"}: what the batches hold) of 5,500 and 200 images in CIFAR-100's own archive."""
    random, batches = np.random.default_rng(0), {}
    for part, count in (("train", 5_500), ("test", 200)):
        data = np.zeros((count, 3072), np.uint8)
        data[:, [0, 1023, 1024, 3071]] = random.integers(0, 256, (count, 4), dtype=np.uint8)
        fine = [k % 100 for k in range(count)]
        batches[part] = {"data": data, "fine_labels": fine, "coarse_labels": [k // 5 for k in fine]}
    layout = {**batches, "meta": {"fine_label_names": [f"class {k}" for k in range(100)], "coarse_label_names": []}}
    folder, unpacked = tmp_path / "data", tmp_path / "unpacked" / "cifar-100-python"
    folder.mkdir()
    unpacked.mkdir(parents=True)
    md5 = {}
    for name, content in layout.items():
        (unpacked / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((unpacked / name).read_bytes()).hexdigest()
    with tarfile.open(folder / CIFAR100.filename, "w:gz") as archive:
        archive.add(unpacked, "cifar-100-python")
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5((folder / CIFAR100.filename).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5["meta"]})
    return folder, batches


def test_cifar100_unpacks_its_archive_and_reads_the_fine_labels(small_cifar100):
    """5,000 held out, 50 of each of 100 classes; pixels by channel, row and column, as the batches have them."""
    folder, batches = small_cifar100
    cifar100().prepare(folder)
    splits, standardize = cifar100().read(folder)
    assert {name: tuple(split.x.shape) for name, split in splits.items()} == {
        "train": (500, 3, 32, 32),
        "val": (5_000, 3, 32, 32),
        "test": (200, 3, 32, 32),
    }
    assert torch.bincount(splits["val"].y).tolist() == [50] * 100
    np.testing.assert_array_equal(splits["test"].x.numpy(), batches["test"]["data"].reshape(-1, 3, 32, 32))
    assert splits["test"].y.tolist() == batches["test"]["fine_labels"]
    given = sorted(
        zip((row.tobytes() for row in batches["train"]["data"]), batches["train"]["fine_labels"], strict=True)
    )
    read = [(splits[name].x, splits[name].y) for name in ("train", "val")]
    seen = sorted((image.numpy().tobytes(), int(k)) for x, y in read for image, k in zip(x, y, strict=True))
    assert seen == given
    assert standardize.mean == (0.5071, 0.4865, 0.4409)
    assert standardize.std == (0.2673, 0.2564, 0.2762)


@pytest.mark.parametrize("view", ["image", "flat", "sequence"])
def test_real_mnist_standardised_has_mean_0_and_variance_1_in_every_view(real_data, view):
    """To the four digits of the published mean and deviation, over all training images of both splits."""
    folder = real_data("MNIST")
    mnist().prepare(folder)
    data = mnist(view=view).load(folder, 0, torch.device("cpu"))
    total, square, count = 0.0, 0.0, 0
    for split, size in (("train", 55_000), ("val", 5_000)):
        for start in range(0, size, 5_000):
            x, _ = data.evaluation(split, start, start + 5_000, torch.float32)
            assert x.shape[1:] == mnist(view=view).input_shape
            total, square = total + x.double().sum().item(), square + x.double().square().sum().item()
            count += x.numel()
    assert total / count == pytest.approx(0, abs=3e-4)
    assert square / count == pytest.approx(1, abs=6e-4)
