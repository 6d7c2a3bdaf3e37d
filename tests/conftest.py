"""What tests share: small configs, real processes, a person's own config folder, and records made by hand."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

import forked_script
from gradflow.cli import main
from gradflow.runs.compose import Composer, composer
from gradflow.runs.config import Config
from gradflow.runs.planfile import Plan, PlannedRun, write_plan
from gradflow.runs.record import write_bytes, write_json
from gradflow.sweeps import forked

SMALL = ("depth=2", "width=8", "trainer.max_steps=20", "hardware.device=cpu", "logger.mode=disabled")
DEADLINE = 120.0  # seconds after which what a test waits for will not come

OWN_ACTIVATIONS = '''
"""A person's own activations, outside of gradflow."""

import os
import select
import signal
from pathlib import Path

import torch


class Gated(torch.nn.ReLU):
    """A ReLU that dawdles until the file named by GATE is there."""

    def forward(self, x):
        gate = os.environ.get("GATE")
        if gate and x.device.type != "meta" and not Path(gate).exists():
            # no time.sleep: where the clock is turned back, libfaketime moves its deadline
            select.select([], [], [], float(os.environ.get("DAWDLE", "0.02")))
        return super().forward(x)


class Broken(torch.nn.ReLU):
    """Fails where memory is real, which no preflight can see."""

    def forward(self, x):
        if x.device.type != "meta":
            raise RuntimeError("no such neuron")
        return super().forward(x)


class Deadly(torch.nn.ReLU):
    """Takes its process down."""

    def forward(self, x):
        if x.device.type != "meta":
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().forward(x)
'''


# Files that take a minute or more where three processes share two cores, the longest first; those that wait for Slurm
# or for a sweep beside those that compute.
LONG = (
    *("slurm/test_sweep", "sweeps/test_chaos", "runs/test_combinations.py", "sweeps/test_pool"),
    *("runs/test_rank_processes", "runs/test_config_files", "slurm/", "test_cli", "runs/test_two_processes"),
    *("commands/test_sweep_command", "sweeps/test_tuning_processes", "runs/test_combinations_of_time"),
    *("runs/test_packed", "test_hydra_main", "runs/test_wandb", "browser/", "test_scripts", "test_examples"),
    *("training/test_golden_resnet", "instruments/test_watching_two_processes"),
)


def pytest_configure() -> None:
    """Begun in the background of a script (`make test &`), this process would ignore Ctrl-C, and so would all that it
    starts; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, so that no process is left alone with one in the end."""
    here = Path(__file__).parent.as_posix() + "/"

    def place(item: pytest.Item) -> int:
        name = item.path.as_posix().removeprefix(here)
        return next((number for number, start in enumerate(LONG) if name.startswith(start)), len(LONG))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's own environment decides nothing in a test."""
    for name in ("GRADFLOW_RUNS_DIR", "GRADFLOW_SWEEPS_DIR", "WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "GATE"):
        monkeypatch.delenv(name, raising=False)


def require(present: bool, what: str) -> None:
    """Skip where something is not installed; in CI it must be, so that no test is left out there unseen."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, which CI must have")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def required() -> Callable[[bool, str], None]:
    return require


def run_in_two_processes(script: str, folder: Path, deadline: float) -> list[Any]:
    """What a script saves to the file that it is given, as rank 0 and as rank 1 of two processes."""
    import torch

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    files = [folder / f"{rank}.pt" for rank in range(2)]
    together = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    started = [
        forked.start(
            "gradflow.sweeps.worker",
            forked_script.run,
            *(script, str(file), {**os.environ, **together, "LOCAL_RANK": str(rank)}, str(file.with_suffix(".txt"))),
        )
        for rank, file in enumerate(files)
    ]
    try:
        end = time.monotonic() + deadline
        for process in started:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0, 0], "\n".join(file.with_suffix(".txt").read_text()[-2000:] for file in files)
    return [torch.load(file, weights_only=False) for file in files]


@pytest.fixture(scope="session")
def in_two_processes() -> Callable[[str, Path, float], list[Any]]:
    return run_in_two_processes


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST and CIFAR-10 as links, so that what torchvision unpacks lands beside them and not in the source."""
    source = Path(os.environ.get("GRADFLOW_DATA_DIR", "data")).resolve()
    names = ("MNIST", "cifar-10-batches-py")
    require(all((source / name).is_dir() for name in names), "GRADFLOW_DATA_DIR with MNIST and CIFAR-10")
    folder = tmp_path_factory.mktemp("data")
    for file in (file for name in names for file in (source / name).rglob("*") if file.is_file()):
        link = folder / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return folder


# --- configs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Gradflow's own files are composed once per combination in a process, by whichever composer; Hydra takes 0.3 s."""
    known: dict[tuple[str, ...], DictConfig] = {}

    def remembered(name: str, overrides: list[str]) -> DictConfig:
        folders = GlobalHydra.instance().config_loader().get_search_path().get_path()
        if any(folder.provider == "own" for folder in folders):  # whose files a test may change
            return hydra_compose(name, overrides)
        key = (name, *overrides)
        if key not in known:
            known[key] = hydra_compose(name, overrides)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradflow.runs.compose.compose", remembered)
        yield


@pytest.fixture(scope="module")
def compose() -> Iterator[Composer]:
    """A module's composer. Hydra knows one at a time: a module that takes this opens no other."""
    with composer() as made:
        yield made


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's own folder: `own_activations.py`, and `conf` that names them and one of torch's."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_activations.py").write_text(OWN_ACTIVATIONS)
    (folder / "conf" / "activation").mkdir(parents=True)
    targets = {"gelu": "torch.nn.GELU", "gated": "own_activations.Gated", "broken": "own_activations.Broken"}
    targets["deadly"] = "own_activations.Deadly"
    for name, target in targets.items():
        (folder / "conf" / "activation" / f"{name}.yaml").write_text(f"_target_: {target}\n")
    return folder


@pytest.fixture
def importable(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`own`, whose Python can be imported in this process."""
    monkeypatch.syspath_prepend(str(own))
    return own


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    """The config of a small run whose record lies in `tmp_path/runs`."""

    def make(*overrides: str, config_dir: Path | None = None) -> Config:
        paths = f"paths.runs={tmp_path / 'runs'}", f"paths.sweeps={tmp_path / 'sweeps'}"
        with composer(str(config_dir) if config_dir else None) as compose:
            return compose.config([*SMALL, *paths, *overrides])

    return make


# --- real processes -------------------------------------------------------------------------------------------


class Shell:
    """Starts `gradflow` in processes of its own, with its records below `folder`."""

    def __init__(self, folder: Path, own: Path) -> None:
        self.runs, self.sweeps, self.gate = folder / "runs", folder / "sweeps", folder / "gate"
        self._own = own
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        python = os.pathsep.join([str(self._own), *filter(None, [os.environ.get("PYTHONPATH")])])
        outside = {name: word for name, word in os.environ.items() if not name.startswith(("GRADFLOW_", "WANDB_"))}
        folders = {"GRADFLOW_RUNS_DIR": str(self.runs), "GRADFLOW_SWEEPS_DIR": str(self.sweeps), "COLUMNS": "200"}
        process = subprocess.Popen(
            [sys.executable, "-m", "gradflow", *map(str, words)],
            env={**outside, **folders, "GATE": str(self.gate), "PYTHONPATH": python, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.end(self.start(*words, **environment))

    def end(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """Wait for a process to leave by itself."""
        out, err = process.communicate(timeout=DEADLINE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                process.communicate()


@pytest.fixture(scope="session")
def new_shell(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Shell]]:
    """Makes shells, each with folders of its own; no process outlives the tests."""
    made: list[Shell] = []

    def make() -> Shell:
        made.append(Shell(tmp_path_factory.mktemp("shell"), own))
        return made[-1]

    yield make
    for shell in made:
        shell.close()


@pytest.fixture
def typed_here(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`shell.run(…)`, of a shell whose gate is open, as `typed_here(shell, …)` in this process, which has imported
    torch already; so has the server that the workers of all such sweeps are forked from, once there was one."""

    def run(shell: Shell, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        folders = {"GRADFLOW_RUNS_DIR": str(shell.runs), "GRADFLOW_SWEEPS_DIR": str(shell.sweeps), "COLUMNS": "200"}
        with monkeypatch.context() as patch:
            for name, value in {**folders, "GATE": str(shell.gate), **environment}.items():
                patch.setenv(name, value)
            for folder in (str(own), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))):
                patch.syspath_prepend(folder)
            capsys.readouterr()
            with pytest.raises(SystemExit) as left:
                main(list(map(str, words)))
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], Any]], Any]:
    """Gives the first true value of a function; fails when it has been waited for too long."""

    def wait(look: Callable[[], Any]) -> Any:
        end = time.monotonic() + DEADLINE
        while not (seen := look()):
            assert time.monotonic() < end, f"waited {DEADLINE} s in vain"
            time.sleep(0.05)
        return seen

    return wait


# Four runs that take long enough, while the gate is shut, to be disturbed in the middle.
GRID = (
    *("sweep.name=four", "activation=gated", "seed=range(4)", "depth=2", "width=8", "hardware.device=cpu"),
    *("trainer.max_steps=60", "trainer.log_every_n_steps=5", "trainer.val_every_n_steps=20"),
    *("trainer.checkpoint_every_n_steps=20", "instruments.every_n_steps=5"),
)
SECRETS = {"WANDB_API_KEY": "5ec2e7" * 6 + "abcd", "AWS_SECRET_ACCESS_KEY": "hunter2-in-the-environment"}


@pytest.fixture(scope="session")
def grid(own: Path) -> tuple[str, ...]:
    return (*GRID, "--config-dir", str(own / "conf"))


@pytest.fixture(scope="session")
def secrets() -> dict[str, str]:
    return SECRETS


@dataclass
class Trained:
    """A sweep trained without disturbance by one worker, with W&B offline and secrets in its environment."""

    shell: Shell
    folder: Path
    output: str

    @property
    def run_ids(self) -> list[str]:
        return json.loads((self.folder / "plan.json").read_text())["ids"]


@pytest.fixture(scope="session")
def baseline(
    new_shell: Callable[[], Shell], grid: tuple[str, ...], own: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Trained once for all of xdist's processes, by the first that asks. Others read it meanwhile: change nothing."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _train_baseline(new_shell(), grid)
    together = tmp_path_factory.getbasetemp().parent / "baseline"
    together.mkdir(exist_ok=True)
    said, shell = together / "said.txt", Shell(together, own)
    with (together / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            write_bytes(said, _train_baseline(shell, grid).output.encode())
    return Trained(shell, shell.sweeps / "four", said.read_text())


def _train_baseline(shell: Shell, grid: tuple[str, ...]) -> Trained:
    shell.gate.touch()
    done = shell.run("sweep", *grid, "-j", "1", "logger.mode=offline", **SECRETS)
    assert done.returncode == 0, done.stderr
    return Trained(shell, shell.sweeps / "four", done.stdout)


@dataclass(eq=False)
class Evidence:
    """What a run showed: its result without what it cost, and the rows of its two series."""

    result: dict[str, Any]
    metrics: list[dict[str, Any]]
    gradflow: list[dict[str, Any]]

    def __eq__(self, other: object) -> bool:
        """Bit for bit, and NaN is NaN: JSON writes floats so that they are read back the same."""
        return isinstance(other, Evidence) and json.dumps(vars(self)) == json.dumps(vars(other))

    def shows(self, other: Evidence, rel: float) -> None:
        """Fail unless it has the other's rows, with the same numbers to a rounding."""
        for ours, theirs in ((self.metrics, other.metrics), (self.gradflow, other.gradflow)):
            assert [{**row, "value": 0} for row in ours] == [{**row, "value": 0} for row in theirs]
            values = [row["value"] for row in theirs]
            assert [row["value"] for row in ours] == pytest.approx(values, rel=rel, abs=1e-14, nan_ok=True)


@pytest.fixture(scope="session")
def evidence() -> Callable[[Path], Evidence]:
    """Reads a run's evidence, which is the same, bit for bit, however often and wherever the run is trained."""
    import pyarrow.parquet as pq

    def read(path: Path) -> Evidence:
        result = json.loads((path / "result.json").read_text())
        result.pop("cost")
        series = (pq.read_table(path / f"{name}.parquet").to_pylist() for name in ("metrics", "gradflow"))
        return Evidence(result, *series)

    return read


# --- records made by hand -------------------------------------------------------------------------------------


class Records:
    """Writes records and their plan as gradflow does, with figures of a test's own choice."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.sweeps = folder / "sweeps"
        self.runs.mkdir()
        self.planned: list[PlannedRun] = []

    def add(
        self,
        *,
        state: str = "completed",
        accuracy: float | None = 0.5,
        ratio: float | None = 1.0,
        verdict: str = "healthy",
        error: str | None = None,
        norms: dict[int, Sequence[float]] | None = None,
        **labels: Any,
    ) -> Path:
        """One run. `norms`: step → gradient norm of each block. A 'missing' one is planned and has no record."""
        run_id = f"{len(self.planned):012x}"
        recipe = {"activation": "relu", "init": "he_normal", "norm": "none", "skip": "none"}
        labels = {"task": "digits", "model": "mlp", **recipe, "depth": 2, "width": 8, "seed": 0, **labels}
        labels["recipe"] = " · ".join(str(labels[name]) for name in recipe if labels[name] != "none")
        self.planned.append(PlannedRun(run_id, [f"seed={labels['seed']}"], labels, {}))
        path = self.runs / run_id
        if state == "missing":
            return path
        path.mkdir()
        title = f"{labels['task']} {labels['recipe']} seed {labels['seed']}"
        status = {"run_id": run_id, "state": state, "attempt": 1, "title": title, "labels": labels, "error": error}
        write_json(path / "status.json", {**status, "host": "elsewhere", "heartbeat": time.time(), "step": 7})
        if norms is not None:
            from gradflow.runs.series import GRADFLOW, Series

            series = Series(path / "gradflow.parquet", GRADFLOW)
            for step, values in norms.items():
                for block, value in enumerate(values):
                    name = f"blocks.{block:02d}"
                    series.add(step=step, block=block, name=name, quantity="grad_norm", value=value)
                series.add(step=step, block=None, name="head", quantity="grad_norm", value=1e9)
            series.write()
        if state in ("completed", "diverged"):
            diverged = state == "diverged"
            figures = {} if diverged or accuracy is None else {"test/accuracy": accuracy, "val/loss": 2 * accuracy}
            result = {
                "run_id": run_id,
                "state": state,
                "title": title,
                "labels": labels,
                "steps": 100,
                "diverged_at": 3 if diverged else None,
                "metric": "test/accuracy",
                "chance": 0.1,
                "test_size": 360,
                "metrics": figures,
                "gradient": {"ratio": ratio, "steps": 10, "zero_steps": 0, "nonfinite_steps": 0},
                "verdict": "diverged" if diverged else verdict,
                "signs": [],
                "cost": {"device": "cpu", "attempts": 1, "train_seconds": 1.5, "steps_per_second": 66.0},
            }
            write_json(path / "result.json", result)
        return path

    def sweep(self, name: str = "hand", command: str = "gradflow sweep depth=2,3") -> Path:
        """Write the plan of all runs so far; the sweep's folder."""
        write_plan(self.sweeps / name, Plan(name, command, self.runs, self.planned))
        return self.sweeps / name


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)
