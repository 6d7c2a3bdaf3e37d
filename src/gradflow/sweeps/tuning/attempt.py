"""One trial: its runs trained, one per seed, and what came of them told to the study."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import fmean

from gradflow.runs.config import Config
from gradflow.runs.execute import Outcome, execute
from gradflow.runs.identity import run_id
from gradflow.runs.record import Unreadable, load_json, read
from gradflow.runs.stop import Stop
from gradflow.sweeps.tuning.desk import Desk, Task
from gradflow.sweeps.tuning.figures import NoFigure, validations, values_of
from gradflow.sweeps.worker import logged

BUSY_WAIT = 1.0  # seconds before asking again for a run that another process is training
OnProgress = Callable[[int, int, float], None]


class Unwritable(Exception):
    """A record that cannot be written: the disk's fault, not the trial's, and the next one would meet it too."""


def attempt(desk: Desk, task: Task, stop: Stop, on_progress: OnProgress) -> str:
    """Train a trial's runs, but those that have a result from an earlier trial or sweep.

    Returns:
        'complete', 'pruned', 'diverged' or 'failed', as told to the study; or 'preempted', where the trial waits for
        the next worker.

    Raises:
        Unwritable: if a record cannot be written; the trial waits for the next worker.
    """
    search, values = desk.search, []
    for place, seed in enumerate(search.seeds):
        config = search.config(task.technique, task.params, seed)
        path = Path(config.paths.runs) / run_id(config)
        reports = _Reports(desk, task, config, place * search.needs.steps)
        reports.of_record(path)
        outcome = _train(config, search.overrides(task.technique, task.params, seed), stop, on_progress, reports)
        if outcome.state == "preempted":
            desk.put_back(task)
            return "preempted"
        if not outcome.recorded:
            desk.put_back(task)
            raise Unwritable(str(outcome.error))
        if outcome.state == "failed":
            desk.fail(task, str(outcome.error))
            return "failed"
        if outcome.state == "pruned":
            desk.prune(task)
            return "pruned"
        reports.of_record(path)
        try:
            values.append(_values(desk, path))
        except NoFigure as reason:
            desk.diverge(task, str(reason))
            return "diverged"
    desk.complete(task, [fmean(column) for column in zip(*values, strict=True)])
    return "complete"


def _train(config: Config, overrides: list[str], stop: Stop, on_progress: OnProgress, reports: _Reports) -> Outcome:
    judge = None if reports.silent else reports.judge
    while True:
        with logged(config) as path:
            outcome = execute(config, overrides, stop, on_progress, judge)
            if outcome.state == "failed":
                with suppress(OSError, Unreadable):
                    os.write(2, str((load_json(path / "status.json") or {}).get("error")).encode())
        if outcome.state != "busy":
            return outcome
        if stop.requested:
            return Outcome(outcome.run_id, "preempted")
        time.sleep(BUSY_WAIT)  # a sweep, or a trial that happens to be the same


def _values(desk: Desk, path: Path) -> list[float]:
    record = read(path)
    assert record is not None
    if record.state == "diverged":
        raise NoFigure(f"the loss stopped being finite at step {(record.result or {}).get('diverged_at')}")
    return values_of(path, desk.search.metrics, desk.search.at)


class _Reports:
    """What is reported of a run's validations to its trial, for the pruner.

    Args:
        offset: steps of the trial's earlier seeds, behind which this one's are counted.

    Attributes:
        silent: whether there is nothing to report: Optuna compares values in the making for one metric only.
    """

    def __init__(self, desk: Desk, task: Task, config: Config, offset: int) -> None:
        search, study = desk.search, desk.studies[task.technique.name]
        self.silent, self._trial, self._offset = search.weighed, task.trial, offset
        self._prunes, self._name = search.pruner != "none", search.metrics[0].name
        self._end = config.trainer.max_steps if config.trainer.max_epochs is None else search.needs.steps
        self._seen = set(study.get_trials(deepcopy=False)[task.trial.number].intermediate_values)

    def judge(self, step: int, figures: dict[str, float]) -> bool:
        """Whether the run ends here, as the pruner sees it. At the last validation it has ended anyway."""
        if self._name in figures:
            self._report(step, figures[self._name])
        return self._prunes and step < self._end and self._trial.should_prune()

    def of_record(self, path: Path) -> None:
        """Of an earlier attempt, or of a run that was trained for something else."""
        if self.silent:
            return
        try:
            kept = validations(path, self._name)
        except (OSError, ValueError):  # pyarrow's errors are ValueErrors: a file cut short, which the run writes anew
            return
        for step, value in kept:
            self._report(step, value)

    def _report(self, step: int, value: float) -> None:
        if self._offset + step not in self._seen:
            self._seen.add(self._offset + step)
            self._trial.report(value, self._offset + step)
