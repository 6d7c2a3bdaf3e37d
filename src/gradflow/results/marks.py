"""Which figure of a table is the best of those that compete, and which are not shown to be worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradflow.results import choices
from gradflow.results.estimate import point
from gradflow.results.statistics.paired import LEVEL, STUDENT, holm, paired_test
from gradflow.results.statistics.runs import Score, is_word, larger_is_better, scores, techniques

if TYPE_CHECKING:
    from gradflow.results.cells import Source
    from gradflow.results.table import Columns, Wanted

Key = tuple[Any, ...]
BEST, TIED = "best", "tied"


@dataclass
class Marked:
    """For each line the marks of its columns; and notes on how they were found."""

    lines: list[dict[str, str]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rival:
    """One cell among those that compete: where it stands, and what its runs score by the setting and seed they share
    with other cells' runs."""

    line: int
    column: str
    scores: dict[Key, float]
    completed: bool  # any of its runs


@dataclass
class Family:
    """What the tests of a table were, for the note."""

    tests: dict[str, None] = field(default_factory=dict)
    pairs: list[int] = field(default_factory=list)
    rivals: list[int] = field(default_factory=list)
    untested: int = 0


def mark(source: Source, wanted: Wanted, rows: Sequence[Mapping[Key, Sequence[str]]], columns: Columns) -> Marked:
    """Mark the best of every group of cells that differ in the technique alone, and those tied with it.

    Techniques compete on the same task, and where all else that is shown is equal: in a table of depth and recipe the
    recipes at each depth, whether they stand below or beside each other. A diverged run competes with the score of
    chance; a cell with one whose chance is not known does not compete. Where the best have all diverged, none is
    marked.
    """
    marked = Marked([{} for _ in rows])
    shown = [*wanted.rows, *wanted.cols]
    runs = list(source.planned.values())
    by = list(wanted.by) or [key for key in shown if is_word(key, runs)] or _last(shown)
    better = _directions(source, {value for _, value, _ in columns.values()})
    compared = {c: spec for c, spec in columns.items() if any(value == spec[1] for _, value in better)}
    if not by or not compared:
        return marked
    by_id = {score.run_id: score for score in scores(source.collection)}
    arranged = techniques(list(by_id.values()), by)
    rest = [key for key in arranged.settings if key not in shown]
    seeds = choices.seeds(runs)
    family = Family()
    groups: dict[Key, list[Rival]] = {}
    for place, row in enumerate(rows):
        for column, (across, value, statistic) in compared.items():
            run_ids = row.get(across, [])
            found = _scores(source, value, run_ids, by_id, [*rest, *seeds])
            if found:
                labels = source.planned[run_ids[0]]
                fixed = (labels["task"], *(labels.get(key) for key in shown if key not in by))
                completed = any(by_id[run_id].state == "completed" for run_id in run_ids)
                groups.setdefault((fixed, value, statistic), []).append(Rival(place, column, found, completed))
    for (fixed, value, statistic), rivals in groups.items():
        if len(rivals) > 1 and (fixed[0], value) in better:
            _judge(rivals, statistic, better[fixed[0], value], marked, family)
    marked.notes = _notes(family, by) if family.rivals else []
    return marked


def _last(shown: Sequence[str]) -> list[str]:
    """The choice that competes where none is a word."""
    return [key for key in shown[-1:] if key.partition(".")[0] not in choices.ALWAYS_TOLD and not choices.is_seed(key)]


def _judge(rivals: list[Rival], statistic: str, larger: bool, marked: Marked, family: Family) -> None:
    sign = 1 if larger else -1
    best = max(rivals, key=lambda rival: (sign * point(statistic, list(rival.scores.values())), rival.completed))
    if not best.completed:
        return
    others = [rival for rival in rivals if rival is not best]
    family.rivals.append(len(others))
    marked.lines[best.line][best.column] = BEST
    tests: list[float | None] = []
    for rival in others:
        differences = [rival.scores[key] - value for key, value in best.scores.items() if key in rival.scores]
        tested = paired_test(differences, len(others))
        tests.append(tested.p)
        if tested.p is None:
            family.untested += 1
        else:
            family.tests[tested.test] = None
            family.pairs.append(len(differences))
    for rival, p in zip(others, holm(tests), strict=True):
        if p is not None and p > LEVEL:
            marked.lines[rival.line][rival.column] = TIED


def _scores(
    source: Source, value: str, run_ids: Sequence[str], by_id: Mapping[str, Score], keys: Sequence[str]
) -> dict[Key, float]:
    """By setting and seed, of several runs of one their mean; empty where a diverged run has no score, so that its
    survivors do not compete alone, and where runs are of several tasks, whose metrics do not compare."""
    found: dict[Key, list[float]] = {}
    if len({by_id[run_id].task for run_id in run_ids}) > 1:
        return {}
    for run_id in run_ids:
        score = by_id[run_id]
        number = source.of_run(value, run_id)
        if score.state == "diverged":
            number = None if value.endswith("/loss") else score.chance
            if number is None:
                return {}
        if number is not None:
            found.setdefault(tuple(source.planned[run_id].get(key) for key in keys), []).append(number)
    return {key: math.fsum(numbers) / len(numbers) for key, numbers in found.items()}


def _directions(source: Source, values: set[str]) -> dict[tuple[str, str], bool]:
    """By task and value, whether larger is better; without values that are no score, such as a cost."""
    from gradflow.results.cells import is_figure

    scored = [value for value in values if is_figure(value) and not value.startswith("cost/")]
    found = {}
    for record in source.records.values():
        for value in scored if record.result else ():
            said = larger_is_better(value.partition("@")[0], record.result or {})
            if said is not None:
                found[record.labels["task"], value] = said
    return found


def _notes(family: Family, by: Sequence[str]) -> list[str]:
    note = f"bold: the best {' · '.join(by)}, all else that is shown equal; a diverged run counts as chance here"
    if not family.pairs:
        return [f"{note}; nothing is tested against it: cells share fewer than two seeds, or do not vary over them"]
    few, many = min(family.pairs), max(family.pairs)
    pairs = f"{few if few == many else f'{few} to {many}'} pairs of runs with the same seed"
    most = max(family.rivals)
    notes = [
        f"{note}; †: not shown to be worse than it ({' or '.join(family.tests)}, {pairs}, p > {LEVEL} after Holm over "
        f"the {most if len(set(family.rivals)) == 1 else f'up to {most}'} compared with it)"
    ]
    if STUDENT in family.tests:
        needed = next(n for n in range(2, 99) if 2.0 ** (1 - n) <= LEVEL / most)
        notes.append(
            f"{few} pairs cannot be significant by the signed-rank test, whose smallest p is {2.0 ** (1 - few):.2g}; "
            f"it takes {needed}. The t test can, but supposes normal differences: more seeds would say more"
        )
    if family.untested:
        notes.append(
            f"{family.untested} cells are not tested: they share fewer than two seeds with the best, or their "
            "differences from it are all equal"
        )
    return notes
