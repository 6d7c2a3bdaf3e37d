"""How many workers share a machine, or a task's part of one, and which GPUs each of them sees."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gradflow.errors import ConfigError
from gradflow.sweeps.launcher import Workers


@dataclass(frozen=True)
class Allotment:
    """What a pool of workers has.

    Attributes:
        jobs: worker processes.
        gpus: for each worker in turn the GPUs that it sees, as `CUDA_VISIBLE_DEVICES` has them, e.g. ('0', '0', '1',
            '1') for two workers per GPU; empty where there are none.
        max_attempts: how often a run is tried whose process dies.
        pack: runs that a worker trains at once.
    """

    jobs: int
    gpus: tuple[str, ...] = ()
    max_attempts: int = 3
    pack: int = 1

    def gpu(self, worker: int) -> str | None:
        return self.gpus[worker % len(self.gpus)] if self.gpus else None


def allot(workers: Workers, threads: int, wants_gpu: bool, devices: int = 1) -> Allotment:
    """Share out what this process may use.

    Args:
        workers: what the launcher's config says.
        threads: CPU threads of a run, over all its processes.
        wants_gpu: whether any run may train on a GPU.
        devices: GPUs of a run.

    Raises:
        ConfigError: if a run needs more GPUs than there are.
    """
    seen = visible_gpus() if wants_gpu else []
    if seen and devices > len(seen):
        raise ConfigError(f"trainer.devices={devices}: this machine shows {len(seen)} GPUs to gradflow")
    groups = [",".join(seen[i : i + devices]) for i in range(0, len(seen) - devices + 1, devices)]
    gpus = tuple(group for group in groups for _ in range(workers.workers_per_gpu))
    return Allotment(workers.jobs or len(gpus) or max(1, cores() // threads), gpus, workers.max_attempts, workers.pack)


def cores() -> int:
    """CPU cores that this process may use: of a Slurm task, those it asked for."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(here, int(asked)) if asked.isdigit() and int(asked) else here


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, named as `CUDA_VISIBLE_DEVICES` names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
