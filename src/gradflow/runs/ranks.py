"""The processes that train one run together: how many there are, and which of them this one is."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from gradflow.runs.config import Config

OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PORTS = range(12_000, 32_000)  # below those that Linux gives to outgoing connections


@dataclass(frozen=True)
class Launched:
    """This process's place among several that `srun` or `torchrun` has started.

    Attributes:
        by: 'srun' or 'torchrun'.
        rank, world: of all processes.
        local: of those on this machine.
        nodes: machines; None: not told.
        address: where they meet, as torch writes it: 'env://' or 'tcp://HOST:PORT'.
    """

    by: str
    rank: int
    world: int
    local: int
    nodes: int | None
    address: str


def processes(config: Config) -> int:
    """How many processes train a run, on all machines together."""
    return config.trainer.devices * config.trainer.num_nodes


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """Who has started this process as one of several; None if nobody has.

    A job's batch script has `SLURM_NTASKS` and `SLURM_PROCID` too: only `srun` says how many tasks its step has.
    """
    if all(name in environment for name in OF_TORCHRUN):
        rank, world, local = (int(environment[name]) for name in OF_TORCHRUN[:3])
        return Launched("torchrun", rank, world, local, None, "env://") if world > 1 else None
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return Launched(
            "srun",
            rank=int(environment["SLURM_PROCID"]),
            world=int(environment["SLURM_STEP_NUM_TASKS"]),
            local=int(environment.get("SLURM_LOCALID", "0")),
            nodes=int(environment["SLURM_STEP_NUM_NODES"]) if "SLURM_STEP_NUM_NODES" in environment else None,
            address=f"tcp://{_host(environment)}:{_port(environment)}",
        )
    return None


def follows(config: Config) -> bool:
    """Whether this process trains its share of a run without being the one that writes the record and tells of it."""
    outside = launched()
    return processes(config) > 1 and outside is not None and outside.rank > 0


def misplaced(config: Config) -> str | None:
    """How a run's processes differ from those that were started, in one line; None if they do not."""
    trainer, outside, world = config.trainer, launched(), processes(config)
    if world == 1:
        return None
    asked = f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes}"
    if outside is None:
        if trainer.num_nodes == 1:
            return None
        return (
            f"trainer.num_nodes={trainer.num_nodes}: processes of several machines are started by srun or torchrun, "
            "and this one was not: use sbatch slurm/train_ddp.sbatch, or trainer.num_nodes=1"
        )
    if outside.world != world or outside.nodes not in (None, trainer.num_nodes):
        where = "" if outside.nodes is None else f" on {outside.nodes} {'node' if outside.nodes == 1 else 'nodes'}"
        return (
            f"{asked} are {world} processes, but {outside.by} started {outside.world}{where}: "
            f"use --nodes={trainer.num_nodes} --ntasks-per-node={trainer.devices} (torchrun: --nnodes, "
            "--nproc-per-node), or other values"
        )
    return None


def only_one(command: str) -> str | None:
    """Why a command that starts runs itself must not be started several times over; None if it was not."""
    outside = launched()
    if outside is None:
        return None
    return (
        f"{command}: {outside.by} started this command {outside.world} times, and each would train the same runs: "
        "start it once; it starts the processes of its runs itself"
    )


def _host(environment: Mapping[str, str]) -> str:
    """The machine of rank 0: `MASTER_ADDR` where a person says it, the step's first node where its name is known to
    the network, else whence `srun` was typed, which in a batch job is that node."""
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"]
    first = first_node(environment.get("SLURM_STEP_NODELIST", "localhost"))
    with suppress(OSError):
        socket.gethostbyname(first)
        return first
    return environment.get("SLURM_LAUNCH_NODE_IPADDR", first)


def _port(environment: Mapping[str, str]) -> int:
    """The same in all processes of a step, and seldom that of another step on the same machine."""
    if "MASTER_PORT" in environment:
        return int(environment["MASTER_PORT"])
    job, step = (int(environment.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return PORTS[(job * 31 + step) % len(PORTS)]


def first_node(nodes: str) -> str:
    """The first of a list of nodes as Slurm writes it.

    >>> [first_node(nodes) for nodes in ("n7", "n1,n3", "gpu[007-009,12]-ib,login", "a[1-2]b[3-4]")]
    ['n7', 'n1', 'gpu007-ib', 'a1b3']
    """
    outside_of_brackets = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    assert outside_of_brackets is not None
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", outside_of_brackets.group())
