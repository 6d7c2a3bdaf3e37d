"""The machine a run is computed on: whether it has what a config asks for, and torch's switches for it."""

from __future__ import annotations

import ctypes
import functools
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gradflow.runs.config import Config, Hardware
from gradflow.runs.ranks import launched, misplaced, processes

# Lightning's words. TF32 is float32 in memory: only products are computed with fewer digits.
PRECISIONS: dict[str, Any] = {
    **{"32": "32-true", "tf32": "32-true", "64": "64-true"},
    **{"bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"},
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
COMPILERS = ("c++", "g++", "clang++")


def missing_hardware(config: Config) -> str | None:
    """What a run asks for and this machine has not, in one line; None if it can start here.

    Cheap enough for every cell of a plan. A sweep's plan is checked on the machine that trains it.
    """
    hardware = config.hardware
    device, precision = device_of(hardware), hardware.precision
    if device == "cuda" and not torch.cuda.is_available():
        return (
            f"hardware.device=cuda: torch {torch.__version__} finds no CUDA GPU here; use hardware=auto or hardware=cpu"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        return "hardware.device=mps: torch finds no Apple GPU here; use hardware=auto or hardware=cpu"
    lacking = _missing_devices(config, device)
    if lacking:
        return lacking
    if precision == "16-mixed" and device == "cpu":
        return f"hardware.precision=16-mixed needs a GPU, but {_found(hardware)}: use bf16-mixed"
    if precision == "tf32" and (device != "cuda" or torch.cuda.get_device_capability() < (8, 0)):
        return f"hardware.precision=tf32 needs a CUDA GPU, Ampere or later, but {_found(hardware)}: use 32"
    if precision == "64" and device == "mps":
        return f"hardware.precision=64: Apple GPUs have no float64, but {_found(hardware)}: use hardware.device=cpu"
    if hardware.compile and not any(map(shutil.which, COMPILERS)):
        return f"hardware.compile=true needs a C++ compiler ({', '.join(COMPILERS)}), and there is none: install one"
    return None


def device_of(hardware: Hardware) -> str:
    """'cpu', 'cuda' or 'mps'; 'auto' takes a GPU where there is one."""
    if hardware.device != "auto":
        return hardware.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def gpu_of(local: int) -> int:
    """Which of the GPUs that it sees a process takes, by its place among those of its machine: a job may show each
    task its own GPU alone."""
    return local if torch.cuda.device_count() > 1 else 0


def set_switches(hardware: Hardware) -> None:
    """Set torch's threads and TF32 switches, each way: a warm worker trains one run after another.

    Float32 convolutions use TF32 on a GPU unless told not to, which would make 'precision 32' a word for two things.
    The older switches are used on purpose: with the newer `fp32_precision` Lightning and Inductor, which still read
    the older ones, would find the two at odds, and torch raises for that.
    """
    keep_memory()
    torch.set_num_threads(hardware.threads)
    torch.backends.cuda.matmul.allow_tf32 = hardware.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = hardware.precision == "tf32"


@functools.cache
def keep_memory() -> None:
    """Let this process keep up to 1 GiB that tensors have given back; with glibc alone.

    glibc gives the end of its heap back to the system as soon as tensors are freed there, and the next step asks for
    it anew, page by page: a tenth of the time of 32 networks of width 64 that train together.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**30)
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest that it takes; setting one ends its own search for both


def compiled(network: nn.Module) -> Callable[..., Any]:
    """`torch.compile(network)`, with nothing left over from an earlier run of this process.

    Runs of one warm worker share their code, of which torch keeps eight versions and then goes on uncompiled. One run
    takes three: for training, for evaluation with batches of one size, and with batches of any.
    """
    torch.compiler.reset()
    forward: Callable[..., Any] = torch.compile(network)
    return forward


def _missing_devices(config: Config, device: str) -> str | None:
    """What stands in the way of several processes."""
    devices, batch_size = config.trainer.devices, config.task.get("batch_size")
    if processes(config) == 1:
        return None
    if isinstance(batch_size, int) and batch_size % processes(config):
        return (
            f"task.batch_size={batch_size} does not divide among {processes(config)} processes, whose gradients are "
            "averaged with equal weights: use a multiple, or other trainer.devices"
        )
    if not torch.distributed.is_available():
        return f"trainer.devices={devices}: this torch is built without torch.distributed; use trainer.devices=1"
    if device == "mps":
        return (
            f"trainer.devices={devices}: torch trains on one Apple GPU alone; use trainer.devices=1, or "
            "hardware.device=cpu"
        )
    if device == "cuda":
        found = torch.cuda.device_count()
        own = launched() is not None and found == 1  # each task sees its own
        if devices > found and not own:
            return (
                f"trainer.devices={devices}: torch finds {found} CUDA {'GPU' if found == 1 else 'GPUs'} here; use "
                f"trainer.devices={found}, or hardware.device=cpu"
            )
    return misplaced(config)


def _found(hardware: Hardware) -> str:
    """Which device a run gets, and why."""
    device = device_of(hardware)
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"this GPU's compute capability is {major}.{minor}"
    return f"hardware.device={hardware.device}" + (f" finds only {device}" if hardware.device == "auto" else "")
