"""What `tune` and `tune-work` share: a search under way on the terminal, what it found, and the comparison."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gradflow.usage import FAILED, OK

if TYPE_CHECKING:
    from gradflow.results.search import Found
    from gradflow.runs.planfile import Plan, PlannedRun
    from gradflow.runs.stop import Stop
    from gradflow.sweeps.launch import Prepared
    from gradflow.sweeps.launcher import Launcher
    from gradflow.sweeps.tuning.crew import Progress
    from gradflow.sweeps.tuning.search import Search


def work(search: Search, folder: Path, launcher: Launcher, stop: Stop, console: Console) -> int | None:
    """Make trials on this machine until every technique has had its budget, or a stop is asked for; an exit code where
    that cannot be done."""
    from gradflow.sweeps.allotment import allot
    from gradflow.sweeps.tuning.crew import Broken, run_search

    allotment = allot(launcher, search.needs.threads, search.needs.gpu, search.needs.devices)
    try:
        with SearchDisplay(console, search) as display:
            run_search(folder, search, allotment, stop, display.show)
    except Broken as error:
        print(f"gradflow: {error}", file=sys.stderr)
        return FAILED
    return None


def is_over(search: Search, folder: Path) -> bool:
    """Whether every technique has had its budget."""
    from gradflow.sweeps.tuning.desk import tallies
    from gradflow.sweeps.tuning.journal import open_studies

    return all(tally.ended >= search.trials for tally in tallies(open_studies(folder, search), search).values())


def tell(search: Search, folder: Path, console: Console) -> None:
    """Draw what was found so far, and print the table of bests."""
    from gradflow.results import search as results
    from gradflow.sweeps.tuning.search import FOLDER

    found = _found(search, folder)
    if not any(technique.trials for technique in found.techniques):
        return
    files = results.publish(found, folder / FOLDER)
    _print_whole(console, results.to_rich(found))
    names = ", ".join(file.name for file in files if file.suffix != ".svg")
    console.print(f"files in {folder / FOLDER}: {names}", soft_wrap=True)


def finish(search: Search, folder: Path, launcher: Launcher, stop: Stop, console: Console) -> int:
    """Train each technique's best settings on fresh seeds and print their table."""
    from gradflow.runs.planfile import write_plan
    from gradflow.runs.record import is_done
    from gradflow.sweeps.tuning.final import plan_final
    from gradflow.sweeps.tuning.journal import open_studies

    final = plan_final(search, open_studies(folder, search), _planned(folder), here=launcher.kind == "local")
    for name in final.lacking:
        print(f"gradflow: {name}: no trial is complete, so that it is in no comparison", file=sys.stderr)
    failed = bool(final.lacking)
    if not final.plan.runs:
        return FAILED if failed else OK
    write_plan(folder, final.plan)
    missing = [run for run in final.plan.runs if not is_done(final.plan.runs_dir / run.run_id)]
    seeds = f"seeds {search.fresh[0]} to {search.fresh[-1]}" if len(search.fresh) > 1 else f"seed {search.fresh[0]}"
    what = f"best settings on {seeds}: {len(final.plan.runs)} runs, {len(missing)} to train"
    console.print(what, soft_wrap=True)
    prepared = _prepared(search, folder, final.plan, missing, launcher)
    if missing and launcher.kind == "slurm":
        from gradflow.sweeps.slurm import submit

        submitted = submit(prepared, launcher)
        jobs = submitted.submission.job_ids if submitted.submission else []
        console.print(f"submitted: job {', '.join(jobs)}" if jobs else "their tasks are under way", soft_wrap=True)
        return OK
    if missing and not stop.requested:
        from gradflow.display import SweepDisplay
        from gradflow.sweeps.allotment import allot
        from gradflow.sweeps.launch import train

        allotment = allot(launcher, prepared.threads, prepared.wants_gpu, prepared.devices)
        with SweepDisplay(console, final.plan.name) as display:
            progress = train(prepared, allotment, stop, display.show)
        failed = failed or bool(progress.count("failed"))
    _compare(search, folder, final.plan, console)
    return FAILED if failed else OK


def _planned(folder: Path) -> Plan | None:
    from gradflow.runs.planfile import read_plan
    from gradflow.runs.record import Unreadable

    try:
        return read_plan(folder)
    except Unreadable:
        return None  # it is replaced


def _prepared(search: Search, folder: Path, plan: Plan, missing: list[PlannedRun], launcher: Launcher) -> Prepared:
    from gradflow.sweeps.launch import Prepared

    return Prepared(
        plan,
        folder,
        cells=len(plan.runs),
        missing=missing,
        states={run.run_id: "missing" for run in missing},
        replaced=None,
        frozen=False,
        threads=search.needs.threads,
        devices=search.needs.devices,
        wants_gpu=search.needs.gpu,
        notes=[],
        launcher=launcher,
    )


def _compare(search: Search, folder: Path, plan: Plan, console: Console) -> None:
    """Every view of the final sweep, and its table with all that was searched as columns."""
    from gradflow.commands.report import workers
    from gradflow.commands.table import show
    from gradflow.results.formats import to_csv, to_latex, to_markdown
    from gradflow.results.publish import publish
    from gradflow.results.table import make_table
    from gradflow.runs.planfile import collect
    from gradflow.runs.record import write_bytes
    from gradflow.sweeps.tuning.final import rows_of
    from gradflow.sweeps.tuning.search import FOLDER

    collection = collect(folder)
    published = publish(collection, folder, workers=workers())
    table = make_table(collection, rows_of(search, [run.labels for run in plan.runs]))
    for name, content in (("csv", to_csv(table)), ("md", to_markdown(table)), ("tex", to_latex(table))):
        write_bytes(folder / FOLDER / f"table.{name}", content.encode())
    show(console, table)
    for problem in collection.found.problems:
        print(f"gradflow: {problem}", file=sys.stderr)
    console.print(f"files:  {folder / FOLDER / 'table.csv'}, .md, .tex", soft_wrap=True)
    console.print(f"report: {published.page}", soft_wrap=True)


def _found(search: Search, folder: Path) -> Found:
    """What the studies hold, in the words of `results.search`."""
    from optuna.trial import TrialState

    from gradflow.results.search import Found, Key, Trial, Tuned
    from gradflow.sweeps.tuning.desk import ENDED, RUNS, WHY, counts, trials_of
    from gradflow.sweeps.tuning.final import importances
    from gradflow.sweeps.tuning.journal import open_studies

    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    techniques = []
    studies = open_studies(folder, search)
    for technique in search.techniques:
        study, trials = studies[technique.name], []
        for trial in trials_of(study):
            if trial.state in ENDED and counts(trial):
                state = "diverged" if words[trial.state] == "pruned" and WHY in trial.user_attrs else words[trial.state]
                params = {d.key: d.shown(trial.params[d.key]) for d in search.dimensions}
                trials.append(Trial(trial.number, state, trial.values, params, trial.user_attrs[RUNS][0]))
        techniques.append(Tuned(technique.name, technique.slug, trials, importances(study, search)))
    keys = [Key(d.key, d.words, d.log) for d in search.dimensions]
    metrics = [(metric.name, metric.larger_is_better) for metric in search.metrics]
    return Found(search.name, metrics, keys, techniques, search.trials)


def _print_whole(console: Console, table: Table) -> None:
    """At its natural width: a terminal may wrap a line, but no number is cut."""
    from rich.measure import Measurement

    wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(file=console.file, width=max(console.width, wanted), highlight=False).print(table, crop=False)


class SearchDisplay:
    """One live display: for each technique trials done, the best so far, and what each worker is on.

    Where the output is not a terminal, one line per trial instead.
    """

    def __init__(self, console: Console, search: Search) -> None:
        self.console, self.search = console, search
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._told = self._deaths = 0

    def __enter__(self) -> SearchDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        for line in progress.deaths[self._deaths :]:
            self._deaths += 1
            self.console.print(Text(line), soft_wrap=True)
        for ended in progress.ended[self._told :]:
            self._told += 1
            if self._live is None or ended.state == "failed":
                value = "" if ended.value is None else f" {self.search.metrics[0].name} {ended.value:.4g}"
                why = f": {ended.why}" if ended.why else ""
                line = f"{ended.state} {ended.technique} trial {ended.number}{value} ({ended.seconds:.1f} s){why}"
                self.console.print(Text(line), soft_wrap=True)
        if self._live:
            self._live.update(self._render(progress))

    def _render(self, progress: Progress) -> Group:
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(self.search.name, style="bold"),
            ProgressBar(total=max(1, progress.total), completed=progress.done, width=30),
            Text(f"{progress.done}/{progress.total} trials"),
            Text(f"{_left(progress)} left"),
        )
        lines = Table.grid(padding=(0, 2))
        for name, tally in progress.tallies.items():
            ends = [f"{n} {w}" for n, w in ((tally.pruned, "pruned"), (tally.diverged, "diverged")) if n]
            failed = Text(f"{tally.failed} failed", style="red") if tally.failed else Text("")
            best = "" if tally.best is None else f"best {self.search.metrics[0].name} {tally.best:.4g}"
            done = f"{tally.ended}/{progress.trials}"
            lines.add_row("", Text(name), Text(done), Text(best), Text(", ".join(ends)), failed)
        workers = Table.grid(padding=(0, 2))
        for doing in progress.doing.values():
            step = f"step {doing.step}/{doing.total}" if doing.total else "starting"
            loss = "" if math.isnan(doing.loss) else f"loss {doing.loss:.3g}"
            workers.add_row("", Text(f"{doing.technique} trial {doing.number}"), Text(step), Text(loss))
        return Group(head, lines, workers)


def _left(progress: Progress) -> str:
    """Time left, if trials go on ending as fast as they have, on all machines together."""
    ended = progress.done - progress.before
    if ended <= 0:
        return "–"
    seconds = int((progress.total - progress.done) * (time.monotonic() - progress.began) / ended)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
