"""What is asked of a table of techniques, and what all such tables tell their reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradflow.errors import ConfigError, choose_from
from gradflow.results import choices
from gradflow.results.memory import Told, told_number
from gradflow.results.statistics.normalise import Normalised
from gradflow.results.statistics.runs import (
    Score,
    Techniques,
    default_technique,
    figures,
    in_order,
    scores,
    techniques,
    word,
)
from gradflow.results.table import Head
from gradflow.runs.planfile import Collection

Key = tuple[Any, ...]
LARGEST = 0.001  # p below it is only said to be


@dataclass(frozen=True)
class Asked:
    """A comparison of techniques.

    Attributes:
        by: factors that name a technique; `default_technique` unless given.
        rows: choices that divide the table: each part is compared on its own.
        value: 'metric' or a figure of a result of which it is known whether larger is better.
        references: by task, what a normalised score of 1 is.
    """

    by: Sequence[str] = ()
    rows: Sequence[str] = ()
    value: str = "metric"
    references: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """The runs that were asked about: `by` completed, and the scores of each part of the table, in order."""

    by: list[str]
    rows: list[str]
    scores: list[Score]
    parts: dict[Key, list[Score]]

    @property
    def technique(self) -> str:
        """What to call a technique."""
        return " · ".join(self.by)

    def labels(self, part: Key) -> dict[str, Any]:
        return dict(zip(self.rows, part, strict=True))


def look_up(collection: Collection, asked: Asked) -> Scored:
    """The scores that a table of techniques is about.

    Raises:
        ConfigError: for a choice or figure that there is not, or of which nobody can say what is better.
    """
    results = [record.result for record in collection.found.records.values() if record.result]
    allowed = ["metric", *({name for result in results for name in figures(result)} if asked.value != "metric" else [])]
    found = scores(collection, asked.value)
    runs = [score.labels for score in found]
    known = choices.keys(runs)
    faults = [
        f"{option} {name}: unknown; {choose_from(name, known)}"
        for option, names in (("--by", asked.by), ("--rows", asked.rows))
        for name in names
        if name not in known
    ]
    faults += [f"--rows {name}: is among --by already" for name in asked.rows if name in asked.by]
    if asked.value not in allowed:
        faults.append(f"--value {asked.value}: unknown; {choose_from(asked.value, allowed)}")
    elif results and all(score.larger_is_better is None for score in found):
        faults.append(
            f"--value {asked.value}: whether more of it is better is not known, so that nothing can be compared"
        )
    if faults:
        raise ConfigError(*faults)
    by = list(asked.by) or [key for key in default_technique(runs) if key not in asked.rows]
    if not by:
        raise ConfigError("--by: give the choices that name a technique, e.g. --by activation; none other varies")
    rows = list(asked.rows) or _apart(found, by)
    parts: dict[Key, list[Score]] = {}
    for score in found:
        parts.setdefault(tuple(score.labels.get(key) for key in rows), []).append(score)
    return Scored(by, rows, found, {key: parts[key] for key in in_order(list(parts))})


def _apart(found: Sequence[Score], by: Sequence[str]) -> list[str]:
    """['task'] where no two tasks were tried with the same techniques, so that each must be looked at by itself."""
    tried: dict[Key, set[str]] = {}
    for score in found:
        tried.setdefault(tuple(score.labels.get(key) for key in by), set()).add(score.task)
    several = len({score.task for score in found}) > 1
    return ["task"] if several and all(len(tasks) == 1 for tasks in tried.values()) else []


def arranged(part: Sequence[Score], by: Sequence[str]) -> tuple[Techniques, list[Key]]:
    """The techniques of a part that have any score, and the settings in which all of these do."""
    made = techniques(part, by)
    names = [name for name in made.names if made.strata(name, made.all_settings())]
    made = Techniques(made.by, made.settings, made.with_it, names, {name: made.cells[name] for name in names})
    return made, made.shared() if names else []


def nothing(scored: Scored) -> ConfigError:
    """Where no setting has a score of every technique."""
    divide = "--rows task looks at each task by itself; " if "task" not in scored.rows else ""
    return ConfigError(
        f"--by {','.join(scored.by)}: no setting in which two techniques or more all have a score; {divide}"
        "other choices may name techniques that share settings"
    )


def notes_of(
    scored: Scored, parts: Sequence[tuple[Techniques, Sequence[Key]]], left: Sequence[Key], chance: str = "chance"
) -> list[str]:
    """Who was compared where, and what became of runs without a score.

    Args:
        parts: those shown, with the settings that all their techniques share.
        left: those not shown.
        chance: what a diverged run scores.
    """
    notes = []
    settings = list(dict.fromkeys(key for made, _ in parts for key in made.settings))
    with_it = list(dict.fromkeys(key for made, _ in parts for key in made.with_it))
    if settings:
        notes.append(f"a setting: {', '.join(settings)}; runs of one setting differ in their seed")
    if with_it:
        notes.append(f"each {scored.technique} has its own {', '.join(with_it)}")
    out = sum(len(made.all_settings()) - len(shared) for made, shared in parts)
    if out:
        notes.append(f"{out} settings are left out: not every {scored.technique} has a score there")
    if left:
        names = "; ".join(", ".join(word(k, v) for k, v in scored.labels(part).items()) for part in left)
        notes.append(f"not shown, for want of two {scored.technique} that share settings: {names}")
    return notes + absent(scored.scores, chance)


def alone(parts: Sequence[tuple[Techniques, Sequence[Key]]]) -> list[str]:
    """Why there are no intervals where there are none."""
    sizes = {len(s) for made, shared in parts for name in made.names for s in made.strata(name, shared)}
    return (
        ["one run in each setting: a bootstrap has nothing to draw from, and gives no interval"] if sizes == {1} else []
    )


def absent(found: Sequence[Score], chance: str = "chance") -> list[str]:
    """How runs without a figure count."""
    states = Counter(score.state for score in found)
    notes = []
    diverged = [score for score in found if score.state == "diverged"]
    told = [score for score in diverged if score.chance is not None]
    if told:
        notes.append(f"{len(told)} diverged: each scores {chance}")
    if len(told) < len(diverged):
        notes.append(f"{len(diverged) - len(told)} diverged and are not counted: this figure has no score of chance")
    others = {state: count for state, count in states.items() if state not in ("completed", "diverged")}
    if others:
        shown = ", ".join(f"{count} {state}" for state, count in others.items())
        notes.append(f"{sum(others.values())} of {len(found)} runs have no result and are not counted: {shown}")
    without = sum(score.state == "completed" and score.value is None for score in found)
    return notes + ([f"{without} completed runs have no such figure and are not counted"] if without else [])


def scale(normalised: Normalised) -> list[str]:
    """What a normalised score is."""
    ones = ", ".join(
        f"{task} {value:g}" + ("" if task in normalised.stated else " (the perfect score)")
        for task, value in normalised.references.items()
    )
    notes = [f"normalised score: chance is 0, the reference is 1: {ones}"]
    if normalised.below:
        notes.append(f"{normalised.below} runs scored below chance and count as 0")
    return notes


def number(value: float | None) -> Told | None:
    """A figure without an interval."""
    return None if value is None else told_number(value)


def probability(p: float | None) -> Told | None:
    """'0.031', '< 0.001'."""
    return None if p is None else Told(f"{p:.3f}" if p >= LARGEST else f"< {LARGEST}", p)


def head(text: str, name: str = "", words: bool = False) -> Head:
    return Head(text, (), name or text, words)
