"""What an echo state network costs: gradflow's reservoir and read-out beside reservoirpy's.

    python benchmarks/echo_state.py [--units 500 1000 2000 --steps 2000 --repeats 5]

Both run the same matrices, drawn by reservoirpy (connectivity 0.1), over the same input: one sequence of `steps`, and
16 of a sixteenth as many each; then both fit a ridge regression of three outputs to the same states. reservoirpy
computes in float64 (its state is, whatever its matrices are), gradflow in float32 unless told otherwise; both are
shown. Read-outs are solved in float64. One CPU thread. The contenders take turns, so that whatever else the machine
does falls on all of them; figures are the median of the repeats, and the median of the ratios to reservoirpy of the
same turn, with the smallest and largest ratio beside it: below 1 is faster.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded, whose BLAS has threads of its own
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import reservoirpy
import torch
from reservoirpy import nodes
from reservoirpy.mat_gen import uniform

from gradflow.models import activations
from gradflow.models.reservoir import Reservoir
from gradflow.models.ridge import Ridge

SEQUENCES, FEATURES, OUTPUTS, REGULARIZATION = 16, 3, 3, 1e-2
THEIRS = "reservoirpy float64"
Contenders = dict[str, Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.steps} steps, {args.repeats} repeats, one thread")
    versions = f"torch {torch.__version__}, reservoirpy {reservoirpy.__version__}, numpy {np.__version__}"
    print(f"{versions}, Python {platform.python_version()}")
    print("\n| units | what | contender | ms | ratio to reservoirpy (min–max) |\n| ---: | --- | --- | ---: | ---: |")
    for units in args.units:
        for what, contenders in cases(units, args.steps):
            report(units, what, measure(contenders, args.repeats))


def cases(units: int, steps: int) -> list[tuple[str, Contenders]]:
    generator = np.random.default_rng(0)
    node = nodes.Reservoir(units, sr=0.9, lr=0.7, rc_connectivity=0.1, bias=uniform, seed=0)
    one = generator.uniform(-1, 1, (1, steps, FEATURES))
    many = one.reshape(SEQUENCES, steps // SEQUENCES, FEATURES)
    node.run(one[0, :2])  # draws the matrices
    ours = {dtype: copied(node, dtype) for dtype in (torch.float32, torch.float64)}
    found: list[tuple[str, Contenders]] = []
    for what, x in (("one sequence", one), (f"{SEQUENCES} sequences", many)):
        # a race between two that compute different things would mean nothing
        np.testing.assert_allclose(ours[torch.float64](torch.from_numpy(x)).numpy(), their_run(node, x), atol=1e-10)
        contenders: Contenders = {THEIRS: partial(their_run, node, x)}
        contenders |= {f"gradflow {str(d)[6:]}": partial(r, torch.from_numpy(x).to(d)) for d, r in ours.items()}
        found.append((what, contenders))
    states, targets = their_run(node, one)[0], generator.standard_normal((steps, OUTPUTS))
    fits: Contenders = {
        THEIRS: partial(their_fit, states, targets),
        "gradflow float64": partial(our_fit, torch.from_numpy(states), torch.from_numpy(targets)),
    }
    np.testing.assert_allclose(fits["gradflow float64"](), fits[THEIRS](), rtol=1e-5, atol=1e-6)
    return [*found, ("read-out", fits)]


def copied(node: nodes.Reservoir, dtype: torch.dtype) -> Reservoir:
    ours = Reservoir(FEATURES, node.units, activations.tanh(), leak=node.lr).to(dtype)
    for name, matrix in (("recurrent", node.W), ("input_weight", node.Win), ("bias", node.bias)):
        dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
        getattr(ours, name).copy_(torch.from_numpy(dense))
    return ours


def their_run(node: nodes.Reservoir, x: np.ndarray) -> np.ndarray:
    runs = []
    for sequence in x:
        node.reset()
        runs.append(node.run(sequence))
    return np.stack(runs)


def their_fit(states: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.asarray(nodes.Ridge(ridge=REGULARIZATION).fit(states, targets).Wout.T)


def our_fit(states: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    ridge = Ridge(states.shape[1], targets.shape[1])
    ridge.add(states, targets)
    return np.asarray(ridge.solve(REGULARIZATION)[0].numpy())


def measure(contenders: Contenders, repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def report(units: int, what: str, seconds: dict[str, list[float]]) -> None:
    base = seconds[THEIRS]
    for name, took in seconds.items():
        ratios = [a / b for a, b in zip(took, base, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {units} | {what} | {name} | {1000 * statistics.median(took):.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
