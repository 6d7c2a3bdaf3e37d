"""What `gradflow report` of a sweep costs, in seconds and in megabytes: whole processes, from typing to the prompt.

    python benchmarks/report.py [--runs 150 10000 --repeats 3]

For each number of runs a folder is made of synthetic records as gradflow writes them: 40 recipes at 5 depths, with so
many seeds as it takes, a plan of real configs, learning curves, and the gradient of every block with noise in every
digit, which nothing can compress away. The first repeat draws the pictures too; those after it find them drawn from the
same records. `table` of the same folder is measured beside it, and reading `boot` and a part from `--serve`.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gradflow.runs.compose import composer
from gradflow.runs.identity import labels, run_id, title
from gradflow.runs.planfile import Plan, PlannedRun, write_plan
from gradflow.runs.record import encoded
from gradflow.runs.series import GRADFLOW, METRICS

ACTIVATIONS, INITS = ("relu", "tanh", "sigmoid", "gelu", "elu"), ("he_normal", "glorot_uniform")
NORMS, SKIPS, DEPTHS = ("none", "batch"), ("none", "preact_residual"), (5, 10, 20, 30, 50)
STEPS = 1000
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, where it is there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[150, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="make the records here and leave them there")
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for count in args.runs:
        folder = args.keep or Path(tempfile.mkdtemp(prefix="gradflow-report-"))
        try:
            measure(make(folder / str(count), count), count, args.repeats)
        finally:
            if args.keep is None:
                shutil.rmtree(folder)


def measure(sweep: Path, count: int, repeats: int) -> None:
    gradflow = [sys.executable, "-m", "gradflow"]
    for name, words in (("table", ["table", str(sweep)]), ("report", ["report", str(sweep)])):
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run([*gradflow, *words], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        first = f"; the first {seconds[0]:.2f}" if name == "report" else ""
        rest = seconds[1:] if name == "report" and repeats > 1 else seconds
        print(f"{statistics.median(rest):7.2f} s  {name} of {count} runs ({min(rest):.2f} … {max(rest):.2f}{first})")
    print(f"{(sweep / 'report.html').stat().st_size / 1e6:7.2f} MB report.html of {count} runs")
    serve(gradflow, sweep, count)


def serve(gradflow: Sequence[str], sweep: Path, count: int) -> None:
    began = time.perf_counter()
    words = [*gradflow, "report", str(sweep), "--serve", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        print(f"{time.perf_counter() - began:7.2f} s  until {count} runs are served")
        for name in ("", "boot", "part/runs", "part/table", "part/factors", "part/effects", "part/details-0"):
            began = time.perf_counter()
            asked = urllib.request.Request(url + name, headers={"Accept-Encoding": "gzip"})
            with urllib.request.urlopen(asked) as answer:
                content = answer.read()
            taken = time.perf_counter() - began
            sizes = f"{len(content) / 1e3:.0f} kB, unpacked {len(gzip.decompress(content)) / 1e3:.0f} kB"
            print(f"{taken:7.2f} s  GET /{name}: {sizes}")
        process.terminate()


def make(folder: Path, count: int) -> Path:
    """A sweep of `count` runs, all done but one in 50, which failed; the sweep's folder."""
    if (folder / "sweeps" / "many" / "plan.json").exists():
        return folder / "sweeps" / "many"
    runs, planned, random = folder / "runs", [], np.random.default_rng(0)
    cells = list(itertools.product(DEPTHS, ACTIVATIONS, INITS, NORMS, SKIPS))
    with composer() as compose:
        recipes = {}
        for activation, init, norm, skip in itertools.product(ACTIVATIONS, INITS, NORMS, SKIPS):
            words = [f"activation={activation}", f"init={init}", f"norm={norm}", f"skip={skip}"]
            recipes[activation, init, norm, skip] = words, compose.config([*words, f"trainer.max_steps={STEPS}"])
    for i in range(count):
        seed, cell = divmod(i, len(cells))
        depth, *recipe = cells[cell]
        words, config = recipes[tuple(recipe)]
        config = config.model_copy(update={"depth": depth, "seed": seed})
        key, said = run_id(config), labels(config)
        typed = [*words, f"depth={depth}", f"seed={seed}", f"trainer.max_steps={STEPS}"]
        planned.append(PlannedRun(key, typed, said, config.model_dump()))
        write(runs / key, key, said, typed, config.model_dump(), "failed" if i % 50 == 49 else "completed", random)
    write_plan(folder / "sweeps" / "many", Plan("many", "gradflow sweep 'seed=range(50)'", runs, planned))
    return folder / "sweeps" / "many"


def write(
    path: Path, key: str, said: dict[str, Any], typed: list[str], config: Any, state: str, random: np.random.Generator
) -> None:
    path.mkdir(parents=True)
    depth = int(said["depth"])
    slope = random.normal(-0.02, 0.02)
    shared = {"run_id": key, "state": state, "title": title(said), "labels": said}
    status = {"attempt": 1, "host": "node7", "heartbeat": 1.7e9, "step": STEPS, "total": STEPS, "group": "many"}
    error = "Traceback (most recent call last):\n" + "  a line of it\n" * 40 + "RuntimeError: out of memory"
    whole = {**shared, **status, "error": error if state == "failed" else None}
    (path / "status.json").write_bytes(encoded(whole))
    (path / "overrides.yaml").write_text("".join(f"- {word}\n" for word in typed))
    (path / "config.yaml").write_text(yaml.dump(config, Dumper=DUMPER))
    packages = dict.fromkeys(("gradflow", "torch", "lightning", "numpy", "wandb"), "1.2.3")
    around = {"python": "3.11.7", "packages": packages, "platform": "Linux", "cpu": "a processor", "cores": 2}
    (path / "environment.json").write_bytes(encoded({**around, "code": {"commit": "0" * 40, "dirty": False}}))
    line = [slope * (depth - 1 - block) for block in range(depth)]
    said_by_theory = {
        "applies": True,
        "why_not": None,
        "log10_delta": line,
        "log10_grad": line,
        "band": None,
        "cures": [],
    }
    (path / "prediction.json").write_bytes(encoded(said_by_theory))
    curves(path, random)
    gradients(path, depth, slope, random)
    if state == "failed":
        return
    accuracy = float(np.clip(0.97 + 3 * slope + random.normal(0, 0.01), 0.1, 1))
    figures = {"test/accuracy": accuracy, "test/loss": 1 - accuracy, "val/accuracy": accuracy, "val/loss": 1 - accuracy}
    cost = {"device": "cpu", "hardware": "a processor", "attempts": 1, "train_seconds": float(random.uniform(20, 60))}
    cost |= {
        "steps_per_second": 25.0,
        "clock": [[s, s / 25] for s in range(100, STEPS + 1, 100)],
        "parameters": 5000 * depth,
    }
    verdict = "vanishing" if slope < -0.04 else "healthy"
    sign = {"verdict": verdict, "name": "gradient_ratio", "what": "gradient ratio first ÷ last block"}
    sign |= {"value": 10.0 ** (slope * depth), "threshold": 0.001, "where": "blocks.00 ÷ blocks.49"}
    result = {
        **shared,
        **{"steps": STEPS, "diverged_at": None, "metric": "test/accuracy", "larger_is_better": True, "chance": 0.1},
        **{"test_size": 360, "metrics": figures, "gradient": {"ratio": 10.0 ** (slope * depth), "steps": 50}},
        **{"verdict": verdict, "signs": [sign] if verdict != "healthy" else [], "cost": cost},
    }
    (path / "result.json").write_bytes(encoded(result))


def curves(path: Path, random: np.random.Generator) -> None:
    train, val = np.arange(10, STEPS + 1, 10), np.arange(100, STEPS + 1, 100)
    falls = np.exp(-train / 200) * random.uniform(0.9, 1.1, len(train))
    parts = [
        ("train", "loss", train, falls),
        ("val", "loss", val, falls[9::10]),
        ("val", "accuracy", val, 1 - falls[9::10]),
    ]
    columns = {
        "step": np.concatenate([steps for *_, steps, _ in parts]),
        "epoch": np.zeros(sum(len(steps) for *_, steps, _ in parts), dtype=np.int32),
        "split": [split for split, _, steps, _ in parts for _ in steps],
        "name": [name for _, name, steps, _ in parts for _ in steps],
        "value": np.concatenate([values for *_, values in parts]),
    }
    pq.write_table(pa.table(columns, schema=METRICS), path / "metrics.parquet", compression="zstd")


def gradients(path: Path, depth: int, slope: float, random: np.random.Generator) -> None:
    pieces = []
    for quantity, every in (("grad_norm", 20), ("delta_norm", 50)):
        step, block = (
            each.ravel() for each in np.meshgrid(np.arange(0, STEPS, every), np.arange(depth), indexing="ij")
        )
        value = 10.0 ** (slope * (depth - 1 - block) + random.normal(0, 0.1, len(step)))
        columns = {"step": step, "block": block.astype(np.int32), "name": [f"blocks.{b:02d}" for b in block]}
        columns |= {"time": pa.nulls(len(step), pa.int32()), "quantity": [quantity] * len(step), "value": value}
        pieces.append(pa.table(columns, schema=GRADFLOW))
    pq.write_table(pa.concat_tables(pieces).unify_dictionaries(), path / "gradflow.parquet", compression="zstd")


if __name__ == "__main__":
    main()
