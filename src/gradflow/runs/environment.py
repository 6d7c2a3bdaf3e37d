"""Where and with what a run was made. Never a secret: no environment variable is read into it."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("gradflow", "torch", "lightning", "hydra-core", "numpy", "scikit-learn", "wandb")


@cache
def environment() -> dict[str, Any]:
    """Versions, code, hardware and the switches that decide whether numbers repeat."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "code": _git(Path(__file__).parent),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def switches() -> dict[str, Any]:
    """The state of torch's switches now, inside a run."""
    tiny = torch.full((64,), 1e-40)
    return {
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "subnormals_flushed": not bool((tiny * 1.0).any()),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolution": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def hardware_name(device: str) -> str:
    """What a run is computed on, by name: 'AMD EPYC 9554', 'NVIDIA H100'.

    Args:
        device: as torch writes it: 'cpu', 'cuda:0', 'mps'.
    """
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else _cpu()


def _git(folder: Path) -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if not ask("ls-files", "record.py").endswith("record.py"):
            return None  # installed inside somebody else's repository
        return {
            "commit": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain", "--", ":/src/gradflow", ":/conf")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
