"""What launching costs: many tiny runs by `gradflow sweep`, by Hydra's launchers, and by one process per run.

    python benchmarks/launchers.py [--runs 100] [--few 100] [--jobs 2]

Every contender trains the same tiny networks (two blocks of 16 units on digits, 50 steps, nothing logged), each time
with records of its own, so that nothing is reused. 'beyond training' is the wall-clock time per run less what the run's
own record says it trained, shared out over the workers. `--few` is the number of runs for the contenders that start a
process per run, if a smaller one will do: a process costs the same each time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ("depth=2", "width=16", "trainer.max_steps=50", "hardware=cpu", "logger.mode=disabled", "instruments=none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 100), ("few", None), ("jobs", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    few = args.few or args.runs
    hydra = [sys.executable, ROOT / "scripts" / "train.py", "--multirun"]
    gradflow = [sys.executable, "-m", "gradflow"]
    submitit = ["hydra/launcher=submitit_local", f"hydra.launcher.cpus_per_task={1}", "hydra.launcher.timeout_min=10"]
    contenders: dict[str, tuple[int, int, list[list[str | Path]]]] = {
        "gradflow sweep, launcher=local": (args.runs, args.jobs, [[*gradflow, "sweep", "-j", str(args.jobs)]]),
        "Hydra basic (one process for all)": (args.runs, 1, [hydra]),
        "Hydra joblib": (
            args.runs,
            args.jobs,
            [[*hydra, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={args.jobs}"]],
        ),
        "Hydra submitit-local": (few, few, [[*hydra, *submitit]]),
        "one process per run, shell loop": (few, 1, [[*gradflow, "train"]] * few),
    }
    first = None
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':<36}  runs   wall s  s/run  trained s/run  beyond training s/run  ratio")
    for name, (runs, workers, commands) in contenders.items():
        wall, trained = measure(commands, runs)
        beyond = wall / runs - trained / min(workers, os.cpu_count() or 1)
        first = first or beyond
        print(
            f"{name:<36} {runs:>5} {wall:>8.1f} {wall / runs:>6.2f} {trained:>14.3f} {beyond:>22.3f} "
            f"{beyond / first:>6.1f}",
            flush=True,
        )
    print(f"command: {shlex.join(['python', 'benchmarks/launchers.py', *sys.argv[1:]])}")


def measure(commands: list[list[str | Path]], runs: int) -> tuple[float, float]:
    """Wall-clock seconds of all, and the median seconds that a run's record says it trained."""
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            **{"GRADFLOW_RUNS_DIR": f"{folder}/runs", "GRADFLOW_SWEEPS_DIR": f"{folder}/sweeps"},
            "OMP_NUM_THREADS": "1",
        }
        began = time.perf_counter()
        for i, command in enumerate(commands):
            seeds = f"seed=range({runs})" if len(commands) == 1 else f"seed={i}"
            words = [*map(str, command), *TINY, seeds]
            subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        results = [json.loads(file.read_text()) for file in Path(folder).glob("runs/*/result.json")]
    assert len(results) == runs, f"{len(results)} of {runs} runs have a result"
    return wall, statistics.median(result["cost"]["train_seconds"] for result in results)


if __name__ == "__main__":
    main()
