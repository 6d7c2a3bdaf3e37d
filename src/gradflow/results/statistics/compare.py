"""Techniques compared two by two: the same setting, the same seed, one thing different."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from gradflow.results.estimate import mean_interval
from gradflow.results.statistics.improvement import probability_of_improvement
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.paired import effect_size, holm, paired_test
from gradflow.results.statistics.runs import Key, Score, Techniques, scores, techniques
from gradflow.runs.planfile import Collection


@dataclass(frozen=True)
class Pair:
    """The same setting and seed under both techniques; `a` and `b` are what they scored."""

    setting: str
    run_a: str
    run_b: str
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Two techniques on one task.

    Attributes:
        factor: what tells the techniques apart, e.g. 'activation', 'recipe' or 'activation,norm'.
        a, b: the techniques.
        pairs: a diverged run scores chance; runs without a score are in no pair.
        difference: mean of b − a in the metric's units, with Student's t interval over pairs.
        effect_size: Cohen's d_z of the paired differences; None where they do not vary.
        improvement: probability that b is better than a, over settings, with a stratified bootstrap interval.
        test: name of the paired test.
        p, p_holm: two-sided; corrected after Holm over all pairs of techniques of the same factor and task.
    """

    task: str
    metric: str
    larger_is_better: bool
    factor: str
    a: str
    b: str
    pairs: list[Pair]
    difference: Interval
    effect_size: float | None
    improvement: Interval
    test: str
    p: float | None
    p_holm: float | None


def comparisons(collection: Collection, factor: str, value: str = "metric") -> list[Comparison]:
    """Every two techniques that `factor` tells apart ('activation', 'recipe', 'activation,norm'), task by task."""
    return compare(scores(collection, value), factor.split(","))


def compare(found: Sequence[Score], by: Sequence[str]) -> list[Comparison]:
    """Every two techniques that have a setting and a seed in common, task by task, in the order of the plan."""
    made = []
    for task in dict.fromkeys(score.task for score in found):
        here = [score for score in found if score.task == task]
        better = next((score.larger_is_better for score in here if score.larger_is_better is not None), None)
        if better is not None:
            made += _of_task(techniques(here, by), task, better)
    return made


def _of_task(arranged: Techniques, task: str, larger_is_better: bool) -> list[Comparison]:
    met = [(a, b, pairs) for a, b in combinations(arranged.names, 2) if (pairs := _pairs(arranged, a, b))]
    made = [_compared(arranged, task, larger_is_better, a, b, pairs, len(met)) for a, b, pairs in met]
    corrected = holm([each.p for each in made])
    return [replace(each, p_holm=p) for each, p in zip(made, corrected, strict=True)]


def _pairs(arranged: Techniques, a: str, b: str) -> list[tuple[Key, Score, Score]]:
    of_a, of_b = arranged.cells[a], arranged.cells[b]
    return [
        (setting, score, other)
        for setting, seeds in of_a.items()
        if setting in of_b
        for seed, score in seeds.items()
        if score.counted is not None and (other := of_b[setting].get(seed)) is not None and other.counted is not None
    ]


def _compared(
    arranged: Techniques,
    task: str,
    larger_is_better: bool,
    a: str,
    b: str,
    met: list[tuple[Key, Score, Score]],
    tests: int,
) -> Comparison:
    words = {setting: arranged.setting_words(setting) for setting, _, _ in met}
    pairs = [
        Pair(
            ", ".join(filter(None, (words[setting], f"seed {x.labels.get('seed')}"))),
            x.run_id,
            y.run_id,
            _known(x.counted),
            _known(y.counted),
        )
        for setting, x, y in met
    ]
    differences = [pair.b - pair.a for pair in pairs]
    tested = paired_test(differences, tests)
    mean = mean_interval(differences)
    assert mean is not None  # there are pairs
    settings = [key for key in arranged.cells[a] if arranged.strata(a, [key]) and arranged.strata(b, [key])]
    of_a, of_b = arranged.strata(a, settings), arranged.strata(b, settings)
    improvement = probability_of_improvement(*((of_b, of_a) if larger_is_better else (of_a, of_b)))
    factor, metric = ",".join(arranged.by), met[0][1].metric
    return Comparison(
        *(task, metric, larger_is_better, factor, a, b, pairs, mean),
        *(effect_size(differences), improvement, tested.test, tested.p, None),
    )


def _known(value: float | None) -> float:
    assert value is not None  # only scores that count are paired
    return value
