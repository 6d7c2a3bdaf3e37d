"""What start-up costs: whole commands from typing to the prompt, and what one more run costs in a worker that is warm.

    python benchmarks/startup.py [--repeats 3]

Each command is a process of its own with one CPU thread. Its records go to a temporary folder; a run that trains has a
new one each time. 'status' is of an empty folder, which it refuses in a line, and of a sweep of two runs made before;
'table' is of the same sweep. 'train' is all of a run of one step, so its first step comes before that; the default
instruments watch it. The next run in a warm worker is a tenth of what a sweep of 12 one-step runs takes longer than a
sweep of 2, each with one worker and no instrument. That is a small difference of large times, and a busy machine drowns
it (it may come out below 0); the row after it is steadier: from one run's start to the next's in the sweep of 12, as
their records have it, the median of the 11. The peers are Python's own start and bare imports. The commands take turns,
so that whatever else the machine does falls on all of them; the sweep made before has warmed the disk's cache. Figures
are medians with the smallest and largest, and ratios to `import torch` of the same turn. 'Asked for' are the bars that
the project has set itself; nothing is asserted.
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
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

ONE_STEP = ("trainer.max_steps=1", "hardware=cpu", "logger.mode=disabled")
FEW, MANY = 2, 12  # runs of the sweeps that are compared
TORCH = "python -c 'import torch'"
MARGINAL = "next run in a warm worker"
BETWEEN = "the same, from start to start in the records"
BARS = {
    "gradflow --help": 0.3,
    "gradflow status, empty folder": 0.6,
    "gradflow status, 2 runs": 0.6,
    "gradflow table, 2 runs": 0.6,
    "gradflow train depth=x (a config error)": 1.0,
    "gradflow train, one step": 6.0,
    MARGINAL: 0.15,
    BETWEEN: 0.15,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gradflow-startup-") as folder:
        seconds = measure(args.repeats, Path(folder))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{versions}, one thread, {args.repeats} repeats\n")
    print("| what | seconds (min–max) | ratio to `import torch` (min–max) | asked for |\n| --- | ---: | ---: | ---: |")
    for name, took in seconds.items():
        ratios = [a / b for a, b in zip(took, seconds[TORCH], strict=True)]
        bar = f"{BARS[name]:g}" if name in BARS else ""
        print(f"| {name} | {spread(took)} | {spread(ratios)} | {bar} |")
    print(f"\ncommand: {shlex.join(['python', 'benchmarks/startup.py', *sys.argv[1:]])}")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def measure(repeats: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of each row, turn by turn."""
    empty = folder / "empty"
    empty.mkdir()
    sweep(folder / "made before", FEW)
    (made,) = (folder / "made before" / "sweeps").iterdir()
    python, gradflow = [sys.executable, "-c"], [sys.executable, "-m", "gradflow"]
    # the words, and the code that they leave with
    commands: dict[str, tuple[list[str], int]] = {
        "python -c pass": ([*python, "pass"], 0),
        TORCH: ([*python, "import torch"], 0),
        "python -c 'import lightning.pytorch'": ([*python, "import lightning.pytorch"], 0),
        "python -c 'import gradflow.lightning'": ([*python, "import gradflow.lightning"], 0),
        "gradflow --help": ([*gradflow, "--help"], 0),
        "gradflow status, empty folder": ([*gradflow, "status", str(empty)], 2),
        "gradflow status, 2 runs": ([*gradflow, "status", str(made)], 0),
        "gradflow table, 2 runs": ([*gradflow, "table", str(made)], 0),
        "gradflow train depth=x (a config error)": ([*gradflow, "train", "depth=x"], 2),
        "gradflow train, one step": ([*gradflow, "train", *ONE_STEP], 0),
    }
    few, many = (f"gradflow sweep -j 1, {runs} one-step runs" for runs in (FEW, MANY))
    seconds: dict[str, list[float]] = {name: [] for name in (*commands, few, many, MARGINAL, BETWEEN)}
    for turn in range(repeats):
        took = {}
        for place, (name, (words, code)) in enumerate(commands.items()):
            took[name] = timed(folder / f"{turn} {place}", words, code)
        took[few], took[many] = (sweep(folder / f"{turn} sweep of {runs}", runs) for runs in (FEW, MANY))
        took[MARGINAL] = (took[many] - took[few]) / (MANY - FEW)
        took[BETWEEN] = between(folder / f"{turn} sweep of {MANY}")
        for name, value in took.items():
            seconds[name].append(value)
    return seconds


def sweep(folder: Path, runs: int) -> float:
    """Seconds that a sweep of one-step runs takes with one worker."""
    words = ["sweep", "depth=2", f"seed=range({runs})", *ONE_STEP, "instruments=none", "-j", "1"]
    took = timed(folder, [sys.executable, "-m", "gradflow", *words], 0)
    results = len(list(folder.glob("runs/*/result.json")))
    assert results == runs, f"{results} of {runs} runs have a result"
    return took


def between(folder: Path) -> float:
    """Median seconds from one run's start to the next's."""
    starts = sorted(json.loads(file.read_text())["started"] for file in folder.glob("runs/*/status.json"))
    return statistics.median(b - a for a, b in pairwise(starts))


def timed(folder: Path, words: list[str], code: int) -> float:
    """Seconds that a command takes, its records in a folder of its own."""
    folders = {"GRADFLOW_RUNS_DIR": f"{folder}/runs", "GRADFLOW_SWEEPS_DIR": f"{folder}/sweeps"}
    began = time.perf_counter()
    done = subprocess.run(words, env={**os.environ, **folders, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode != code:
        raise SystemExit(f"{shlex.join(words)}: left with {done.returncode}\n{done.stdout}{done.stderr}")
    return took


if __name__ == "__main__":
    main()
