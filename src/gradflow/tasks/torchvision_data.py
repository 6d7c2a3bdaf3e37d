"""Reading torchvision's data sets, and saying what to do when they are not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradflow.errors import ConfigError
from gradflow.tasks.classification import Classification
from gradflow.tasks.holdout import hold_out
from gradflow.tasks.resident import Split, Splits, Standardization
from gradflow.tasks.views import View

Dataset = Callable[..., Any]

HELD_OUT = 5_000  # training images set aside for validation, as He et al. 2016, section 4.2, do with CIFAR-10


def torchvision_task(
    name: str,
    dataset: str,
    looked_for: str,
    image_shape: tuple[int, int, int],
    classes: int,
    images: int,
    standardization: Standardization,
    *,
    batch_size: int,
    split_seed: int,
    pad: int,
    flip: bool,
    view: View,
    standardize: bool,
    permutation_seed: int | None = None,
    noise_steps: int = 0,
    most_frequent: float | None = None,
) -> Classification:
    """The task that a data set of torchvision's poses.

    Args:
        name: the task's word in tables.
        dataset: a class of `torchvision.datasets`.
        looked_for: its files below the data folder, in words.
        image_shape: [channels, height, width].
        classes: how many.
        images: in its training part, before `HELD_OUT` of them are set aside.
        standardization: of the whole training part.
        batch_size, split_seed, pad, flip, view, standardize, permutation_seed, noise_steps, most_frequent: see
            `Classification`.
    """

    return Classification(
        name=name,
        image_shape=image_shape,
        outputs=classes,
        train_size=images - HELD_OUT,
        batch_size=batch_size,
        prepare=lambda folder: prepare(_named(dataset), name, folder, looked_for),
        read=lambda folder: (read(_named(dataset), folder, HELD_OUT, split_seed), standardization),
        view=view,
        standardize=standardize,
        pad=pad,
        flip=flip,
        permutation_seed=permutation_seed,
        noise_steps=noise_steps,
        most_frequent=most_frequent,
    )


def _named(dataset: str) -> Dataset:
    from torchvision import datasets  # a second to import: only where it is used

    made: Dataset = getattr(datasets, dataset)
    return made


def prepare(make: Dataset, name: str, folder: Path, looked_for: str) -> None:
    """Check that a data set is in `folder`, unpacking or downloading it where it is not.

    Raises:
        ConfigError: if it is not there and cannot be fetched: what was looked for, where, and the two ways to get it.
    """
    try:
        _open(make, folder, train=True)
        _open(make, folder, train=False)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"task={name}: looked for {looked_for} in '{folder}' and could not download it ({reason}); "
            f"either set GRADFLOW_DATA_DIR (or paths.data) to a folder that holds it in torchvision's layout, "
            f"or run once with internet access so that torchvision downloads it there"
        ) from error


@lru_cache(maxsize=2)  # a worker's next run mostly wants the same data
def read(make: Dataset, folder: Path, held_out: int, split_seed: int) -> Splits:
    """{"train", "val", "test"}: `held_out` training examples, stratified by label, are the validation split."""
    train, val = hold_out(*_tensors(_open(make, folder, train=True)), held_out, split_seed)
    return {"train": train, "val": val, "test": Split(*_tensors(_open(make, folder, train=False)))}


def _open(make: Dataset, folder: Path, *, train: bool) -> Any:
    try:
        return make(str(folder), train=train, download=False)
    except RuntimeError:  # torchvision's word for 'not there, or still packed'
        pass
    if folder.is_dir() and any(folder.iterdir()) and not _may_write(folder):
        return _open_read_only(make, folder, train=train)
    return make(str(folder), train=train, download=True)


def _may_write(folder: Path) -> bool:
    """Whether every folder below allows it; root could write where nobody is meant to."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    return all(os.access(path, os.W_OK) and path.stat().st_mode & 0o222 for path in folders)


def _open_read_only(make: Dataset, folder: Path, *, train: bool) -> Any:
    """Packed files on a read-only disk: unpack them in a temporary folder of links."""
    with tempfile.TemporaryDirectory(prefix="gradflow-data-") as copy:
        for file in (file for file in folder.rglob("*") if file.is_file()):
            link = Path(copy) / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
        return make(copy, train=train, download=True)


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    """uint8 images [N, C, H, W] and int64 labels [N]."""
    x, y = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets).long()
    return (x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()), y
