"""`--kind aggregate`: one figure per technique over all its tasks and settings, of normalised scores."""

from __future__ import annotations

from gradflow.results.kinds.asked import Asked, alone, arranged, head, look_up, notes_of, nothing, scale
from gradflow.results.statistics import summary
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.normalise import normalise
from gradflow.results.statistics.resample import bootstrap_each
from gradflow.results.table import Line, Table, Value
from gradflow.runs.planfile import Collection

FIGURES = {
    "iqm": summary.iqm,
    "median": summary.median_of_means,
    "mean": summary.mean,
    "optimality_gap": summary.optimality_gap,
}
LARGER = {"iqm": True, "median": True, "mean": True, "optimality_gap": False}
HEADS = {"iqm": head("IQM"), "median": head("median"), "mean": head("mean"), "optimality_gap": head("optimality gap")}
HEADS["runs"] = head("runs")


def make_aggregate(collection: Collection, asked: Asked) -> Table:
    """IQM, median, mean and optimality gap of each technique, each with its stratified bootstrap interval.

    Only settings count in which every technique has a score: otherwise one is better for having skipped what is hard.

    Raises:
        ConfigError: as `look_up` and `normalise`; and where techniques share no setting.
    """
    scored = look_up(collection, asked)
    normalised = normalise(scored.scores, asked.references)
    by_id = {score.run_id: score for score in normalised.scores}
    lines, parts, left = [], [], []
    for part, runs in scored.parts.items():
        made, shared = arranged([by_id[score.run_id] for score in runs], scored.by)
        if not shared or len(made.names) < 2:
            left.append(part)
            continue
        parts.append((made, shared))
        strata = {name: made.strata(name, shared) for name in made.names}
        shown = {
            name: dict(zip(FIGURES, bootstrap_each(strata[name], list(FIGURES.values())), strict=True))
            for name in made.names
        }
        best = {column: _best(shown, column) for column in FIGURES}
        for name in made.names:
            labels = {**scored.labels(part), scored.technique: name}
            values: dict[str, Value] = {**shown[name], "runs": str(sum(map(len, strata[name])))}
            lines.append(Line(labels, values, {c: "best" for c in FIGURES if best[c] == name}))
    if not lines:
        raise nothing(scored)
    settings = sum(len(shared) for _, shared in parts)
    notes = [
        *scale(normalised),
        f"over {settings} settings; [95 % percentile interval of a bootstrap over seeds, within each setting]; bold: "
        "the best figure, untested: where intervals overlap widely nothing is shown",
        "IQM: mean of the middle half of the runs; median and mean: over the settings' means; optimality gap: how far "
        "scores fall short of 1, smaller is better",
        *alone(parts),
        *notes_of(scored, parts, left, "chance, which is 0"),
    ]
    what = "scores" if asked.value == "metric" else asked.value
    title = f"{collection.name}: normalised {what} by {scored.technique}"
    return Table(title, [*scored.rows, scored.technique], list(HEADS), "normalised score", lines, notes, HEADS)


def _best(shown: dict[str, dict[str, Interval]], column: str) -> str:
    sign = 1 if LARGER[column] else -1
    return max(shown, key=lambda name: sign * shown[name][column].value)
