"""`--kind pairs`: techniques compared two by two over seeds and settings."""

from __future__ import annotations

from collections.abc import Sequence

from gradflow.errors import ConfigError
from gradflow.results.kinds.asked import Asked, Key, absent, head, look_up, number, probability
from gradflow.results.statistics.compare import Comparison, compare
from gradflow.results.statistics.runs import techniques
from gradflow.results.table import Line, Table, Value
from gradflow.runs.planfile import Collection

HEADS = {
    "difference": head("b − a", "difference"),
    "effect": head("d_z", "effect size"),
    "p": head("p"),
    "p_holm": head("p Holm", "p Holm"),
    "improvement": head("P(better)", "probability of improvement"),
    "pairs": head("pairs"),
}


def make_pairs(collection: Collection, asked: Asked) -> Table:
    """A row for every two techniques that share a setting and a seed: the mean difference with Student's interval,
    effect size, p before and after Holm, and the probability of improvement with its bootstrap interval.

    Raises:
        ConfigError: as `look_up`; and where no two techniques were tried alike.
    """
    scored = look_up(collection, asked)
    found = [(part, each) for part, runs in scored.parts.items() for each in compare(runs, scored.by)]
    if not found:
        raise ConfigError(
            f"--by {','.join(scored.by)}: no two runs differ in it alone, all else and the seed equal; --by with all "
            "the choices that change together names techniques that can be compared"
        )
    tasks = dict.fromkeys(each.task for _, each in found)
    apart = ["task"] if len(tasks) > 1 and "task" not in scored.rows else []
    lines = []
    for part, each in found:
        labels = {**scored.labels(part), **({"task": each.task} if apart else {}), "a": each.a, "b": each.b}
        values: dict[str, Value] = {
            "difference": each.difference,
            "effect": number(each.effect_size),
            "p": probability(each.p),
            "p_holm": probability(each.p_holm),
            "improvement": each.improvement,
            "pairs": str(len(each.pairs)),
        }
        marks = {} if each.p_holm is None or each.p_holm > 0.05 else {"p_holm": "best"}
        lines.append(Line(labels, values, marks))
    metrics = sorted({each.metric for _, each in found})
    larger = sorted({each.metric for _, each in found if each.larger_is_better})
    notes = [
        f"b − a: mean difference in {' or '.join(metrics)} over pairs of runs that differ in {scored.technique} alone "
        "(same setting, same seed) ± half-width of the 95 % Student t interval",
        f"{' and '.join(larger)}: larger is better" if larger else "",
        *(f"{metric}: smaller is better" for metric in metrics if metric not in larger),
        "d_z: mean difference ÷ standard deviation of the differences; – where these do not vary",
        f"p: {_tests(found)}, two-sided; Holm's correction over all pairs of one task; bold: below 0.05",
        "P(better): that a run of b beats one of a in the same setting, a tie counted half, mean over settings "
        "[95 % stratified bootstrap interval]",
    ]
    alike = [[s for s in runs if s.task == task] for runs in scored.parts.values() for task in tasks]
    with_it = list(dict.fromkeys(key for runs in alike if runs for key in techniques(runs, scored.by).with_it))
    notes += [f"each {scored.technique} has its own {', '.join(with_it)}"] if with_it else []
    title = f"{collection.name}: {scored.technique} in pairs"
    metric = metrics[0] if len(metrics) == 1 else "metric"
    shown = [note for note in notes if note] + absent(scored.scores)
    return Table(title, [*scored.rows, *apart, "a", "b"], list(HEADS), metric, lines, shown, HEADS)


def _tests(found: Sequence[tuple[Key, Comparison]]) -> str:
    return " or ".join(dict.fromkeys(each.test for _, each in found))
