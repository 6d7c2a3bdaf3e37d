"""What can be typed: the commands, their options and their help. Nothing here is slow to import."""

from __future__ import annotations

import argparse
from pathlib import Path

import gradflow
from gradflow.resources import conf_dir

TRAIN = """Train one run and write its record to runs/<run id>.

  gradflow train depth=30 activation=sigmoid task=digits trainer.max_steps=500
  gradflow train experiment=mnist_mlp logger.mode=disabled
  gradflow train --cfg job depth=30           print the config instead

Typed again, a run that has a result is not trained again, and one that was stopped goes on.
"""
SWEEP = """Train a grid of runs in worker processes, then print their table.

  gradflow sweep depth=2,10,30 activation=sigmoid,tanh,relu 'seed=range(3)'
  gradflow sweep 'activation=glob(*)' depth=10
  gradflow sweep +sweep=quickstart -j 2
  gradflow sweep hardware=cpu,gpu,gpu_bf16 trainer.max_time=00:00:10:00     at equal steps and at equal time

Values follow Hydra's grammar: choices a,b,c; range(start,stop,step); glob(pattern) over a group's files.
The plan is checked and written before anything trains; runs that have a result are not trained again.
Ctrl-C stops at the next step; the same command goes on.
"""
PREDICT = """What mean-field theory says of a network at initialisation, without training it.

  gradflow predict depth=50 activation=tanh init=mean_field init.sigma_w2=1.5 init.sigma_b2=0.05
  gradflow predict --phase-diagram activation=tanh

Prints the fixed point, the factor of the gradient per block, how deep such a network can be trained, the gradient in
every block, what is assumed, and single changes that would help. A picture is written to --out.
"""
DIAGNOSE = """Say what is wrong with a run: the verdict, every sign with its number and threshold, and what would help.

  gradflow diagnose runs/1f0c2a7b9e3d        one run, by its folder or its id
  gradflow diagnose sweeps/quickstart        a line per run
  gradflow diagnose 1f0c2a7b9e3d --thresholds mine.yaml

The verdict is made anew from the record; thresholds and their sources are in conf/diagnosis.yaml.
"""
DIRECTORY = "a sweep's folder (sweeps/NAME), a folder of runs, or one run's folder"
COMMANDS = {
    "train": "train one run",
    "sweep": "train a grid of runs and print their table",
    "predict": "what theory says of a network's gradients, without training it",
    "status": "how far a folder of runs has got",
    "table": "the results table of a folder of runs",
    "diagnose": "what is wrong with a run, and what would help",
    "report": "write report.html and the files beside it",
    "doctor": "is this machine ready? versions, devices, data, W&B, Slurm",
}


def parser() -> argparse.ArgumentParser:
    """Of the first word; each command reads the rest, so that options and overrides can come in any order."""
    listed = "\n".join(f"  {name:<9} {summary}" for name, summary in COMMANDS.items())
    top = argparse.ArgumentParser(
        prog="gradflow",
        usage="gradflow COMMAND ...",
        description="Which choices let the gradient reach the first layer, and what does that buy?",
        epilog=f"commands:\n{listed}\n\n'gradflow COMMAND --help' says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"gradflow {gradflow.__version__}")
    top.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    return top


def command_parser(name: str) -> argparse.ArgumentParser:
    summary = COMMANDS[name]
    takes_overrides = name in ("train", "sweep", "predict", "doctor")
    command = argparse.ArgumentParser(
        prog=f"gradflow {name}",
        description={"train": TRAIN, "sweep": SWEEP, "predict": PREDICT, "diagnose": DIAGNOSE}.get(name, summary),
        epilog=_groups() if takes_overrides else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if takes_overrides:
        command.add_argument("overrides", nargs="*", metavar="key=value", help="what differs from conf/train.yaml")
        command.add_argument("--config-dir", metavar="DIR", help="your own config folder, searched before gradflow's")
    else:
        command.add_argument("folder", type=Path, metavar="DIR", help=DIRECTORY)
    if name == "train":
        command.add_argument("--cfg", choices=["job"], help="print the config and leave")
        command.add_argument("--resolve", action="store_true", help="with --cfg: fill in interpolations")
    if name == "sweep":
        command.add_argument("-j", "--jobs", type=_jobs, metavar="N", help="worker processes (default: cores)")
    if name == "predict":
        diagram = "order and chaos over the variances of weights and biases instead, for the activation"
        command.add_argument("--phase-diagram", action="store_true", help=diagram)
        command.add_argument(
            "--out", type=Path, default=Path("predictions"), metavar="DIR", help="of pictures (default: predictions)"
        )
    if name == "table":
        columns = "metric,metric@steps,metric@time,gradient_ratio,verdict,runs, or any figure, e.g. val/loss"
        command.add_argument("--rows", metavar="A,B", help="choices that tell rows apart, e.g. depth,activation")
        command.add_argument("--cols", metavar="A,B", help=columns)
        command.add_argument("--format", choices=["md", "csv", "latex"], help="instead of a terminal's table")
    if name == "diagnose":
        command.add_argument("--thresholds", type=Path, metavar="FILE", help="instead of those in conf/diagnosis.yaml")
        command.add_argument("--format", choices=["json"], help="instead of a terminal's table")
    if name == "report":
        command.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: DIR itself)")
    return command


def _jobs(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r}: must be a whole number above 0")
    return int(word)


def _groups() -> str:
    """The config groups and their values, by name of file: Hydra itself takes too long for a help page."""
    conf = conf_dir()
    lines = ["Groups (group=value):"]
    for folder in sorted(path for path in conf.iterdir() if path.is_dir()):
        values = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        mark = "+" if folder.name == "sweep" else " "
        lines.append(f" {mark}{folder.name:<14} {values}")
    lines.append("Numbers: depth, width, dropout, alpha_dropout, input_noise, label_smoothing, seed.")
    lines.append("A list of remedies: 'remedy=[clip_norm,warmup]'. Paths: paths.runs, paths.sweeps, paths.data.")
    lines.append("Any key of a group can be set, e.g. optimizer.lr=0.1; 'gradflow train --cfg job' shows them all.")
    return "\n".join(lines) + "\n"
