"""What can be typed: the commands, their options and their help. Nothing here is slow to import."""

from __future__ import annotations

import argparse
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import gradflow
from gradflow.errors import ConfigError, choose_from
from gradflow.resources import conf_dir

OK, FAILED, USAGE = 0, 1, 2  # exit codes
# In the order of the help page; each is a file in `gradflow/commands`.
COMMANDS = (
    *("train", "sweep", "tune", "status", "cancel", "logs", "table", "plot", "report", "diagnose", "predict"),
    "paper",
    *("gc", "wandb-sync", "import-wandb", "dashboard", "doctor"),
)
HIDDEN: tuple[str, ...] = ("work", "tune-work", "rank")  # what gradflow's own scripts type
NAMES = (*COMMANDS, *HIDDEN)
FOR = {"launcher": ("sweep", "tune"), "tune": ("tune",)}  # groups that are no part of a run: whose they are
UNKNOWN = "unrecognized arguments: "  # as argparse says it
DIRECTORY = "a sweep's folder (sweeps/NAME), a folder of runs, or one run's folder"


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, as all of gradflow does; `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        """Say what argparse found.

        Raises:
            ConfigError: always.
        """
        told = message.removeprefix("argument ")
        if told.startswith(UNKNOWN):
            word = told.removeprefix(UNKNOWN).split()[0]
            options = (name for action in self._actions for name in action.option_strings if name.startswith("--"))
            known = choose_from(word.partition("=")[0], options)
            told = f"{word}: unknown option; {known}" if word.startswith("-") else f"{word}: one word too many"
        raise ConfigError(f"{told}; see '{self.prog} --help'")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"unknown value '{value}'; {choose_from(value, action.choices)}")


class Command(Protocol):
    """What a file in `gradflow/commands` holds; a HELP beside it is optional."""

    SUMMARY: str

    def arguments(self, command: argparse.ArgumentParser) -> None:
        """Add its options."""

    def run(self, options: argparse.Namespace, typed: list[str]) -> int:
        """Do it; its exit code."""


def load(name: str) -> Command:
    return cast(Command, import_module(f"gradflow.commands.{name.replace('-', '_')}"))


def parser() -> Parser:
    """Of the first word; each command reads the rest, so that options and overrides can come in any order."""
    listed = "\n".join(f"  {name:<{max(map(len, COMMANDS))}}  {load(name).SUMMARY}" for name in COMMANDS)
    top = Parser(
        prog="gradflow",
        usage="gradflow COMMAND ...",
        description="Which choices let the gradient reach the first layer, and what does that buy?",
        epilog=f"commands:\n{listed}\n\n'gradflow COMMAND --help' says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"gradflow {gradflow.__version__}")
    top.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    return top


def command_parser(name: str, command: Command) -> Parser:
    made = Parser(
        prog=f"gradflow {name}",
        description=getattr(command, "HELP", command.SUMMARY),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.arguments(made)
    return made


# --- what several commands take ---------------------------------------------------------------------------------


def overrides(command: argparse.ArgumentParser) -> None:
    """Words of a config, with all groups listed at the end of the help page."""
    command.add_argument("overrides", nargs="*", metavar="key=value", help="what differs from conf/train.yaml")
    command.add_argument("--config-dir", metavar="DIR", help="your own config folder, searched before gradflow's")
    command.epilog = _groups(command.prog.split()[-1])


def folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="DIR", help=DIRECTORY)


def whole_number(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r}: must be a whole number above 0")
    return int(word)


def out_folder(word: str) -> Path:
    """A folder to write several files into, which somebody may take for the name of one of them."""
    path = Path(word)
    if path.suffix in (".html", ".pdf", ".png", ".svg") and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{word!r}: is a folder for several files; name one, e.g. {path.stem}")
    return path


def typed_again(typed: list[str]) -> str:
    """The command as a person can type it again."""
    return shlex.join(["gradflow", *typed])


def _groups(name: str) -> str:
    """The config groups and their values, by name of file: Hydra itself takes too long for a help page."""
    conf = conf_dir()
    lines = ["Groups (group=value):"]
    for directory in sorted(path for path in conf.iterdir() if path.is_dir()):
        if name not in FOR.get(directory.name, (name,)):
            continue
        values = ", ".join(sorted(file.stem for file in directory.glob("*.yaml")))
        mark = "+" if directory.name == "sweep" else " "
        lines.append(f" {mark}{directory.name:<14} {values}")
    lines.append("Numbers: depth, width, dropout, alpha_dropout, input_noise, label_smoothing, seed.")
    lines.append("A list of remedies: 'remedy=[clip_norm,warmup]'. Paths: paths.runs, paths.sweeps, paths.data.")
    lines.append("Any key of a group can be set, e.g. optimizer.lr=0.1; 'gradflow train --cfg job' shows them all.")
    return "\n".join(lines) + "\n"
