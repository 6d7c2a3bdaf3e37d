"""`gradflow paper`: published tables, run again and set beside what was printed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow import usage
from gradflow.errors import ConfigError, choose_from
from gradflow.usage import FAILED, OK, USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from gradflow.papers.paper import Paper
    from gradflow.papers.runs import PaperRuns
    from gradflow.papers.table import PaperTable
    from gradflow.runs.record import Record
    from gradflow.sweeps.launch import Prepared

SUMMARY = "published tables: list, show, run again, and set beside what was printed"
HELP = """Published tables and figures, run again with one command.

  gradflow paper list                          all of them
  gradflow paper show he2016                   citation, protocol, published figures, claims, what is run
  gradflow paper run he2016 --scale small      a reduced protocol that still tests the claim, minutes on two cores
  gradflow paper run he2016                    the paper's own protocol; launcher=slurm, hardware=gpu_bf16, …
  gradflow paper table he2016                  published | ours | verdict, claims, deviations; --format md|csv|latex

`run` can be stopped and typed again, as any sweep: only what is missing is trained. Its folder is a sweep's,
sweeps/paper-NAME-SCALE, which status, report, plot and diagnose read. --where chooses cells, e.g. --where "depth < 50".
"""
ACTIONS = ("list", "show", "run", "table")
FORMATS = ("md", "csv", "latex")
COLOURS = {
    **{"supported": "green", "contradicted": "red", "undecided": "yellow", "not run": "dim"},
    **{"agrees": "green", "differs": "red"},
}


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", choices=ACTIONS, help="what to do")
    command.add_argument("name", nargs="?", metavar="NAME", help="which paper; 'gradflow paper list' has their names")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="run: of every run, after the paper's own")
    command.add_argument("--config-dir", metavar="DIR", help="your own config folder: DIR/paper/NAME.yaml is a paper")
    scales = "run: full (the paper's own protocol) unless given; table: full if it has results, else small"
    command.add_argument("--scale", choices=("full", "small"), help=scales)
    command.add_argument("--where", metavar="WHICH", help="run: only these cells, a condition on the table's axes")
    command.add_argument("--seeds", type=usage.whole_number, metavar="N", help="run: of each cell")
    command.add_argument("-j", "--jobs", type=usage.whole_number, metavar="N", help="run: worker processes")
    plan = command.add_mutually_exclusive_group()
    plan.add_argument("--plan", action="store_true", help="run: write the plan, say what it will cost, and stop")
    plan.add_argument("--dry-run", action="store_true", help="run: say what would be trained, and write nothing")
    command.add_argument("--retry-failed", action="store_true", help="run: train those that failed, and no others")
    command.add_argument("--format", choices=FORMATS, help="table: instead of a terminal's")
    command.add_argument("--out", type=Path, metavar="FILE", help="table: there; .md (with pictures), .csv, .tex")


OF_ACTION = {
    **dict.fromkeys(("where", "seeds", "jobs", "plan", "dry_run", "retry_failed"), "run"),
    **dict.fromkeys(("format", "out"), "table"),
}


def run(options: argparse.Namespace, typed: list[str]) -> int:
    """One of the four actions."""
    for option, action in OF_ACTION.items():
        if getattr(options, option) and options.action != action:
            raise ConfigError(f"--{option.replace('_', '-')}: has a meaning for 'gradflow paper {action}' only")
    if options.overrides and options.action not in ("run", "table"):
        raise ConfigError(f"paper {options.action}: {options.overrides[0]}: overrides have a meaning for 'run' only")
    if options.action == "list":
        if options.name is not None:
            raise ConfigError(f"paper list: {options.name}: takes no name; 'gradflow paper show {options.name}'")
        return _list(options)
    if options.name is None:
        raise ConfigError(f"paper {options.action}: which one? {_names(options)}")
    from gradflow.papers.paper import load

    paper = load(options.name, options.config_dir)
    if options.action == "show":
        return _show(options.name, paper)
    return _run(options, typed, paper) if options.action == "run" else _table(options, paper)


def _names(options: argparse.Namespace) -> str:
    from gradflow.papers.paper import names

    return choose_from(options.name or "", names(options.config_dir))


# --- list and show ----------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gradflow.papers.paper import load, names

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "paper", "about"):
        grid.add_column(column, no_wrap=column == "name", overflow="fold")
    grid.add_column("small", justify="right", no_wrap=True)
    for name in names(options.config_dir):
        paper = load(name, options.config_dir)
        minutes = "–" if paper.small.minutes is None else f"{paper.small.minutes:g} min"
        where = f"{paper.authors} {paper.year}, {paper.shows}"
        grid.add_row(Text(name), Text(where), Text(paper.about), Text(minutes))
    console = Console(highlight=False)
    console.print(grid)
    console.print("small: a reduced protocol, on two CPU cores; 'gradflow paper run NAME --scale small'", style="dim")
    return OK


def _show(name: str, paper: Paper) -> int:
    from rich.console import Console
    from rich.text import Text

    from gradflow.commands.table import show
    from gradflow.papers.table import make_paper_table

    console = Console(highlight=False)
    console.print(Text(paper.citation, style="bold"), soft_wrap=True)
    console.print(Text(f"{paper.shows}. {paper.about}."), soft_wrap=True)
    made = make_paper_table(name, paper, None, {})
    _tell_list(console, "protocol", paper.protocol)
    _tell_list(console, "left open by the paper", paper.ambiguities)
    _tell_list(console, "gradflow's full scale departs from it", paper.deviations)
    console.print()
    for table in made.cells:
        if table.lines:
            show(console, table)
    _tell_list(console, "claims", [f"{claim.says} ({claim.source}): {claim.claim}" for claim in paper.claims])
    console.print()
    for scale in ("full", "small"):
        own, cells = paper.scale(scale), len(paper.wanted(scale))
        minutes = "" if own.minutes is None else f", about {own.minutes:g} min on two CPU cores"
        why = "" if own.why is None else f". {own.why}"
        said = f"{scale}: {cells} cells × {own.seeds} seeds = {cells * own.seeds} runs{minutes}{why}"
        console.print(Text(said), soft_wrap=True)
    console.print(Text(f"to run: gradflow paper run {name} --scale small"), soft_wrap=True)
    return OK


def _tell_list(console: Console, title: str, sentences: list[str]) -> None:
    from rich.text import Text

    if sentences:
        console.print(Text(f"\n{title}", style="bold"))
        for sentence in sentences:
            console.print(Text(f"- {sentence}"), soft_wrap=True)


# --- run --------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace, typed: list[str], paper: Paper) -> int:
    from rich.console import Console

    from gradflow.commands.sweep import submit, tell, tell_cost, tell_refused, train, without
    from gradflow.papers.runs import ask_paper, write_runs
    from gradflow.runs.compose import composer
    from gradflow.runs.ranks import only_one
    from gradflow.runs.stop import Stop
    from gradflow.sweeps import launch
    from gradflow.sweeps.plan import Refused

    console = Console(highlight=False)
    scale = options.scale or "full"
    many = only_one("paper run")
    if many:
        raise ConfigError(many)
    words = [*options.overrides, *([f"launcher.jobs={options.jobs}"] if options.jobs else [])]
    stop = Stop()
    with composer(options.config_dir) as compose, stop.on_signals():
        try:
            with console.status("planning: every cell is composed, checked and built without memory"):
                asked, ran = ask_paper(compose, options.name, paper, scale, words, options.seeds)
                prepared = launch.prepare_asked(
                    compose, asked, usage.typed_again(without(typed)), write=not options.dry_run
                )
        except Refused as refused:
            tell_refused(refused)
            return USAGE
        if not options.dry_run:
            write_runs(prepared.folder, ran)
        if options.retry_failed:
            prepared = prepared.only("failed")
        if options.where:
            prepared = _chosen(prepared, ran, paper, options.where)
        tell(prepared, console)
        if options.plan or options.dry_run:
            tell_cost(prepared, console, every=options.dry_run)
            return OK
        if prepared.launcher.kind == "slurm":
            return submit(prepared, prepared.launcher, console)
        failed = train(prepared, prepared.launcher, stop, console) if not stop.requested else 0
    made = _made(options.name, paper, prepared.folder, ran)
    _tell_table(console, made)
    console.print(f"runs:  {prepared.folder}; gradflow report {prepared.folder}", soft_wrap=True)
    if stop.requested:
        print(f"stopped. To go on: {usage.typed_again(without(typed))}", file=sys.stderr)
        return 128 + int(stop.signal or signal.SIGTERM)
    return FAILED if failed else OK


def _chosen(prepared: Prepared, ran: PaperRuns, paper: Paper, text: str) -> Prepared:
    """Only the cells that a condition on the axes wants."""
    from dataclasses import replace

    from gradflow.sweeps.where import Where

    condition = Where(text, "--where")
    unknown = [name for name in condition.names if name not in paper.axes]
    if unknown:
        raise ConfigError(f"--where {text}: '{unknown[0]}' is no axis; {choose_from(unknown[0], paper.axes)}")
    ids = {i for each in ran.cells if condition(paper.look(each.key).__getitem__) for i in each.runs}
    if not ids:
        raise ConfigError(f"--where {text}: leaves none of {len(ran.cells)} cells")
    return replace(prepared, missing=[run for run in prepared.missing if run.run_id in ids])


# --- table ------------------------------------------------------------------------------------------------------


def _table(options: argparse.Namespace, paper: Paper) -> int:
    from rich.console import Console

    from gradflow.papers.runs import FILE, read_runs, sweep_name

    form = _format(options.format, options.out)
    sweeps = _sweeps(options.overrides)
    scales = [options.scale] if options.scale else ["full", "small"]
    found = [sweeps / sweep_name(options.name, scale) for scale in scales]
    folders = [each for each in found if (each / FILE).exists()]
    tables = [_made(options.name, paper, each, read_runs(each)) for each in folders]
    # a scale that was only planned hides none that was run
    shown = next((i for i, each in enumerate(tables) if any(map(each.values.done, each.values.runs))), 0)
    folder = folders[shown] if folders else None
    made = tables[shown] if tables else _made(options.name, paper, None, None)
    if form is None:
        console = Console(highlight=False)
        _tell_table(console, made)
        if folder is None:
            console.print(f"nothing was run yet: gradflow paper run {options.name} --scale small", soft_wrap=True)
        return OK
    from gradflow.papers.documents import WRITERS, to_md
    from gradflow.runs.record import write_bytes

    if options.out is None:
        print(WRITERS[form](made), end="")
        return OK
    written = [options.out]
    if form == "md":
        pictures = _draw(made, folder, options.out)
        written += [options.out.parent / file for file, _ in pictures]
        content = to_md(made, pictures)
    else:
        content = WRITERS[form](made)
    write_bytes(options.out, content.encode())
    for file in written:
        print(file)
    return OK


def _draw(made: PaperTable, folder: Path | None, out: Path) -> list[tuple[str, str]]:
    """The published figure beside ours, and pictures of the runs, as PNG beside the page; (file, what it shows)."""
    from dataclasses import replace

    import gradflow
    from gradflow.commands.plot import DPI, Theory
    from gradflow.papers.pictures import draw, told_by_cell
    from gradflow.results.pictures import style
    from gradflow.results.pictures.kinds import Asked
    from gradflow.results.pictures.kinds import draw as draw_kind
    from gradflow.results.pictures.nothing import SaysNothing
    from gradflow.results.pictures.sheet import paper as paper_sheet
    from gradflow.runs.planfile import collect

    mark = f"gradflow {gradflow.__version__}: {made.name}"
    drawn = []
    beside = draw(made)
    if beside is not None:
        file = style.save(beside, out.parent / out.stem, mark, ["png"])[0]
        drawn.append((file.name, f"{made.title}: published beside ours"))
    if folder is None:
        return drawn
    collection = collect(folder)
    theory = Theory(collection)
    lines = (made.paper.figure and made.paper.figure.lines) or next(iter(made.paper.axes))
    asked = Asked("metric", None, None, theory.trainable_depths, theory.diagram)
    sheet = paper_sheet(2, "")
    for kind in made.paper.pictures:
        try:
            if kind == "curves":  # lines in the paper's own words, whatever their configs differ in
                figure = draw_kind(kind, told_by_cell(made, collection), sheet, replace(asked, by=lines))
            else:
                figure = draw_kind(kind, collection, sheet, asked)
        except SaysNothing as nothing:
            print(f"gradflow: {kind}: nothing to draw: {nothing}", file=sys.stderr)
            continue
        file = style.save(figure, out.parent / f"{out.stem}_{kind}", mark, ["png"], sheet.words, DPI)[0]
        drawn.append((file.name, f"{made.title}: {kind.replace('_', ' ')} of our runs"))
    return drawn


def _sweeps(words: list[str]) -> Path:
    """Where sweeps lie; `paths.sweeps=…` is the only override that a table has a use for."""
    place = os.environ.get("GRADFLOW_SWEEPS_DIR", "sweeps")
    for word in words:
        key, equals, value = word.partition("=")
        if key != "paths.sweeps" or not equals:
            raise ConfigError(f"paper table: {word}: only paths.sweeps=DIR has a meaning here")
        place = value
    return Path(place)


def _made(name: str, paper: Paper, folder: Path | None, ran: PaperRuns | None) -> PaperTable:
    from gradflow.papers.table import make_paper_table
    from gradflow.runs.planfile import collect

    records: dict[str, Record] = {}
    if folder is not None and ran is not None:
        found = collect(folder).found
        records = found.records
        for problem in found.problems:
            print(f"gradflow: {problem}", file=sys.stderr)
    return make_paper_table(name, paper, ran, records)


def _tell_table(console: Console, made: PaperTable) -> None:
    from rich.text import Text

    from gradflow.commands.table import show
    from gradflow.papers.table import NOTHING, told_difference

    console.print(Text(" — ".join(filter(None, (made.title, made.told_scale))), style="bold"), soft_wrap=True)
    for table in made.cells:
        if table.lines:
            show(console, table)
        else:
            console.print(Text(f"{table.title}: {NOTHING}"), soft_wrap=True)
    console.print(Text("claims", style="bold"))
    for claim, finding in made.claims:
        line = Text(f"{finding.verdict:<13} ", style=COLOURS[finding.verdict])
        console.print(line.append(f"{claim.says} ({claim.source})", style="default"), soft_wrap=True)
        for comparison, part, difference in finding.parts:
            told = f"{'':<13} {comparison.text}"
            if difference is not None:
                told += f": difference {told_difference(difference)}"
            if len(finding.parts) > 1:
                told += f", {part}"
            console.print(Text(told, style="dim"), soft_wrap=True)
    _tell_list(console, "deviations from the paper's protocol", made.deviations)


def _format(named: str | None, out: Path | None) -> str | None:
    """The format asked for, or that of the file's name."""
    suffixes: dict[str, Any] = {".md": "md", ".csv": "csv", ".tex": "latex"}
    if out is None:
        return named
    if out.suffix not in suffixes and named is None:
        told = choose_from(out.suffix, suffixes)
        raise ConfigError(f"--out {out}: no format is known by {out.suffix or 'no suffix'}; {told}")
    if named is not None and suffixes.get(out.suffix, named) != named:
        raise ConfigError(f"--out {out}: says {suffixes[out.suffix]}, but --format {named}")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: no folder {out.parent}")
    return named or str(suffixes[out.suffix])
