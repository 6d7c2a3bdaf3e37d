"""One score per run, and which runs may be compared: techniques, the settings they were tried in, and seeds."""

from __future__ import annotations

import math
from collections.abc import Collection as Collected
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gradflow.results import choices
from gradflow.runs.planfile import Collection

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Score:
    """One run's score.

    Attributes:
        labels: its choices; 'network' is among them where any run has a recurrent cell.
        state: 'completed', 'diverged', 'failed', 'running' …; 'missing' without a record.
        value: None unless completed; of a diverged run's figures none is from its end.
        task, metric: of which task, and which figure, e.g. 'test/accuracy'.
        larger_is_better: None where that is not known of the figure.
        chance: what the task's metric is without using the input; None where it is not known, or for another figure.
    """

    run_id: str
    labels: dict[str, Any]
    state: str
    value: float | None
    task: str
    metric: str
    larger_is_better: bool | None
    chance: float | None

    @property
    def counted(self) -> float | None:
        """What a comparison takes: a diverged run has learned nothing and scores chance. A run that failed, is missing
        or still under way has no score: that says nothing of its technique."""
        return self.chance if self.state == "diverged" else self.value


def scores(collection: Collection, value: str = "metric") -> list[Score]:
    """One score per planned run, in the order of the plan.

    Args:
        value: 'metric', the task's headline figure, or any figure of a result, such as 'val/loss'.
    """
    runs = choices.planned(collection)
    records = collection.found.records
    said: dict[str, dict[str, Any]] = {}  # a result of each task, for its runs that have none
    for run_id, labels in runs.items():
        record = records.get(run_id)
        if record is not None and record.result:
            said.setdefault(str(labels.get("task")), record.result)
    made = []
    for run_id, labels in runs.items():
        record = records.get(run_id)
        result = record.result if record is not None else None
        task = str(labels.get("task"))
        about = result or said.get(task)
        metric = value if value != "metric" or about is None else str(about["metric"])
        headline = about is not None and metric.rpartition("/")[2] == about["metric"].rpartition("/")[2]
        chance = about.get("chance") if about is not None and headline else None
        made.append(
            Score(
                run_id,
                labels,
                "missing" if record is None else record.state,
                figure(result, metric) if result and result["state"] == "completed" else None,
                task,
                metric,
                None if about is None else larger_is_better(metric, about),
                None if chance is None else float(chance),
            )
        )
    return made


def figures(result: dict[str, Any]) -> dict[str, float]:
    """Every finite number of a result under one name, such as 'val/loss', 'steps' or 'cost/train_seconds'."""
    flat = {**result["metrics"], "steps": result["steps"]}
    flat |= {f"cost/{name}": value for name, value in result["cost"].items()}
    return {name: float(value) for name, value in flat.items() if _is_figure(value)}


def figure(result: dict[str, Any], name: str) -> float | None:
    """One of `figures`; 'metric' is the task's headline figure. None where a run has no such figure."""
    if name == "metric":
        name = result["metric"]
    if name.startswith("cost/"):
        value = result["cost"].get(name.removeprefix("cost/"))
    else:
        value = result["steps"] if name == "steps" else result["metrics"].get(name)
    return float(value) if _is_figure(value) else None


def larger_is_better(name: str, result: dict[str, Any]) -> bool | None:
    """Of one of `figures`: the task says so of its metric, on whatever split; of a loss, and of what a run costs in
    seconds or bytes, less is better. None where nobody can say, as of 'steps'."""
    if name == "metric" or name.rpartition("/")[2] == result["metric"].rpartition("/")[2]:
        return bool(result.get("larger_is_better", True))
    if name.endswith("/loss") or (name.startswith("cost/") and name.endswith(("seconds", "bytes"))):
        return False
    return True if name == "cost/steps_per_second" else None


@dataclass(frozen=True)
class Techniques:
    """Runs arranged for comparisons: two techniques are compared where all else is equal.

    Attributes:
        by: the factors that name a technique.
        settings: the other choices that differ, e.g. ['task', 'depth'].
        with_it: keys such as 'optimizer.lr' that are set for each technique (in each setting) and so go with it.
        names: of the techniques, in order: numbers ascending, words as the plan first names them.
        cells: technique → setting → seed → the run's score.
    """

    by: list[str]
    settings: list[str]
    with_it: list[str]
    names: list[str]
    cells: dict[str, dict[Key, dict[Key, Score]]] = field(repr=False)

    def setting_words(self, setting: Key) -> str:
        """For a person: 'adding, depth 40'."""
        return ", ".join(word(key, value) for key, value in zip(self.settings, setting, strict=True))

    def strata(self, name: str, settings: Collected[Key]) -> list[list[float]]:
        """What a technique scored in each setting, a diverged run as chance; settings without a score are left out."""
        cells = self.cells[name]
        found = [[s.counted for s in cells.get(key, {}).values() if s.counted is not None] for key in settings]
        return [stratum for stratum in found if stratum]

    def shared(self) -> list[Key]:
        """Settings in which every technique has a score."""
        first, *others = self.names
        return [key for key in self.cells[first] if all(self.strata(name, [key]) for name in (first, *others))]

    def all_settings(self) -> list[Key]:
        """In the order of the plan."""
        return list(dict.fromkeys(key for cells in self.cells.values() for key in cells))


def techniques(found: Sequence[Score], by: Sequence[str]) -> Techniques:
    """Arrange runs by the factors that name a technique.

    What follows from the technique's own words is part of it: of 'recipe' its parts, of 'network' all that goes with
    each kind. So are keys with a dot, such as 'optimizer.lr', that each technique has its own value of. Any other
    choice that differs is a setting: runs are compared only where it is equal.
    """
    runs = [score.labels for score in found]
    differing = choices.differing(runs)
    names = _names(runs, by)
    candidates = [key for key in differing if key not in by and key not in ("recipe", "network")]
    own = [key for key in candidates if _is_part(key, by, runs)]
    settings = [key for key in candidates if key not in own and not choices.implied(key, runs)]
    with_it = []
    for key in [key for key in settings if "." in key and not key.startswith(("task.", "hardware."))]:
        rest = [*by, *(other for other in settings if other != key)]
        if _follows(key, rest, runs) and not _follows(key, rest[len(by) :], runs):
            settings.remove(key)
            with_it.append(key)
    settings = _fewest(settings, runs)
    seeds = choices.seeds(runs)
    cells: dict[str, dict[Key, dict[Key, Score]]] = {name: {} for name in names.values()}
    for score in found:
        labels = score.labels
        cell = cells[names[tuple(labels.get(key) for key in by)]]
        setting = cell.setdefault(tuple(labels.get(key) for key in settings), {})
        setting[tuple(labels.get(key) for key in seeds)] = score
    return Techniques(list(by), settings, with_it, list(names.values()), cells)


def default_technique(runs: Collected[dict[str, Any]]) -> list[str]:
    """What a technique is where nobody says: the network and the recipe where they vary, else every choice that is a
    word, but for the task and the hardware; else the last choice that varies."""
    varying = choices.varying(runs)
    joined = [key for key in varying if key in ("network", "recipe")]
    words = [key for key in varying if is_word(key, runs)]
    return joined or words or [key for key in varying if key != "task"][-1:] or ["recipe"]


def is_word(key: str, runs: Collected[dict[str, Any]]) -> bool:
    """Whether a choice is a technique's by its nature: words, but for what was learned and on what."""
    apart = key.partition(".")[0] in choices.ALWAYS_TOLD
    return not apart and any(isinstance(labels.get(key), str) for labels in runs)


def word(key: str, value: Any) -> str:
    """A choice for a person: 'relu' of an activation, 'depth 40' of a number, 'norm none' where there is none."""
    return value if isinstance(value, str) and value != "none" else f"{key} {plain(value)}"


def plain(value: Any) -> str:
    """As a config says it: 'relu', '40', 'true', 'null'."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _names(runs: Sequence[dict[str, Any]], by: Sequence[str]) -> dict[Key, str]:
    """Of each technique: 'relu · batch', without what is 'none' unless nothing else tells two apart."""
    keys = in_order([tuple(labels.get(key) for key in by) for labels in runs])
    if len(by) == 1:
        return {key: plain(key[0]) for key in keys}
    short = {key: " · ".join(word(b, v) for b, v in zip(by, key, strict=True) if v != "none") for key in keys}
    if len(set(short.values())) == len(short) and all(short.values()):
        return short
    return {key: " · ".join(word(b, v) for b, v in zip(by, key, strict=True)) for key in keys}


def in_order(keys: Sequence[Key]) -> list[Key]:
    """Each once: numbers ascending, words in the order in which they come; column by column."""
    distinct = list(dict.fromkeys(keys))
    places: list[dict[Any, int]] = []
    for column in zip(*distinct, strict=True):
        values = list(dict.fromkeys(column))
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            values.sort()
        places.append({value: place for place, value in enumerate(values)})
    return sorted(distinct, key=lambda key: [place[value] for place, value in zip(places, key, strict=True)])


def _is_part(key: str, by: Sequence[str], runs: Sequence[dict[str, Any]]) -> bool:
    """Whether a choice belongs to the technique itself."""
    factor = key.partition(".")[0]
    if factor in by:
        return True
    if "recipe" in by and factor in choices.PARTS:
        return _follows(key, by, runs)
    return "network" in by and factor not in choices.ALWAYS_TOLD and _follows(key, by, runs)


def _fewest(settings: Sequence[str], runs: Sequence[dict[str, Any]]) -> list[str]:
    """Without what follows from the others, such as the budget where each task has its own: they say the same."""
    known = [key for key in choices.FIRST if key in settings]
    kept = [*known, *sorted((key for key in settings if key not in known), key=lambda key: "." in key)]
    for key in kept[::-1]:
        if len(kept) > 1 and _follows(key, [other for other in kept if other != key], runs):
            kept.remove(key)
    return kept


def _follows(key: str, others: Sequence[str], runs: Sequence[dict[str, Any]]) -> bool:
    """Whether runs that share all other labels share this one."""
    seen: dict[Key, Any] = {}
    for labels in runs:
        value = labels.get(key)
        if seen.setdefault(tuple(labels.get(other) for other in others), value) != value:
            return False
    return True


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
