"""What changed the most: the effect of each level of each factor, all else and the seed equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradflow.results import choices
from gradflow.results.estimate import mean_interval
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.runs import Score, Techniques, scores, techniques
from gradflow.runs.planfile import Collection


@dataclass(frozen=True)
class Effect:
    """Changing one factor's level, everything else and the seed equal.

    Attributes:
        task: of which task; metrics of different tasks are never mixed.
        metric: e.g. 'test/accuracy'.
        factor, level, reference: 'norm', 'batch' and 'none', the factor's first level: of words the first of the plan,
            of numbers the smallest.
        difference: mean paired difference level − reference in the metric's units; a diverged run scores chance.
        better: whether that difference is an improvement.
    """

    task: str
    metric: str
    factor: str
    level: str
    reference: str
    difference: Interval
    better: bool


def effects(collection: Collection, value: str = "metric") -> list[Effect]:
    """The effect of every level of every factor that varies, the largest difference first; one whose levels are never
    met with all else equal has none."""
    return effects_of(scores(collection, value))


def effects_of(found: Sequence[Score]) -> list[Effect]:
    made = []
    for task in dict.fromkeys(score.task for score in found):
        here = [score for score in found if score.task == task]
        if any(score.larger_is_better is not None for score in here):
            for factor in factors([score.labels for score in here]):
                made += _of_factor(techniques(here, [factor]), task, factor)
    return sorted(made, key=lambda effect: -abs(effect.difference.value))


def factors(runs: Sequence[dict[str, object]]) -> list[str]:
    """Choices whose effect can be asked for: all that differ, and 'recipe' or 'network' where these join several."""
    joined = [key for key in choices.varying(runs) if key in ("recipe", "network")]
    plain = [key for key in choices.differing(runs) if key not in ("recipe", "network")]
    return [*(key for key in plain if not choices.implied(key, runs)), *joined]


def _of_factor(arranged: Techniques, task: str, factor: str) -> list[Effect]:
    reference, *levels = arranged.names
    made = []
    for level in levels:
        pairs = [
            (score, other)
            for setting, seeds in arranged.cells[level].items()
            for seed, score in seeds.items()
            if (other := arranged.cells[reference].get(setting, {}).get(seed)) is not None
        ]
        differences = [s.counted - o.counted for s, o in pairs if s.counted is not None and o.counted is not None]
        difference = mean_interval(differences)
        if difference is not None:
            score = pairs[0][0]
            better = (difference.value > 0) == bool(score.larger_is_better) and difference.value != 0
            made.append(Effect(task, score.metric, factor, level, reference, difference, better))
    return made
