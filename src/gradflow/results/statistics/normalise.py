"""Scores on one scale for all tasks: chance = 0, a stated reference = 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gradflow.errors import ConfigError, choose_from
from gradflow.results.statistics.runs import Score

NAME = "normalised score"


@dataclass(frozen=True)
class Normalised:
    """Scores between chance and the reference of their task.

    Attributes:
        scores: larger is better; a diverged run's counts as 0.
        references: by task, what is 1.
        stated: tasks whose reference was given; of the others it is the perfect score.
        below: how many runs scored less than chance and count as 0.
    """

    scores: list[Score]
    references: dict[str, float]
    stated: list[str]
    below: int


def normalise(found: Sequence[Score], stated: Mapping[str, float] | None = None) -> Normalised:
    """(score − chance) ∕ (reference − chance), by task; what is below 0 counts as 0.

    A diverged run counts as 0 too, and a loss has no bound: without the floor, one that ends at a loss of 1e5 would
    count as worse than one that never ended, and alone decide a mean.

    Args:
        stated: reference by task; the perfect score unless given: 1 of an accuracy, 0 of an error.

    Raises:
        ConfigError: for a reference of an unknown task, or one that is chance; for a figure without a known chance.
    """
    stated = stated or {}
    tasks = list(dict.fromkeys(score.task for score in found))
    faults = [f"--reference {task}: unknown task; {choose_from(task, tasks)}" for task in stated if task not in tasks]
    references, chances = {}, {}
    for task in tasks:
        known = next((s for s in found if s.task == task and s.larger_is_better is not None), None)
        if known is None:
            continue  # no run of it has a result
        chance = next((s.chance for s in found if s.task == task and s.chance is not None), None)
        reference = stated.get(task, 1.0 if known.larger_is_better else 0.0)
        if chance is None:
            faults.append(
                f"{known.metric} of {task}: its score of chance is not known, so that it cannot be normalised"
            )
        elif reference == chance or (reference > chance) != known.larger_is_better:
            faults.append(f"--reference {task}={reference:g}: must be better than chance, which is {chance:g}")
        else:
            references[task], chances[task] = reference, chance
    if faults:
        raise ConfigError(*faults)
    made, below = [], 0
    for score in found:
        value = None
        if score.value is not None:
            chance = chances[score.task]
            raw = (score.value - chance) / (references[score.task] - chance)
            below += raw < 0
            value = max(0.0, raw)
        made.append(replace(score, value=value, metric=NAME, larger_is_better=True, chance=0.0))
    return Normalised(made, references, [task for task in tasks if task in stated], below)
