"""What logging to Weights & Biases costs a training step: the same run without it, offline, and with wandb's own `log`.

    python benchmarks/wandb_logging.py [--depth 10 --width 64 --batch 64 --steps 600 --repeats 9 --threads 1]

All train the same run on digits with the instruments of `conf/instruments/cheap.yaml` at their default intervals, and
take turns in one process, so that whatever else the machine does falls on all of them. `disabled` is `logger.mode=
disabled`; `offline` what gradflow does; `wandb.log` calls wandb's `Run.log` in the training process with the same rows,
which is what one would write first. Timed are the training steps, validation left out, from the second step on, when
the process that speaks with W&B is up; figures are medians of the turns, as a ratio to `disabled` of the same turn with
the quartiles. `CPU share` is the CPU time that the training process spends on W&B, in the calls themselves and in
threads beside training, as a share of all that it uses in these steps: it says the same on a machine that is busy with
other things, where wall-clock ratios say little. The cost of starting and ending a W&B run is given apart.

`beside` is what that does not count: the CPU time of the process that speaks with W&B and of wandb's own, per training
step, as a share of the training process's; it matters where all cores are taken. `beside, start` is what they use until
they are up, once per process that trains, however many runs it trains; with `wandb.log` that of wandb's own alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import lightning
import torch
import wandb
from lightning.pytorch import Callback, LightningModule, Trainer

from gradflow.instruments.gradient_flow import GradientFlow
from gradflow.runs.build import build
from gradflow.runs.compose import composer
from gradflow.runs.config import Config
from gradflow.runs.execute import _learner, quiet
from gradflow.runs.wandb_history import History
from gradflow.runs.wandb_logger import WandbLog, dismiss, finish, make_logger

SETTLED = 6.0  # seconds after which the process that speaks with W&B is up
COMMON = ("hardware.device=cpu", "logger.mode=offline")


class Telling(Callback):
    """Hands a run's numbers to a log, as `gradflow.runs.recorder` does."""

    def __init__(self, flow: GradientFlow, log: Any) -> None:
        self.flow, self.told, self._seen = flow, log, 0
        self.wall = self.cpu = self.calls = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self.wall and pl_module.steps_done:
            self.wall, self.cpu, self.first = time.perf_counter(), time.process_time(), pl_module.steps_done
            self.calls, self.beside, self.other = 0.0, beside(), of_processes()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        learner: Any = pl_module
        began = time.thread_time()
        for figure in learner.figures:
            if self.told is not None:
                self.told.figure(figure.step, {f"{figure.split}/{k}": v for k, v in figure.values.items()})
        learner.figures.clear()
        new = self.flow.flow.measurements[self._seen :]
        self._seen += len(new)
        for measurement in new if self.told is not None else ():
            self.told.measured(measurement)
        if self.told is not None:
            self.told.reached(learner.steps_done, learner.budget.total)
        self.calls += time.thread_time() - began

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps: Any = pl_module.steps_done - self.first
        whole = time.process_time() - self.cpu
        self.cpu = (self.calls + beside() - self.beside) / whole
        self.wall = (time.perf_counter() - self.wall) / steps
        time.sleep(1.5)  # what is still in line
        self.other = (of_processes() - self.other) / whole


def beside() -> float:
    """CPU seconds that all Python threads but this one have used."""
    others = [each for each in threading.enumerate() if each is not threading.current_thread() and each.ident]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(each.ident)) for each in others if each.ident)


def of_processes() -> float:
    """CPU seconds that all processes below this one have used so far."""
    used, parent = dict[int, float](), dict[int, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parent[int(folder.name)] = int(words[1])
        used[int(folder.name)] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def is_below(pid: int) -> bool:
        above = parent.get(pid, 0)
        return above == os.getpid() or (above > 1 and is_below(above))

    return sum(seconds for pid, seconds in used.items() if is_below(pid))


class Direct:
    """The same rows by wandb's own `log`, in the training process."""

    def __init__(self, run: Any) -> None:
        self.run, self.history, self._news = run, History(0), False

    def figure(self, step: int, named: dict[str, float]) -> None:
        self.history.figure(step, named)

    def measured(self, measurement: Any) -> None:
        for row, value in zip(measurement.rows, measurement.values.tolist(), strict=True):
            if value != float("-inf"):
                self.history.measured(measurement.step, (row.name, row.block, row.quantity), value)

    def reached(self, steps: int, total: int) -> None:
        for step, row in self.history.rows(steps, 0.0):
            self.run.log(row, step=step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("depth", 10), ("width", 64), ("batch", 64), ("steps", 600), ("repeats", 9), ("threads", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, composer() as compose:
        words = [f"depth={args.depth}", f"width={args.width}", f"task.batch_size={args.batch}", f"paths.runs={folder}"]
        steps = [f"trainer.max_steps={args.steps}", f"trainer.val_every_n_steps={args.steps + 1}"]
        config = compose.config([*COMMON, *words, *steps, f"hardware.threads={args.threads}"])
        found = measure(config, Path(folder), args.repeats)
    print(
        f"depth {args.depth}, width {args.width}, batch {args.batch}, {args.steps} steps, {args.repeats} repeats, "
        f"{args.threads} thread(s); torch {torch.__version__}, lightning {lightning.__version__}, "
        f"wandb {wandb.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print("\n| W&B | ms per step | wall clock, ratio (quartiles) | CPU share (quartiles) | start, s | end, s |", end="")
    print(" beside (quartiles) | beside, start, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, turns in found.items():
        step = 1000 * statistics.median(turn["wall"] for turn in turns)
        wall = _spread(
            [turn["wall"] / base["wall"] for turn, base in zip(turns, found["disabled"], strict=True)], ".3f"
        )
        cpu = _spread([turn["cpu"] for turn in turns], ".2%")
        other = _spread([turn["other"] for turn in turns], ".1%")
        start, end, up = (f"{statistics.median(turn[k] for turn in turns):.2f}" for k in ("start", "end", "up"))
        print(f"| {name} | {step:.3f} | {wall} | {cpu} | {start} | {end} | {other} | {up} |")


def measure(config: Config, folder: Path, repeats: int) -> dict[str, list[dict[str, float]]]:
    """What each way took, turn by turn; the first turn warms up."""
    found: dict[str, list[dict[str, float]]] = {"disabled": [], "offline": [], "wandb.log": []}
    for turn in range(repeats + 1):
        names = list(found) if turn % 2 else list(found)[::-1]
        for name in names:
            took = train(config, folder / f"{turn}-{name}", name)
            if turn:
                found[name].append(took)
    return found


def train(config: Config, path: Path, name: str) -> dict[str, float]:
    path.mkdir()
    before = of_processes()
    began = time.perf_counter()
    log: WandbLog | Direct | None = None
    if name == "offline":
        log = make_logger(config, path)
    elif name == "wandb.log":
        quietly = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True)
        log = Direct(wandb.init(dir=path, mode="offline", settings=quietly))
    start = time.perf_counter() - began
    if name == "offline":
        time.sleep(SETTLED)  # its process comes up beside training, which a long run does not notice
    up = of_processes() - before
    pieces = build(config)
    flow = GradientFlow(clipped=False, instruments=config.instruments.intervals())
    telling = Telling(flow, log)
    trainer = Trainer(
        max_epochs=-1,
        callbacks=[flow, telling],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(_learner(pieces, config))
    began, end = time.perf_counter(), 0.0
    if name == "offline":
        finish("completed")
        end = time.perf_counter() - began
        dismiss()  # so that each turn starts its own
    elif name == "wandb.log":
        wandb.finish()
        end = time.perf_counter() - began
        wandb.teardown()
    took = {"wall": telling.wall, "cpu": telling.cpu, "other": telling.other}
    return {**took, "start": start, "end": end, "up": up}


def _spread(ratios: list[float], form: str) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:{form}} ({low:{form}}–{high:{form}})"


if __name__ == "__main__":
    main()
