"""What `gradflow status` of a large sweep costs: whole processes, from typing to the prompt.

    python benchmarks/status.py [--runs 10000 --running 500 --repeats 5]

Two folders are made of synthetic records as gradflow writes them, with a plan of real configs: in one all runs are done
but a few, in the other all are still to come but those that are under way. Each command is started anew for every
repeat, in turn with `python -c pass` and with the import of torch, which a status must not pay for; the figures are
medians, with the smallest and the largest beside them.
"""

from __future__ import annotations

import argparse
import os
import platform
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

STATES = ("completed", "completed", "completed", "completed", "completed", "completed", "completed", "diverged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 10_000), ("running", 500), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gradflow-status-"))
    try:
        measure(args, folder)
    finally:
        shutil.rmtree(folder)


def measure(args: argparse.Namespace, folder: Path) -> None:
    done = make(folder / "done", args.runs, done=args.runs - 20, running=5)
    begun = make(folder / "begun", args.runs, done=0, running=args.running)
    python, status = [sys.executable], [sys.executable, "-m", "gradflow", "status"]
    contenders = {
        "python -c pass": [*python, "-c", "pass"],
        "python -c 'import torch'": [*python, "-c", "import torch"],
        f"status of {args.runs} runs, nearly all done": [*status, str(done)],
        "status of their folder of records, without the plan": [*status, str(done.parent.parent / "runs")],
        f"status of {args.runs} runs, {args.running} running, none done": [*status, str(begun)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(args.repeats):
        for name, words in contenders.items():
            began = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for name, found in seconds.items():
        print(f"{statistics.median(found):6.2f} s  ({min(found):.2f} … {max(found):.2f})  {name}")


def make(folder: Path, count: int, done: int, running: int) -> Path:
    """A sweep of `count` runs, the first of them done, the next running, the others to come; the sweep's folder."""
    runs, planned = folder / "runs", []
    with composer() as compose:
        config = compose.config(["depth=20", "trainer.max_steps=1000"])
    now = time.time()
    for i in range(count):
        one = config.model_copy(update={"seed": i})
        key, words = run_id(one), labels(one)
        planned.append(PlannedRun(key, ["depth=20", f"seed={i}"], words, one.model_dump()))
        if i >= done + running:
            continue
        state = STATES[i % len(STATES)] if i < done else "running"
        status = {
            **{"run_id": key, "state": state, "attempt": 1, "title": title(words), "group": "many", "host": "node7"},
            **{"pid": 1234, "job_id": None, "started": now - 60.0 - i % 600, "heartbeat": now - i % 60},
            **{"step": 1000 if i < done else 400, "total": 1000, "error": None, "labels": words},
        }
        (runs / key).mkdir(parents=True)
        (runs / key / "status.json").write_bytes(encoded(status))
        if i < done:
            figures = {"test/accuracy": 0.5, "test/loss": 1.0, "val/accuracy": 0.5, "val/loss": 1.0}
            cost = {"train_seconds": 60.0, "clock": [[step, step / 20] for step in range(0, 1001, 50)]}
            result = {"run_id": key, "state": state, "labels": words, "metrics": figures, "cost": cost}
            (runs / key / "result.json").write_bytes(encoded(result))
    write_plan(folder / "sweeps" / "many", Plan("many", "gradflow sweep 'seed=range(10000)'", runs, planned))
    return folder / "sweeps" / "many"


if __name__ == "__main__":
    main()
