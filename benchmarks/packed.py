"""How much sooner a sweep of small networks is done packed: whole wall time, start-up, records and table included.

    python benchmarks/packed.py [--runs 128 --depth 10 --width 64 --batch 64 --steps 500 --shell 4 --repeats 1]
    python benchmarks/packed.py --hardware gpu --jobs 1 --pack 128 32 --worker 16 --shell 2 --joblib 16

The same runs (MLPs on digits, seeds 0, 1, …, no W&B, the default instruments unless `--instruments` says otherwise)

- one process each, one after another, as a loop in a shell: `gradflow train seed=K`. Only so many of them as `--shell`
  says are made; their mean is taken times the number of runs;
- by Hydra's own multirun and its joblib launcher, two processes, if `--joblib` says of how many runs (its time is then
  that many's, times the number of runs by that many);
- by `gradflow sweep` with `--jobs` warm workers of one thread each; with one worker and `--worker` only so many runs
  are made, and the others are taken to begin as long after each other as these did (mean), by their records;
- by `gradflow sweep launcher=packed` with as many such workers, once for each size of `--pack`.

Ratios are of wall times in the same turn, to packs of the first size; with several turns the median, the smallest and
the largest. Below, by the records of the last turn, what a sweep took until its first run began, from then until the
last result was written, and after that (table and page).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Swept:
    """Seconds of a sweep: all; until its first run began, its runs, what came after; from one run's start to the next's
    (mean)."""

    all: float
    before: float
    runs: float
    after: float
    between: float


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


def sweep(*words: str) -> Swept:
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.time()
        took = gradflow(folder, "sweep", *words)
        records = sorted(folder.glob("runs/*/result.json"), key=lambda file: file.stat().st_mtime)
        starts = sorted(json.loads(file.with_name("status.json").read_text())["started"] for file in records)
        last = records[-1].stat().st_mtime
        logs = {line for log in folder.glob("runs/*/log.txt") for line in log.read_text().splitlines()}
    for line in sorted(line for line in logs if "take turns" in line):
        print(line, file=sys.stderr)
    between = (starts[-1] - starts[0]) / max(1, len(starts) - 1)
    return Swept(took, starts[0] - began, last - starts[0], took - (last - began), between)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("runs", 128), ("depth", 10), ("width", 64), ("batch", 64), ("steps", 500), ("shell", 4), ("repeats", 1))
    for name, default in (*sizes, ("jobs", 2), ("joblib", 0), ("worker", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pack", type=int, nargs="+", default=[64], help="runs in a pack at most")
    parser.add_argument("--hardware", default="cpu", help="a file of conf/hardware")
    parser.add_argument("--instruments", default="cheap")
    args = parser.parse_args()
    if args.worker and args.jobs > 1:
        parser.error("--worker is for --jobs 1: several workers' starts say nothing of one's pace")
    words = [f"depth={args.depth}", f"width={args.width}", f"task.batch_size={args.batch}"]
    words += [f"hardware={args.hardware}", f"trainer.max_steps={args.steps}", "logger.mode=disabled"]
    words.append(f"instruments={args.instruments}")
    all_of_them = f"seed=range({args.runs})"
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"seed=range({args.joblib})"]
    packed = [f"packs of {size}" for size in args.pack]
    warm = f"{args.jobs} warm worker{'s' if args.jobs > 1 else ''}"
    taken: dict[str, list[float]] = {name: [] for name in ("shell", "joblib", warm, *packed)}
    swept: dict[str, Swept] = {}

    def note(name: str, seconds: float) -> None:
        taken[name].append(seconds)
        if not math.isnan(seconds):
            print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)

    for _ in range(args.repeats):
        for name, size in zip(packed, args.pack, strict=True):
            more = ["-j", str(args.jobs), "launcher=packed", f"launcher.pack={size}"]
            swept[name] = sweep(*words, all_of_them, *more)
            note(name, swept[name].all)
        few = args.worker or args.runs
        swept[warm] = sweep(*words, f"seed=range({few})", "-j", str(args.jobs))
        note(warm, swept[warm].all + (args.runs - few) * swept[warm].between)
        with tempfile.TemporaryDirectory() as folder:
            alone = [gradflow(Path(folder), "train", *words, f"seed={i}") for i in range(args.shell)]
        note("shell", args.runs * sum(alone) / len(alone) if alone else float("nan"))
        with tempfile.TemporaryDirectory() as folder:
            many = multirun(Path(folder), *words, *joblib) if args.joblib else float("nan")
        note("joblib", many * args.runs / max(1, args.joblib))
    print(f"{args.runs} MLPs, depth {args.depth}, width {args.width}, batch {args.batch}, {args.steps} steps, ", end="")
    print(f"instruments={args.instruments}, hardware={args.hardware}")
    print(f"| how | seconds | times as long as {packed[0]} (min–max) |\n| --- | ---: | ---: |")
    for name, seconds in taken.items():
        if math.isnan(seconds[0]):
            continue
        ratios = [a / b for a, b in zip(seconds, taken[packed[0]], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {name} | {statistics.median(seconds):.1f} | {spread} |", flush=True)
    print("\n| sweep | seconds | before its first run | runs | after its last | from start to start |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, each in swept.items():
        parts = (each.all, each.before, each.runs, each.after)
        print(f"| {name} | {' | '.join(f'{part:.1f}' for part in parts)} | {each.between:.3f} |")
    print(f"\ncommand: {shlex.join(['python', 'benchmarks/packed.py', *sys.argv[1:]])}")


if __name__ == "__main__":
    main()
