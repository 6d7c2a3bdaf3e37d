"""A real Slurm of two nodes with four pretend GPUs each, started once for every process of pytest that needs one.

Each process has its own cluster on its own ports, so that a test which takes a node down, or fills all GPUs, disturbs
no other: starting one takes a second.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "slurm" / "localhost.sh"
MAX_ARRAY = 20  # tasks of one array, so small that splitting a longer one is cheap to see
DEADLINE = 120.0  # seconds after which a job will not come to its end


CRAWLING = '''
"""An activation whose network learns slowly until the file named by GATE is there."""

import os
import time
from pathlib import Path

import torch


class Crawling(torch.nn.ReLU):
    """A ReLU; the first time that it is trained it says which GPUs its process sees."""

    told = False

    def forward(self, x):
        if self.training and x.dtype == torch.float32 and x.device.type != "meta":  # not where theory integrates it
            if not self.told:
                self.told = True
                print("sees GPU", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
            if not Path(os.environ["GATE"]).exists():
                time.sleep(1.0)
        return super().forward(x)
'''


class Cluster:
    """What a test asks of it. `SLURM_CONF` is set in this process and all that it starts.

    Attributes:
        root: of its files; `root/log` holds what its daemons say.
    """

    def __init__(self, root: Path, settings: dict[str, str]) -> None:
        self.root, self._settings = root, settings

    def script(self, word: str) -> None:
        """`slurm/localhost.sh WORD`."""
        subprocess.run([SCRIPT, word], env={**os.environ, **self._settings}, check=True, timeout=DEADLINE)

    def ask(self, *words: str | Path) -> str:
        """What one of Slurm's commands says."""
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def submit(self, *words: str | Path) -> str:
        """`sbatch WORDS`; the job's id."""
        return self.ask("sbatch", "--parsable", *words).strip()

    def queue(self) -> dict[str, str]:
        """The state of every job in the queue: "12" or, of a task of an array, "12_3" → PENDING, RUNNING, …"""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def states(self, job: str) -> dict[str, str]:
        """Of a job and the tasks of its array."""
        return {name: state for name, state in self.queue().items() if name.split("_")[0] == job}

    def wait_for(self, job: str, *states: str) -> str:
        """Until the job, or some task of its array, is in one of these states; which."""
        return str(self.wait_until(lambda: next((n for n, s in self.states(job).items() if s in states), None), job))

    def wait(self, *jobs: str) -> None:
        """Until these jobs have left the queue; of arrays, all tasks."""
        self.wait_until(lambda: not any(self.states(job) for job in jobs), ", ".join(jobs))

    def show(self, job: str, key: str) -> str:
        """One value of `scontrol show job`, e.g. ('12', 'ExitCode')."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{key}="))

    def restart_controller(self) -> None:
        """End slurmctld, and start it again: jobs go on, and for a while nobody answers."""
        pid = int((self.root / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        self.wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), "slurmctld")
        self.script("up")

    def clear(self) -> None:
        """End all jobs and take all nodes back into service."""
        jobs = {name.split("_")[0] for name in self.queue()}
        if jobs:
            self.ask("scancel", *jobs)
            self.wait(*jobs)
        self.resume()

    def resume(self) -> None:
        """Take nodes back into service that are not; some come back by themselves once they are heard of again."""
        for line in self.ask("sinfo", "--noheader", "--Node", "--partition=debug", "--format=%N %T").splitlines():
            node, state = line.split()
            if state.startswith(("down", "drain")):
                subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)

    def wait_until(self, look: Callable[[], object], what: str = "the test") -> object:
        end = time.monotonic() + DEADLINE
        while not (seen := look()):
            assert time.monotonic() < end, f"{what}: waited {DEADLINE} s in vain; the queue is {self.queue()}"
            time.sleep(0.1)
        return seen


@pytest.fixture(scope="session")
def _running(required: Callable[[bool, str], None]) -> Iterator[Cluster]:
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    programs = ("slurmctld", "slurmd", "sbatch", "munged")
    required(all(shutil.which(name, path=path) for name in programs), "Slurm")
    required(os.geteuid() == 0, "root, who alone can start Slurm,")
    root = Path(tempfile.mkdtemp(prefix="slurm-"))  # not pytest's: munged wants a path that all may enter
    settings = {"ROOT": str(root), "PORT": str(_free_ports(3)), "MAX_ARRAY": str(MAX_ARRAY)}
    cluster = Cluster(root, {f"LOCALHOST_{key}": value for key, value in settings.items()})
    cluster.script("up")
    yield cluster
    cluster.script("purge")


@pytest.fixture(scope="module")
def cluster(_running: Cluster) -> Iterator[Cluster]:
    """The cluster, with an empty queue and all nodes in service, now and after the module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(_running.root / "slurm.conf"))
        yield _running
        _running.clear()


@dataclass(frozen=True)
class Crawling:
    """Words that choose the activation, and the environment in which it is found."""

    words: tuple[str, ...]
    environment: dict[str, str]


@pytest.fixture(scope="session")
def crawling(tmp_path_factory: pytest.TempPathFactory) -> Crawling:
    """An activation of a person's own, with which runs last until the shell's gate is opened."""
    folder = tmp_path_factory.mktemp("crawling")
    (folder / "crawling.py").write_text(CRAWLING)
    (folder / "conf" / "activation").mkdir(parents=True)
    (folder / "conf" / "activation" / "crawling.yaml").write_text("_target_: crawling.Crawling\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return Crawling(("activation=crawling", "--config-dir", str(folder / "conf")), {"PYTHONPATH": path})


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    while True:
        first = random.randrange(20_000, 30_000)
        if all(map(_is_free, range(first, first + count))):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
