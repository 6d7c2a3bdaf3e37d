"""What `gradflow table` costs: whole processes, from typing to the prompt.

    python benchmarks/tables.py [--runs 150 10000 --repeats 5]

For each number of runs a sweep is made of synthetic records as gradflow writes them: two tasks, five depths, five
activations, with and without normalisation, and as many seeds as that leaves; a few runs have diverged, failed or are
missing. Each command is started anew for every repeat, in turn with `python -c pass`; the figures are medians, with the
smallest and the largest beside them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gradflow.runs.compose import composer
from gradflow.runs.identity import labels, run_id, title
from gradflow.runs.planfile import Plan, PlannedRun, write_plan
from gradflow.runs.record import encoded

TASKS = {"digits": 0.1, "mnist": 0.1}
GRID = (tuple(TASKS), (2, 5, 10, 20, 40), ("sigmoid", "tanh", "relu", "gelu", "selu"), ("none", "batch"))
OPTIONS = {
    "the default": [],
    "--rows task,depth --cols activation,norm": ["--rows", "task,depth", "--cols", "activation,norm"],
    "the same, --stat iqm": ["--rows", "task,depth", "--cols", "activation,norm", "--stat", "iqm"],
    "--kind pairs --by activation": ["--kind", "pairs", "--by", "activation"],
    "--kind aggregate": ["--kind", "aggregate"],
    "--kind ranks": ["--kind", "ranks"],
    "--kind profiles": ["--kind", "profiles"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[150, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for count in args.runs:
        folder = Path(tempfile.mkdtemp(prefix="gradflow-tables-"))
        try:
            measure(make(folder, count), count, args.repeats)
        finally:
            shutil.rmtree(folder)


def measure(sweep: Path, count: int, repeats: int) -> None:
    table = [sys.executable, "-m", "gradflow", "table", str(sweep)]
    contenders = {"python -c pass": [sys.executable, "-c", "pass"]}
    contenders |= {f"table of {count} runs: {name}": [*table, *options] for name, options in OPTIONS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, words in contenders.items():
            began = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    for name, found in seconds.items():
        print(f"{statistics.median(found):6.2f} s  ({min(found):.2f} … {max(found):.2f})  {name}", flush=True)


def make(folder: Path, count: int) -> Path:
    """A sweep of `count` runs: every cell of `GRID` with seeds 0, 1, …; the sweep's folder."""
    runs, planned = folder / "runs", []
    draw = random.Random(0)
    bases = {}
    with composer() as compose:
        for task, _, activation, norm in itertools.product(*GRID):
            words = [f"task={task}", f"activation={activation}", f"norm={norm}", "init=he_normal"]
            bases.setdefault((task, activation, norm), compose.config(words))
    cells = list(itertools.product(*GRID))
    for i in range(count):
        task, depth, activation, norm = cells[i % len(cells)]
        one = bases[task, activation, norm].model_copy(update={"seed": i // len(cells), "depth": depth})
        key, words = run_id(one), labels(one)
        planned.append(PlannedRun(key, [f"depth={depth}", f"seed={one.seed}"], words, one.model_dump()))
        fate = draw.random()
        if fate < 0.01:
            continue
        state = "failed" if fate < 0.02 else "diverged" if fate < 0.05 else "completed"
        record(runs / key, key, words, state, score(draw, depth, activation, norm))
    write_plan(folder / "sweeps" / "many", Plan("many", "gradflow sweep", runs, planned))
    return folder / "sweeps" / "many"


def score(draw: random.Random, depth: int, activation: str, norm: str) -> float:
    """Falls with depth, less with normalisation, and otherwise from one activation to the next."""
    loss = depth / (40 if norm == "none" else 120) * (1 + GRID[2].index(activation) / 5)
    return 0.1 + 0.85 * math.exp(-loss) * draw.uniform(0.9, 1.0)


def record(path: Path, key: str, words: dict[str, object], state: str, accuracy: float) -> None:
    status = {
        **{"run_id": key, "state": state, "attempt": 1, "title": title(words), "group": "many", "host": "node7"},
        **{"pid": 1234, "job_id": None, "started": 0.0, "heartbeat": 60.0, "step": 1000, "total": 1000},
        **{"error": "RuntimeError: no such neuron" if state == "failed" else None, "labels": words},
    }
    path.mkdir(parents=True)
    (path / "status.json").write_bytes(encoded(status))
    if state == "failed":
        return
    figures = {} if state == "diverged" else {"test/accuracy": accuracy, "test/loss": 1.0, "val/accuracy": accuracy}
    cost = {"train_seconds": 60.0, "clock": [[step, step / 20] for step in range(0, 1001, 50)]}
    result = {
        **{"run_id": key, "state": state, "labels": words, "steps": 1000, "metric": "test/accuracy", "chance": 0.1},
        **{"larger_is_better": True, "metrics": figures, "gradient": {"ratio": accuracy**9}, "cost": cost},
        **{"verdict": "diverged" if state == "diverged" else "healthy", "signs": []},
    }
    (path / "result.json").write_bytes(encoded(result))


if __name__ == "__main__":
    main()
