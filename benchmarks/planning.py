"""What planning costs: seconds, memory and cells a second of large grids, each planned in a process of its own.

    python benchmarks/planning.py [NAME ...]

Every cell is composed, checked, and given its id; each network that a grid has is put together once and a batch passes
through it; operations and memory of every run are estimated; the plan is written, and read back. Then the same words
are typed again, which takes the plan as it is.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ACTIVATIONS = "activation=relu,tanh,sigmoid,gelu,elu"
GRIDS = {
    # 25 networks; learning rates, seeds and initialisers change no shape
    "25 networks": [
        *("model=mlp", ACTIVATIONS, "norm=none,batch,layer,rms,weight_norm", "init=he_normal,orthogonal"),
        *("optimizer.lr=0.01,0.02,0.05,0.1,0.2", "seed=range(40)"),
    ],
    "1,050 networks": [
        *("activation=glob(*,exclude=[crelu,maxout,swiglu,rrelu,prelu,celu])", "norm=none,batch,layer,rms,weight_norm"),
        *("skip=none,residual", "depth=range(2,9)", "optimizer.lr=0.01,0.03,0.1", "seed=range(3)"),
    ],
    "study": ["+sweep=study", "task=digits"],  # 234 networks of 30 and 100 blocks
}


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(GRIDS[sys.argv[2]])))
        return
    names = sys.argv[1:] or list(GRIDS)
    print(f"{'grid':<16}{'cells':>7}{'seconds':>9}{'CPU s':>8}{'cells/s':>9}{'peak MB':>9}{'read s':>8}{'again s':>9}")
    for name in names:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name], stdout=subprocess.PIPE, text=True, check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        m = json.loads(done.stdout)
        print(
            f"{name:<16}{m['cells']:>7}{m['seconds']:>9.1f}{m['cpu']:>8.1f}{m['cells'] / m['seconds']:>9.0f}"
            f"{m['peak'] / 1e6:>9.0f}{m['read']:>8.2f}{m['again']:>9.2f}   plan.json {m['size'] / 1e6:.1f} MB"
        )


def measure(words: list[str]) -> dict[str, float]:
    """One grid, from typed words to a written plan; imports are in it."""
    began, cpu = time.perf_counter(), time.process_time()
    from gradflow.runs.compose import composer
    from gradflow.runs.planfile import PLAN, read_plan
    from gradflow.sweeps.launch import prepare

    with tempfile.TemporaryDirectory() as folder, composer() as compose:
        asked = [*words, f"paths.runs={folder}/runs", f"paths.sweeps={folder}/sweeps"]
        prepared = prepare(compose, asked, "again")
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        began = time.perf_counter()
        plan = read_plan(prepared.folder)
        read = time.perf_counter() - began
        began = time.perf_counter()
        prepare(compose, asked, "again")
        again = time.perf_counter() - began
        size = Path(prepared.folder / PLAN).stat().st_size
    assert plan is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        **{"cells": len(plan.runs), "seconds": seconds, "cpu": cpu, "peak": float(peak)},
        **{"read": read, "again": again, "size": float(size)},
    }


if __name__ == "__main__":
    main()
