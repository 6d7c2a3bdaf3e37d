"""Is this machine ready? What `gradflow doctor` looks at."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gradflow.runs.config import Config
from gradflow.runs.credentials import has_wandb_key

PACKAGES = (
    "gradflow",
    "torch",
    "torchvision",
    "lightning",
    "hydra-core",
    "wandb",
    "scikit-learn",
    "pyarrow",
    "matplotlib",
)
DATA = {"mnist": "MNIST/raw/train-images-idx3-ubyte", "cifar10": "cifar-10-batches-py/data_batch_1"}


@dataclass(frozen=True)
class Check:
    """One finding: `grade` is 'ok', 'note' (something is not there, and need not be) or 'problem'."""

    what: str
    grade: str
    found: str


def examine(config: Config) -> list[Check]:
    """Look at versions, devices, folders, data, W&B and Slurm, with the paths of a config."""
    looks: list[Callable[[], Check]] = [
        lambda: Check("python", "ok", platform.python_version()),
        *(lambda name=name: _package(name) for name in PACKAGES),
        _devices,
        lambda: _hardware(config),
        _digits,
        lambda: _writable("runs", Path(config.paths.runs)),
        lambda: _writable("sweeps", Path(config.paths.sweeps)),
        *(lambda name=name: _data(name, Path(config.paths.data)) for name in DATA),
        lambda: _wandb(config),
        _slurm,
    ]
    return [look() for look in looks]


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "problem", "not installed; run 'make install'")


def _devices() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("devices", "problem", f"torch cannot be imported ({error})")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        gpus.append("Apple MPS")
    cores = f"{os.cpu_count()} CPU cores"
    return Check("devices", "ok", f"{cores}, {', '.join(gpus)}" if gpus else f"{cores}, no GPU")


def _hardware(config: Config) -> Check:
    """Whether a run of this config could start on this machine."""
    try:
        from gradflow.runs.hardware import device_of, missing_hardware
    except ImportError as error:
        return Check("hardware", "problem", f"torch cannot be imported ({error})")
    missing = missing_hardware(config)
    if missing:
        return Check("hardware", "problem", missing)
    hardware = config.hardware
    compiled = ", compiled" if hardware.compile else ""
    return Check("hardware", "ok", f"{device_of(hardware)}, precision {hardware.precision}{compiled}")


def _digits() -> Check:
    try:
        from sklearn.datasets import load_digits

        return Check("data: digits", "ok", f"{len(load_digits().target)} images, inside scikit-learn")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it is the finding
        return Check("data: digits", "problem", f"scikit-learn cannot load it ({error})")


def _data(name: str, folder: Path) -> Check:
    file = folder / DATA[name]
    if file.exists() or file.with_name(file.name + ".gz").exists():
        return Check(f"data: {name}", "ok", f"found in {folder}")
    return Check(
        f"data: {name}", "note", f"not in {folder}; the first run that needs it downloads it (GRADFLOW_DATA_DIR)"
    )


def _writable(name: str, folder: Path) -> Check:
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return Check(name, "problem", f"{folder} cannot be written ({error.strerror})")
    free = shutil.disk_usage(nearest).free
    return Check(name, "ok" if free > 1e9 else "note", f"{folder}, {free / 1e9:.0f} GB free")


def _wandb(config: Config) -> Check:
    mode = config.logger.mode
    if mode != "online":
        return Check("wandb", "ok", f"mode {mode}: no account needed, nothing is sent")
    if has_wandb_key():
        return Check("wandb", "ok", "mode online, an API key is there")
    return Check("wandb", "problem", "mode online, but no API key: run 'wandb login', or logger.mode=offline")


def _slurm() -> Check:
    path = shutil.which("sbatch")
    return Check(
        "slurm", "ok" if path else "note", f"found, {path}" if path else "not found: sweeps run on this machine"
    )
