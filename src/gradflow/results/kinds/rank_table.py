"""`--kind ranks`: mean rank of each technique, and which cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from gradflow.errors import ConfigError
from gradflow.results.kinds.asked import Asked, Key, arranged, head, look_up, notes_of, number
from gradflow.results.statistics.ranks import Ranks, rank
from gradflow.results.statistics.runs import Techniques, word
from gradflow.results.table import Line, Table, Value
from gradflow.runs.planfile import Collection

HEADS = {"rank": head("mean rank"), "group": head("group", words=True), "blocks": head("blocks")}


def make_ranks(collection: Collection, asked: Asked) -> Table:
    """Mean rank over settings, each setting's score the mean over seeds; over seeds where there is one setting.

    Raises:
        ConfigError: as `look_up`; and where techniques share no setting.
    """
    scored = look_up(collection, asked)
    lines: list[Line] = []
    parts: list[tuple[Techniques, list[Key]]] = []
    left: list[Key] = []
    tests: list[str] = []
    for part, runs in scored.parts.items():
        made, shared = arranged(runs, scored.by)
        rows, kind = blocks(made, shared)
        if len(rows) < 2 or len(made.names) < 2:
            left.append(part)
            continue
        parts.append((made, shared))
        ranks = rank(rows)
        name = ", ".join(word(key, value) for key, value in scored.labels(part).items())
        tests.append(_tested(ranks, kind, len(made.names), name))
        for place in sorted(range(len(made.names)), key=ranks.mean.__getitem__):
            letters = "".join(ascii_lowercase[i % 26] for i, group in enumerate(ranks.groups) if place in group)
            values: dict[str, Value] = {
                "rank": number(ranks.mean[place]),
                "group": letters,
                "blocks": str(ranks.blocks),
            }
            labels = {**scored.labels(part), scored.technique: made.names[place]}
            lines.append(Line(labels, values, {"rank": "best"} if place in ranks.groups[0] else {}))
    if not lines:
        raise ConfigError(
            f"--by {','.join(scored.by)}: no two settings, nor two seeds of one, in which two techniques or more all "
            "have a score, so that there is nothing to rank"
        )
    notes = [
        "mean rank: 1 is the best of a block, ties share their mean rank",
        *tests,
        "techniques that share a letter cannot be told apart: their mean ranks differ by less than the critical "
        "difference (Nemenyi, 0.05); bold: those of the best group",
        *notes_of(scored, parts, left),
    ]
    title = f"{collection.name}: ranks by {scored.technique}"
    return Table(title, [*scored.rows, scored.technique], list(HEADS), "mean rank", lines, notes, HEADS)


def blocks(made: Techniques, shared: Sequence[Key]) -> tuple[list[list[float]], str]:
    """Blocks × techniques, larger is better: settings, or of a single one its seeds that all techniques have."""
    if len(shared) != 1:
        rows = [[_mean(made, name, setting) for name in made.names] for setting in shared]
        return rows, "settings"
    cells = [made.cells[name][shared[0]] for name in made.names]
    seeds = [seed for seed in cells[0] if all(seed in cell and cell[seed].counted is not None for cell in cells)]
    return [[_upwards(cell[seed].counted, cell[seed].larger_is_better) for cell in cells] for seed in seeds], "seeds"


def _mean(made: Techniques, name: str, setting: Key) -> float:
    found = [s for s in made.cells[name][setting].values() if s.counted is not None]
    return sum(_upwards(s.counted, s.larger_is_better) for s in found) / len(found)


def _upwards(value: float | None, larger_is_better: bool | None) -> float:
    assert value is not None  # only scores that count are ranked
    return value if larger_is_better else -value


def _tested(ranks: Ranks, kind: str, count: int, name: str) -> str:
    where = f"{name}: " if name else ""
    friedman = "all tied" if ranks.p is None else f"χ²({count - 1}) = {ranks.chi2:.2f}, p = {ranks.p:.2g}"
    return f"{where}Friedman's test over {ranks.blocks} {kind}: {friedman}; critical difference {ranks.critical:.2f}"
