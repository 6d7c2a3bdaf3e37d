"""Measured gradient by block beside the predicted line, for networks of 60 blocks of width 512 on CIFAR-10 inputs.

    python scripts/theory_figure.py [--out docs] [overrides]

Takes one training step of every network with three seeds (33 runs; what is there already is not trained again), and
writes theory.png, theory.svg and theory.md. Measured is ‖∂L/∂x_l‖ of every block's output in the first step, before
any update: the instrument `delta_norm`, read from the runs' records.
"""

from __future__ import annotations

import argparse
import string
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from gradflow.results.pictures import style
from gradflow.results.pictures.gradient_by_block import (
    SIGNS,
    START,
    THEORY,
    Panel,
    draw_panel,
    limits,
    log10_mean,
    panel,
)
from gradflow.results.pictures.style import REFERENCE, WORDS, Room
from gradflow.runs.compose import composer
from gradflow.runs.config import Config
from gradflow.runs.identity import run_id
from gradflow.runs.record import load_json, read

SHARED = (
    *("task=cifar10", "model=mlp", "depth=60", "width=512", "logger.mode=disabled", "hardware.device=cpu"),
    *("instruments.measure=[grad_norm,delta_norm]", "instruments.every_n_steps=1"),
    *("trainer.max_steps=1", "trainer.val_every_n_steps=1", "trainer.log_every_n_steps=1"),
)
SEEDS = range(3)
COLUMNS = 4


@dataclass(frozen=True)
class Case:
    """A network: its name, and what is typed for it."""

    name: str
    overrides: tuple[str, ...]


def tanh(sigma_w2: float) -> Case:
    words = "activation=tanh", "init=mean_field", f"init.sigma_w2={sigma_w2}", "init.sigma_b2=0.05"
    return Case(f"tanh, $\\sigma_w^2={sigma_w2}$", words)


CASES = (
    *(tanh(sigma_w2) for sigma_w2 in (1.0, 1.5, 1.76, 2.0, 2.5)),
    Case("ReLU, He", ("activation=relu", "init=he_normal")),
    Case("ReLU, Glorot", ("activation=relu", "init=glorot_uniform")),
    Case("sigmoid, LeCun", ("activation=sigmoid", "init=lecun_normal")),
    Case("ReLU, He, batch norm", ("activation=relu", "init=he_normal", "norm=batch")),
    Case("pre-activation residual", ("activation=relu", "init=he_normal", "skip=preact_residual")),
    Case("the same, batch norm", ("activation=relu", "init=he_normal", "skip=preact_residual", "norm=batch")),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR")
    parser.add_argument("overrides", nargs="*", help="for all runs, e.g. paths.runs=/tmp/runs depth=20")
    options = parser.parse_args()
    panels = [measured(case, options.overrides) for case in CASES]
    options.out.mkdir(parents=True, exist_ok=True)
    depth = panels[0][0].start.shape[1]
    draw([found for found, _ in panels], depth, options.out / "theory")
    table = markdown(panels)
    (options.out / "theory.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    return 0


def measured(case: Case, overrides: list[str]) -> tuple[Panel, dict[str, Any]]:
    """The panel of a network's runs, which are trained where they are missing, and its prediction."""
    with composer() as compose:
        configs = [compose.config([*SHARED, *case.overrides, *overrides, f"seed={seed}"]) for seed in SEEDS]
    records = [read(trained(config)) for config in configs]
    found = panel(case.name, [record for record in records if record is not None])
    prediction = load_json(Path(configs[0].paths.runs) / run_id(configs[0]) / "prediction.json")
    if found is None or prediction is None:
        raise SystemExit(f"{case.name}: nothing on record")
    return found, prediction


def trained(config: Config) -> Path:
    from gradflow.runs.execute import execute
    from gradflow.runs.stop import Stop

    outcome = execute(config, [], Stop())
    if outcome.state not in ("completed", "done", "diverged"):
        raise SystemExit(f"{outcome.run_id}: {outcome.state} ({outcome.error})")
    return Path(config.paths.runs) / outcome.run_id


def draw(panels: list[Panel], depth: int, stem: Path) -> None:
    rows = -(-len(panels) // COLUMNS)
    room = Room(width=1.36, height=1.25, left=0.55, right=0.16, top=0.62, bottom=0.4, across=0.42, down=0.52)
    with rc_context({**WORDS, "font.size": 7}):
        figure, axes = style.panels(rows, COLUMNS, room, sharey=False)
        for letter, axis, found in zip(string.ascii_lowercase, axes.flat, panels, strict=False):
            draw_panel(axis, found)
            style.tidy(axis)
            limits(axis)
            axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axis.tick_params(labelsize=6, pad=1.5)
            axis.set_title(f"({letter}) {found.title}\nlargest deviation {found.deviation}", fontsize=6.2)
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        for axis in axes[:, 0]:
            axis.set_ylabel(SIGNS["delta_norm"], labelpad=1)
        keys = [
            Line2D([], [], color=START, linewidth=1.2, label="mean of 3 seeds"),
            Line2D([], [], color=START, linewidth=0.4, alpha=0.6, label="each seed"),
            Line2D([], [], color=THEORY, linestyle=(0, (4, 2)), linewidth=1.2, label="mean-field theory"),
            Patch(color=REFERENCE, alpha=0.3, linewidth=0, label="± 1 s.d. at this width"),
        ]
        axes.flat[-1].legend(handles=keys, loc="center", fontsize=6.5, frameon=False, handlelength=2.4)
        style.below(figure, "block l (0 is nearest the input)", 0)
        title = f"Gradient at initialisation, measured and predicted ({depth} blocks of width 512, CIFAR-10)"
        figure.suptitle(title, fontsize=8.5, y=1 - 0.1 / figure.get_figheight(), va="top")
    style.save(figure, stem)


def markdown(panels: list[tuple[Panel, dict[str, Any]]]) -> str:
    """Block 0 ÷ last block, predicted and measured, and where the two are furthest apart."""
    lines = [
        "# The predicted gradient beside the measured one",
        "",
        "![Measured and predicted gradient by block](theory.png)",
        "",
        "‖∂L/∂x_l‖ of every block's output x_l in the first training step, before any update: measured (`delta_norm`, "
        f"geometric mean of {len(SEEDS)} seeds), and predicted by mean-field theory without training "
        "(`prediction.json` of the runs). The line is as large as the measurement at the last block; the largest "
        "deviation over all blocks is that of the mean. tanh has σ_b² = 0.05. Of a batch, ‖∂L/∂x‖ is predicted without "
        "regard to how alike its examples are (but for batch norm); of parameters' gradients, which add up over "
        "examples, theory knows that only on average over labels. By `python scripts/theory_figure.py`.",
        "",
        "| network | χ₁ | block 0 ÷ last, predicted | measured (3 seeds) | largest deviation |",
        "|---|---|---|---|---|",
    ]
    for found, prediction in panels:
        mean = log10_mean(found.start)
        name = found.title.replace("$\\sigma_w^2=", "σ_w² = ").replace("$", "")
        ratio, expected = mean[0] - mean[-1], prediction["log10_delta"][0]
        lines.append(f"| {name} | {prediction['chi']:.4g} | {power(expected)} | {power(ratio)} | {found.deviation} |")
    return "\n".join(lines) + "\n"


def power(log10: float) -> str:
    return f"{10.0**log10:.3g}" if abs(log10) < 4 else f"10^{log10:.2f}"


if __name__ == "__main__":
    np.seterr(under="ignore")
    sys.exit(main())
