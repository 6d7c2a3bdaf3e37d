"""The end of a search: each technique's best settings, and a sweep that trains them on fresh seeds."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from gradflow.runs.config import Config
from gradflow.runs.identity import labels, run_id
from gradflow.runs.planfile import Plan, PlannedRun
from gradflow.sweeps.plan import Refused, check
from gradflow.sweeps.tuning.desk import trials_of
from gradflow.sweeps.tuning.search import Search, Technique

FEWEST = 5  # complete trials from which importance is told
TARGET = 0.1  # the share of trials that count as good, as in PED-ANOVA's paper; of few trials it is `FEWEST`


@dataclass(frozen=True)
class Final:
    """What is trained in the end.

    Attributes:
        lacking: techniques of which no trial is complete.
    """

    plan: Plan
    lacking: list[str]


def best_trial(study: Study, search: Search) -> FrozenTrial | None:
    """The best complete trial by the first metric; of equals the one that was taken first."""
    sign = -1 if search.metrics[0].larger_is_better else 1
    complete = [trial for trial in trials_of(study) if trial.state is TrialState.COMPLETE]
    return min(complete, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def plan_final(search: Search, studies: dict[str, Study], before: Plan | None, here: bool) -> Final:
    """The sweep that trains every technique's best settings on `Search.fresh` seeds.

    Several metrics have no best trial: it is then the best by the first.

    Args:
        before: what was planned last time, which stays where it is of the same runs.
        here: whether they will be trained on this machine, which must then have what they ask for.

    Raises:
        Refused: for a run that cannot start.
    """
    runs: list[PlannedRun] = []
    configs: list[tuple[str, Config]] = []
    lacking = []
    for technique in search.techniques:
        trial = best_trial(studies[technique.name], search)
        if trial is None:
            lacking.append(technique.name)
            continue
        for planned, config in _runs(search, technique, trial):
            runs.append(planned)
            configs.append((" ".join(planned.overrides), config))
    if before is not None and [run.run_id for run in before.runs] == [run.run_id for run in runs]:
        return Final(replace(before, command=search.command, runs_dir=search.runs_dir), lacking)
    from gradflow.runs.preflight import Preflight  # torch
    from gradflow.sweeps.estimate import Estimator

    preflight = Preflight(here)
    faults = check(configs, preflight.check, preflight.structure)
    if faults:
        raise Refused(faults, len(configs))
    estimate = Estimator(preflight)
    runs = [replace(run, estimate=estimate(config)) for run, (_, config) in zip(runs, configs, strict=True)]
    return Final(Plan(search.name, search.command, search.runs_dir, runs, made=time.time()), lacking)


def _runs(search: Search, technique: Technique, trial: FrozenTrial) -> list[tuple[PlannedRun, Config]]:
    made = []
    for seed in search.fresh:
        config = search.config(technique, trial.params, seed)
        overrides = search.overrides(technique, trial.params, seed)
        made.append((PlannedRun(run_id(config), overrides, labels(config), config.model_dump()), config))
    return made


def rows_of(search: Search, planned: list[dict[str, object]]) -> list[str]:
    """The choices that a table of the final sweep shows: what tells techniques apart, and all that was searched."""
    wanted = [key.lstrip("+") for key in (*search.per, *(d.key for d in search.dimensions))]
    return [key for key in wanted if any(key in labels for labels in planned)]


def importances(study: Study, search: Search) -> dict[str, float]:
    """How much each key tells good trials from the rest, in all 1; empty where too few are complete to tell.

    PED-ANOVA (Watanabe, Bansal & Hutter 2023) compares the values that good trials have with those of all. It looks
    at what leads to good values, where a variance over the whole space (fANOVA) is mostly that of its worst corner.
    Several metrics are weighed together: good trials are those that no other beats.
    """
    complete = sum(trial.state is TrialState.COMPLETE for trial in trials_of(study))
    if len(search.dimensions) < 2 or complete < 2 * FEWEST:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(TARGET, FEWEST / complete))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
