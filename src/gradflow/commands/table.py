"""`gradflow table`: the results of a folder of runs, and what they show of the techniques in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradflow import usage
from gradflow.commands.selection import HELP as HELP_WHERE
from gradflow.commands.selection import select
from gradflow.errors import ConfigError, choose_from
from gradflow.usage import OK

if TYPE_CHECKING:
    from rich.console import Console

    from gradflow.results.table import Table
    from gradflow.runs.planfile import Collection

SUMMARY = "tables of a folder of runs: results, pairs of techniques, aggregates, ranks, profiles"
HELP = """Tables of a folder of runs.

  results    a row for what varies, a figure for what it showed; the best is marked, and what is not shown to be worse
  pairs      every two techniques where all else and the seed are equal: difference, effect size, p, P(better)
  aggregate  a technique's normalised scores over all tasks and settings: IQM, median, mean, optimality gap
  ranks      mean rank over settings, Friedman's test, critical difference
  profiles   share of runs with a normalised score above each of a row of thresholds

e.g. gradflow table sweeps/NAME --rows depth --cols activation,norm --value test/accuracy"""
KINDS = ("results", "pairs", "aggregate", "ranks", "profiles")
FORMATS = ("md", "csv", "latex", "html", "typst")
OF_KIND = {  # which kinds an option has a meaning for
    "cols": ("results",),
    "stat": ("results",),
    "reference": ("aggregate", "profiles"),
}


def arguments(command: argparse.ArgumentParser) -> None:
    usage.folder(command)
    values = "metric,metric@steps,metric@time,gradient_ratio,verdict,runs, or any figure, e.g. val/loss"
    command.add_argument("--kind", choices=KINDS, default="results", help="which table (default: results)")
    command.add_argument("--rows", metavar="A,B", help="choices that tell rows apart, e.g. depth,activation")
    command.add_argument("--cols", metavar="A,B", help="choices pivoted across, a column for each of their values")
    command.add_argument("--value", metavar="A,B", help=values)
    command.add_argument("--stat", metavar="A,B", help="mean,median,iqm,range, each with its interval (default: mean)")
    command.add_argument("--by", metavar="A,B", help="choices that name a technique, e.g. activation,norm")
    command.add_argument("--where", metavar="WHICH", help=HELP_WHERE)
    command.add_argument("--reference", metavar="TASK=X,...", help="the score that is 1 (default: the perfect score)")
    command.add_argument("--format", choices=FORMATS, help="instead of a terminal's table")
    command.add_argument("--out", type=Path, metavar="FILE", help="write it there; .md, .csv, .tex, .html, .typ")


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """Print a table, or write it."""
    from gradflow.runs.planfile import collect

    _check(options)
    form = _format(options.format, options.out)
    collection = select(collect(options.folder), options.where)
    made = _made(collection, options)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if form is None:
        from rich.console import Console

        show(Console(highlight=False), made)
        return OK
    from gradflow.results.formats import WRITERS

    written = WRITERS[form](made)
    if options.out is None:
        print(written, end="")
        return OK
    from gradflow.runs.record import write_bytes

    write_bytes(options.out, written.encode())
    print(options.out)
    return OK


def show(console: Console, made: Table) -> None:
    """At its natural width: a terminal may wrap a line, but no number is cut and no column dropped."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    from gradflow.results.formats.terminal import notes, to_rich

    shown = to_rich(made)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), shown).maximum
    wide = Console(file=console.file, width=max(console.width, wanted), highlight=False)
    wide.print(shown, crop=False)
    for note in notes(made):
        console.print(Text(note), style="dim")


def _made(collection: Collection, options: argparse.Namespace) -> Table:
    from gradflow.results.table import Wanted, make_table

    rows, by, values = _names(options.rows), _names(options.by), _names(options.value)
    if options.kind == "results":
        return make_table(
            collection, None, Wanted(rows, _names(options.cols), values, _names(options.stat) or ("mean",), by)
        )
    from gradflow.results.kinds.aggregate import make_aggregate
    from gradflow.results.kinds.asked import Asked
    from gradflow.results.kinds.pairs import make_pairs
    from gradflow.results.kinds.profiles import make_profiles
    from gradflow.results.kinds.rank_table import make_ranks

    make = {"pairs": make_pairs, "aggregate": make_aggregate, "ranks": make_ranks, "profiles": make_profiles}
    asked = Asked(by, rows, values[0] if values else "metric", _references(options.reference))
    return make[options.kind](collection, asked)


def _check(options: argparse.Namespace) -> None:
    """Options that this kind of table has no use for."""
    faults = [
        f"--{name}: has no meaning for --kind {options.kind}, only for {' and '.join(kinds)}"
        for name, kinds in OF_KIND.items()
        if getattr(options, name) is not None and options.kind not in kinds
    ]
    if options.kind != "results" and len(_names(options.value)) > 1:
        faults.append(f"--value {options.value}: --kind {options.kind} is of one figure")
    if faults:
        raise ConfigError(*faults)


def _format(named: str | None, out: Path | None) -> str | None:
    """The format asked for, or that of the file's name."""
    if out is None:
        return named
    from gradflow.results.formats import SUFFIXES

    if named is None and out.suffix not in SUFFIXES:
        raise ConfigError(
            f"--out {out}: no format is known by {out.suffix or 'no suffix'}; {choose_from(out.suffix, SUFFIXES)}"
        )
    if named is not None and SUFFIXES.get(out.suffix, named) != named:
        raise ConfigError(f"--out {out}: says {SUFFIXES[out.suffix]}, but --format {named}")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: no folder {out.parent}")
    return named or SUFFIXES[out.suffix]


def _references(words: str | None) -> dict[str, float]:
    """'mnist=0.99,adding=0' by task."""
    made = {}
    for each in _names(words):
        task, _, value = each.partition("=")
        try:
            made[task.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"--reference {each}: must be TASK=NUMBER, e.g. mnist=0.99") from None
    return made


def _names(words: str | None) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()] if words else []
