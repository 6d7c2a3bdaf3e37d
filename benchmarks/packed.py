"""How much sooner a sweep of small networks is done packed: whole wall time, start-up, records and table included.

    python benchmarks/packed.py [--runs 128 --depth 10 --width 64 --batch 64 --steps 500 --shell 4 --repeats 1]

The same runs (MLPs on digits, seeds 0, 1, …, no W&B, the default instruments unless `--instruments` says otherwise)

- one process each, one after another, as a loop in a shell: `gradflow train seed=K`. Only so many of them as `--shell`
  says are made; their mean is taken times the number of runs;
- by Hydra's own multirun and its joblib launcher, two processes, if `--joblib` says of how many runs (its time is then
  that many's, times the number of runs by that many);
- by `gradflow sweep` with two warm workers of one thread each;
- by `gradflow sweep launcher=packed` with two such workers.

Ratios are of wall times in the same turn; with several turns the median, the smallest and the largest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def gradflow(folder: Path, *words: str) -> float:
    """Seconds that a command takes, its records in a folder of its own."""
    environment = {**os.environ, "GRADFLOW_RUNS_DIR": f"{folder}/runs", "GRADFLOW_SWEEPS_DIR": f"{folder}/sweeps"}
    began = time.monotonic()
    command = [sys.executable, "-m", "gradflow", *words]
    done = subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - began


def multirun(folder: Path, *words: str) -> float:
    """The same by Hydra's joblib launcher, a plain Hydra application."""
    environment = {**os.environ, "GRADFLOW_RUNS_DIR": f"{folder}/runs", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--multirun", *words]
    began = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    count = len(list(Path(folder).glob("runs/*/result.json")))
    if done.returncode or not count:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("runs", 128), ("depth", 10), ("width", 64), ("batch", 64), ("steps", 500), ("shell", 4), ("repeats", 1))
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--joblib", type=int, default=0)
    parser.add_argument("--instruments", default="cheap")
    args = parser.parse_args()
    words = [f"depth={args.depth}", f"width={args.width}", f"task.batch_size={args.batch}", "hardware=cpu"]
    words += [f"trainer.max_steps={args.steps}", "logger.mode=disabled", f"instruments={args.instruments}"]
    grid = [*words, f"seed=range({args.runs})", "-j", "2"]
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"seed=range({args.joblib})"]
    taken: dict[str, list[float]] = {"shell": [], "joblib": [], "two workers": [], "packed": []}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            alone = [gradflow(Path(folder), "train", *words, f"seed={i}") for i in range(args.shell)]
        taken["shell"].append(args.runs * sum(alone) / len(alone) if alone else float("nan"))
        with tempfile.TemporaryDirectory() as folder:
            many = multirun(Path(folder), *words, *joblib) if args.joblib else float("nan")
        taken["joblib"].append(many * args.runs / max(1, args.joblib))
        for name, more in (("two workers", []), ("packed", ["launcher=packed"])):
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(gradflow(Path(folder), "sweep", *grid, *more))
    print(f"{args.runs} MLPs, depth {args.depth}, width {args.width}, batch {args.batch}, {args.steps} steps, ", end="")
    print(f"instruments={args.instruments}")
    print("| how | seconds | times as long as packed (min–max) |\n| --- | ---: | ---: |")
    for name, seconds in taken.items():
        ratios = [a / b for a, b in zip(seconds, taken["packed"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {name} | {statistics.median(seconds):.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
