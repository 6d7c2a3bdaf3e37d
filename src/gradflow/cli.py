"""What a person types. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gradflow import usage
from gradflow.errors import ConfigError, choose_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from gradflow.results.table import Table
    from gradflow.runs.config import Config
    from gradflow.runs.execute import Outcome
    from gradflow.runs.stop import Stop

OK, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code: 0 done, 1 something failed, 2 a mistake in what was asked for,
    130 or 143 stopped by Ctrl-C or SIGTERM."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a _target_ may name a module in the working folder
    try:
        command = usage.parser().parse_args(typed[:1]).command
        if command not in RUN:
            raise ConfigError(f"{command}: unknown command; {choose_from(command, RUN)}")
        options = usage.command_parser(command).parse_intermixed_args(typed[1:])
        sys.exit(RUN[command](options, typed))
    except ConfigError as error:
        for line in error.lines:
            print(f"gradflow: {line}", file=sys.stderr)
        sys.exit(USAGE)
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        print(f"gradflow: {error.filename or 'disk'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def train(options: argparse.Namespace, typed: list[str]) -> int:
    """One run."""
    from gradflow.runs.compose import composer, resolve

    with composer(options.config_dir) as compose:
        if options.cfg:
            from omegaconf import OmegaConf

            shown = compose.untyped(options.overrides)
            resolve(shown)  # keys and types are checked here too
            print(OmegaConf.to_yaml(shown, resolve=options.resolve), end="")
            return OK
        config = compose.config(options.overrides)
    from gradflow.runs.credentials import check_logger
    from gradflow.runs.identity import run_id
    from gradflow.runs.pairs import questioned
    from gradflow.runs.record import is_done
    from gradflow.runs.stop import Stop

    path = Path(config.paths.runs) / run_id(config)
    if is_done(path):
        print("trained before:")
        return _tell_result(path, hint=bool(config.instruments.intervals()))
    check_logger(config)
    _check_one(config)
    for note in questioned(config):
        print(f"note: {note}", file=sys.stderr)
    stop = Stop()
    with stop.on_signals():
        outcome = _train_with_bar(config, options.overrides, stop)
    if outcome.state == "preempted":
        print(f"stopped; its checkpoint is in {path}. To go on: {_command(typed)}", file=sys.stderr)
        return 128 + int(stop.signal or signal.SIGTERM)
    if outcome.state == "busy":
        print(f"gradflow: {path}: another process is training this run at the moment", file=sys.stderr)
        return FAILED
    if outcome.state == "failed":
        print(f"gradflow: {outcome.error}", file=sys.stderr)
        if outcome.recorded:
            print(f"  traceback: {path / 'status.json'}", file=sys.stderr)
        return FAILED
    return _tell_result(path)


def sweep(options: argparse.Namespace, typed: list[str]) -> int:
    """Many runs."""
    from rich.console import Console

    from gradflow.runs.compose import composer
    from gradflow.runs.stop import Stop
    from gradflow.sweeps import launch
    from gradflow.sweeps.plan import Refused

    console = Console(highlight=False)
    if not options.overrides:
        raise ConfigError("sweep: nothing to vary; e.g. 'gradflow sweep depth=2,10,30' or '+sweep=quickstart'")
    stop = Stop()
    with composer(options.config_dir) as compose, stop.on_signals():
        try:
            with console.status("planning: every cell is composed, checked and built without memory"):
                prepared = launch.prepare(compose, options.overrides, _command(typed))
        except Refused as refused:
            _tell_refused(refused)
            return USAGE
        total, missing = len(prepared.plan.runs), len(prepared.missing)
        if prepared.cells > total:
            what = "the others differ only in what does not change a run (logging, instruments, paths)"
            console.print(f"{prepared.cells} cells are {total} runs: {what}", soft_wrap=True)
        if prepared.replaced is not None:
            earlier = f"an earlier plan of {prepared.replaced} runs; their records stay"
            console.print(f"{prepared.folder}: this plan takes the place of {earlier}", soft_wrap=True)
        for note in prepared.notes:
            console.print(f"note: {note}", soft_wrap=True, markup=False)
        jobs = options.jobs or launch.default_jobs(prepared.threads)
        console.print(
            f"{prepared.plan.name}: {total} runs, {total - missing} done before, {missing} to train", soft_wrap=True
        )
        failed = 0
        if missing and not stop.requested:
            from gradflow.display import SweepDisplay

            with SweepDisplay(console, prepared.plan.name) as display:
                progress = launch.train(prepared, jobs, stop, display.show)
            failed = progress.count("failed")
    _publish(prepared.folder, console)
    if stop.requested:
        print(f"stopped. To go on: {_command(typed)}", file=sys.stderr)
        return 128 + int(stop.signal or signal.SIGTERM)
    return FAILED if failed else OK


def predict(options: argparse.Namespace, typed: list[str]) -> int:
    """What theory says, without training."""
    from rich.console import Console

    from gradflow.runs.build import check_keys, preflight
    from gradflow.runs.compose import composer
    from gradflow.runs.identity import labels, run_id

    with composer(options.config_dir) as compose:
        config = compose.config(options.overrides)
    faults = check_keys(config) if options.phase_diagram else preflight(config)
    if faults:
        raise ConfigError(*faults)
    words = {name: str(word) for name, word in labels(config).items()}
    console = Console(highlight=False)
    if options.phase_diagram:
        from gradflow.results.foretold import draw_diagram
        from gradflow.runs.phase_diagram import phase_diagram

        stem = f"phase_diagram-{words['activation']}"
        try:
            figure: Figure | None = draw_diagram(phase_diagram(config))
        except ValueError as error:
            raise ConfigError(str(error)) from None
    else:
        from gradflow.results import foretold
        from gradflow.runs.prediction import predict as predicted

        title = f"{words['model']} {words['recipe']} depth {config.depth}"
        prediction = predicted(config)
        for shown in foretold.to_rich(prediction, title):
            console.print(shown, soft_wrap=True)
        figure = foretold.draw(prediction, title)
        stem = f"{words['recipe'].replace(' · ', '-')}-depth{config.depth}-{run_id(config)[:6]}"
    if figure is not None:
        from gradflow.results.style import save

        stem = re.sub(r"[^\w-]+", "_", stem)  # a definition from elsewhere has dots in its word
        options.out.mkdir(parents=True, exist_ok=True)
        save(figure, options.out / stem)
        console.print(str(options.out / f"{stem}.png"), soft_wrap=True)
    return OK


def status(options: argparse.Namespace, typed: list[str]) -> int:
    """How far a folder has got."""
    from rich.console import Console

    from gradflow.results.status import to_rich
    from gradflow.runs.planfile import collect

    console = Console(highlight=False)
    for shown in to_rich(collect(options.folder)):
        console.print(shown, soft_wrap=True)
    return OK


def table(options: argparse.Namespace, typed: list[str]) -> int:
    """The results table."""
    from gradflow.results import formats
    from gradflow.results.table import make_table
    from gradflow.runs.planfile import collect

    collection = collect(options.folder)
    made = make_table(collection, _names(options.rows), _names(options.cols))
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if options.format is None:
        from rich.console import Console

        _print_table(Console(highlight=False), made)
    else:
        write = {"md": formats.to_markdown, "csv": formats.to_csv, "latex": formats.to_latex}[options.format]
        print(write(made), end="")
    return OK


def report(options: argparse.Namespace, typed: list[str]) -> int:
    """The page and the files beside it."""
    from gradflow.results.publish import publish
    from gradflow.runs.planfile import collect

    collection = collect(options.folder)
    published = publish(collection, options.out or options.folder)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    print(published.page)
    return OK


def diagnose(options: argparse.Namespace, typed: list[str]) -> int:
    """What is wrong, and what would help."""
    from rich.console import Console

    from gradflow.diagnosis.thresholds import overridden
    from gradflow.results import diagnoses

    limits = overridden(options.thresholds) if options.thresholds else None
    found = diagnoses.of(diagnoses.folder_of(options.folder), limits)
    for problem in found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if options.format == "json":
        print(diagnoses.to_json(found))
        return OK
    console = Console(highlight=False)
    for shown in diagnoses.to_rich(found):
        console.print(shown, soft_wrap=isinstance(shown, str), markup=False)
    return OK


def doctor(options: argparse.Namespace, typed: list[str]) -> int:
    """Is this machine ready?"""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gradflow.doctor import examine
    from gradflow.runs.compose import composer

    with composer(options.config_dir) as compose:
        checks = examine(compose.config(options.overrides))
    grid = Table.grid(padding=(0, 2))
    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    for check in checks:
        grid.add_row(Text(check.grade, style=colours[check.grade]), Text(check.what), Text(check.found))
    Console(highlight=False).print(grid)
    return FAILED if any(check.grade == "problem" for check in checks) else OK


# --- parts ----------------------------------------------------------------------------------------------------


def _check_one(config: Config) -> None:
    """Refuse a run that cannot start."""
    from gradflow.runs.build import preflight, prepare_data

    faults = preflight(config) or prepare_data([config])
    if faults:
        raise ConfigError(*faults)


def _train_with_bar(config: Config, overrides: list[str], stop: Stop) -> Outcome:
    """Train with a progress bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gradflow.runs.identity import labels, title

    words = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}")
    console = Console(highlight=False, stderr=True)
    with Progress(
        *words, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title(labels(config)), total=None, loss="starting")
        from gradflow.runs.execute import execute

        def advance(step: int, total: int, loss: float) -> None:
            bar.update(task, completed=step, total=total, loss=f"loss {loss:.4g}")

        outcome = execute(config, overrides, stop, advance)
    return outcome


def _tell_result(path: Path, hint: bool = False) -> int:
    """A finished run in a few lines; `hint` says what to do where it was trained without instruments."""
    from gradflow.results.formats import text
    from gradflow.runs.record import read

    record = read(path)
    assert record is not None
    assert record.result is not None
    result = record.result
    figures = [f"{name} {value:.4g}" for name, value in result["metrics"].items()]
    ratio = (result.get("gradient") or {}).get("ratio")
    print(f"{result['state']}: {result['title']}")
    print(f"  verdict {result['verdict']}, gradient ratio first ÷ last block {text(ratio)}")
    if figures:
        print(f"  {', '.join(figures)} after {result['steps']} steps")
    elif result["diverged_at"] is not None:
        print(f"  the loss stopped being finite at step {result['diverged_at']}")
    for line in _tell_time(result):
        print(f"  {line}")
    for sign in result["signs"]:
        print(f"  {sign['verdict']}: {sign['what']} {sign['value']:.3g} (threshold {sign['threshold']:.3g})")
    print(f"  record: {path}")
    if hint and not result.get("gradient"):
        print(f"  it was trained without instruments; to measure its gradients, delete {path} and train it again")
    return OK


def _tell_time(result: dict[str, Any]) -> Iterator[str]:
    """What a result says of memory: whether the task is solved, and how far back the gradient reaches."""
    solved = result.get("solved")
    if solved is not None:
        when = "not met" if solved["step"] is None else f"first met at step {solved['step']}"
        name = result["metric"].replace("/", " ")
        yield f"solved when validation {solved['criterion']}: {when}; without memory {name} is {result['chance']:.4g}"
    if result.get("no_gradient"):
        yield str(result["no_gradient"])
    if result.get("time"):
        for moment in ("first", "last"):
            probe = result["time"][moment]
            if "memory_horizon_1%" not in probe:
                continue  # it is zero at the last step, or was not measured
            horizon = probe["memory_horizon_1%"]
            reach = f"over all {probe['steps']} steps" if horizon is None else f"for {horizon:.1f} steps back"
            yield f"gradient through time at step {probe['step']}: above 1 % of the last step's {reach}"


def _tell_refused(refused: Exception) -> None:
    """Every fault of a plan at once, with the cells it is in."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gradflow.sweeps.plan import MOST_SHOWN, Refused

    assert isinstance(refused, Refused)
    grid = Table(box=box.SIMPLE_HEAD, title=Text(f"{refused}; nothing was trained"), title_justify="left")
    grid.add_column("cells", justify="right")
    grid.add_column("what is wrong", overflow="fold")
    grid.add_column("first such cell", overflow="fold")
    for fault in refused.faults[:MOST_SHOWN]:
        grid.add_row(Text(str(len(fault.cells))), Text(fault.line), Text(fault.cells[0]))
    console = Console(stderr=True, highlight=False)
    console.print(grid)
    if len(refused.faults) > MOST_SHOWN:
        console.print(f"… and {len(refused.faults) - MOST_SHOWN} more faults")


def _print_table(console: Console, made: Table) -> None:
    """At its natural width: a terminal may wrap a line, but no number is cut and no column dropped."""
    from rich.console import Console
    from rich.measure import Measurement

    from gradflow.results.formats import to_rich

    shown = to_rich(made)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), shown).maximum
    wide = Console(file=console.file, width=max(console.width, wanted), highlight=False)
    wide.print(shown, crop=False)
    for note in made.notes:
        console.print(note, style="dim")


def _publish(folder: Path, console: Console) -> None:
    """Write every view, print the table, name the page."""
    from gradflow.results.publish import publish
    from gradflow.results.status import is_complete, summary
    from gradflow.runs.planfile import collect

    collection = collect(folder)
    published = publish(collection, folder)
    _print_table(console, published.table)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    if not is_complete(collection):
        console.print(summary(collection), soft_wrap=True)
    others = ", ".join(file.name for file in published.files if file != published.page)
    console.print(f"files:  {others}", soft_wrap=True)
    console.print(f"report: {published.page}", soft_wrap=True)


def _command(typed: list[str]) -> str:
    return shlex.join(["gradflow", *typed])


def _names(words: str | None) -> list[str] | None:
    return [word.strip() for word in words.split(",") if word.strip()] if words else None


RUN = {
    "train": train,
    "sweep": sweep,
    "predict": predict,
    "status": status,
    "table": table,
    "diagnose": diagnose,
    "report": report,
    "doctor": doctor,
}
