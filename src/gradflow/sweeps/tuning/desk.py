"""Where workers take trials from and bring what came of them: the budget is kept here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from gradflow.runs.identity import run_id
from gradflow.sweeps.tuning.journal import locked, open_studies, sampler_for, turn
from gradflow.sweeps.tuning.presence import is_alive
from gradflow.sweeps.tuning.search import Search, Technique

WORKER, ATTEMPTS, RUNS, WHY = "worker", "attempts", "run_ids", "why"  # user attributes of a trial
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Task:
    """A trial for a worker."""

    technique: Technique
    trial: Trial

    @property
    def params(self) -> dict[str, Any]:
        return self.trial.params


@dataclass(frozen=True)
class Tally:
    """Of one technique's trials.

    Attributes:
        complete, pruned, diverged, failed: those that have ended.
        running: those that have been taken.
        best: the value of the best one; of several metrics that of the first; None before one is complete.
    """

    complete: int
    pruned: int
    diverged: int
    failed: int
    running: int
    best: float | None

    @property
    def ended(self) -> int:
        return self.complete + self.pruned + self.diverged + self.failed


class Desk:
    """One worker's access to the studies of a search.

    A trial belongs to the budget from the moment it is taken. One whose worker has died, or has stopped in the middle,
    is not made anew: the next worker that asks goes on with it, so that a study ends with exactly as many trials as
    were planned.

    Args:
        folder: the sweep's.
        worker: this worker's name, from `present`.
        max_attempts: workers that may die of a trial before it counts as failed.
    """

    def __init__(self, folder: Path, search: Search, worker: str, max_attempts: int) -> None:
        self.folder, self.search, self.worker, self.max_attempts = folder, search, worker, max_attempts
        self.studies = open_studies(folder, search)
        self._turn = turn(folder)

    def take(self) -> Task | None:
        """The next trial: an abandoned one, or a new one of the technique that has had the fewest; None if there is
        none to be had, at the moment or at all; see `is_over`."""
        if self.is_over():
            return None
        with locked(self._turn):
            for technique in self.search.techniques:
                for frozen in trials_of(self.studies[technique.name]):
                    if frozen.state is TrialState.RUNNING and not self._is_at_work(frozen):
                        task = self._adopt(technique, frozen)
                        if task is not None:
                            return task
            taken = {t.name: self._taken(t) for t in self.search.techniques}
            behind = min(self.search.techniques, key=lambda technique: taken[technique.name])
            return self._ask(behind) if taken[behind.name] < self.search.trials else None

    def is_over(self) -> bool:
        """Whether every technique has had its budget."""
        return all(tally.ended >= self.search.trials for tally in tallies(self.studies, self.search).values())

    def complete(self, task: Task, values: list[float]) -> None:
        self.studies[task.technique.name].tell(task.trial, values)

    def prune(self, task: Task) -> None:
        self.studies[task.technique.name].tell(task.trial, state=TrialState.PRUNED)

    def diverge(self, task: Task, why: str) -> None:
        """A trial whose loss was not finite counts as pruned with the last value that it reported.

        Told as failed, TPE would not learn from it and go there again; a made-up worst value would stand in the figures
        and drown the differences that matter. TPE takes pruned trials for worse than all complete ones; CMA-ES, which
        learns from values alone, passes over them.
        """
        task.trial.set_user_attr(WHY, why)
        self.prune(task)

    def fail(self, task: Task, why: str) -> None:
        """A trial whose run ended in an exception: it would do so again, and counts."""
        task.trial.set_user_attr(WHY, why)
        self.studies[task.technique.name].tell(task.trial, state=TrialState.FAIL)

    def put_back(self, task: Task) -> None:
        """Leave a trial for the next worker."""
        task.trial.set_user_attr(WORKER, None)

    def _taken(self, technique: Technique) -> int:
        return sum(counts(trial) for trial in trials_of(self.studies[technique.name]))

    def _is_at_work(self, trial: FrozenTrial) -> bool:
        name = trial.user_attrs.get(WORKER)
        return name == self.worker or (name is not None and is_alive(self.folder, name))

    def _adopt(self, technique: Technique, frozen: FrozenTrial) -> Task | None:
        died = frozen.user_attrs.get(WORKER) is not None
        attempts = frozen.user_attrs.get(ATTEMPTS, 1) + died
        study = self.studies[technique.name]
        study.sampler = sampler_for(self.search, frozen.number)
        task = self._task(technique, optuna.trial.Trial(study, frozen._trial_id))
        if attempts > self.max_attempts:
            self.fail(task, f"its worker process died, attempt {self.max_attempts} of {self.max_attempts}")
            return None
        task.trial.set_user_attr(ATTEMPTS, attempts)
        return task

    def _ask(self, technique: Technique) -> Task | None:
        study = self.studies[technique.name]
        study.sampler = sampler_for(self.search, len(trials_of(study)))
        trial = study.ask()
        if sum(counts(each) for each in trials_of(study)[: trial.number]) >= self.search.trials:
            # the lock was taken for that of a dead process, and somebody else has asked meanwhile
            study.tell(trial, state=TrialState.FAIL)
            return None
        return self._task(technique, trial)

    def _task(self, technique: Technique, trial: Trial) -> Task:
        """The trial with all its parameters, of which an abandoned one may lack some."""
        trial.set_user_attr(WORKER, self.worker)
        suggest(trial, self.search)
        if RUNS not in trial.user_attrs:
            configs = [self.search.config(technique, trial.params, seed) for seed in self.search.seeds]
            trial.set_user_attr(RUNS, [run_id(config) for config in configs])
        return Task(technique, trial)


def suggest(trial: Trial, search: Search) -> None:
    """Give every key a value, by the study's sampler."""
    for dimension in search.dimensions:
        if dimension.kind == "choice":
            trial.suggest_categorical(dimension.key, dimension.words)
        elif dimension.kind == "int":
            step = int(dimension.step or 1)
            trial.suggest_int(dimension.key, int(dimension.low), int(dimension.high), step=step, log=dimension.log)
        else:
            trial.suggest_float(dimension.key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def trials_of(study: Study) -> list[FrozenTrial]:
    """As they are now, in the order of their numbers; not to be changed."""
    return study.get_trials(deepcopy=False)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the budget: not one that was given up before it had a run."""
    return trial.state is TrialState.RUNNING or (trial.state in ENDED and bool(trial.user_attrs.get(RUNS)))


def tallies(studies: dict[str, Study], search: Search) -> dict[str, Tally]:
    """How far each technique has got."""
    return {name: _tally(study, search) for name, study in studies.items()}


def _tally(study: Study, search: Search) -> Tally:
    trials = [trial for trial in trials_of(study) if counts(trial)]
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    diverged = sum(WHY in trial.user_attrs for trial in pruned)
    values = [trial.values[0] for trial in trials if trial.state is TrialState.COMPLETE]
    best = max if search.metrics[0].larger_is_better else min
    return Tally(
        complete=len(values),
        pruned=len(pruned) - diverged,
        diverged=diverged,
        failed=sum(trial.state is TrialState.FAIL for trial in trials),
        running=sum(trial.state is TrialState.RUNNING for trial in trials),
        best=best(values) if values else None,
    )
