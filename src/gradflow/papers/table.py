"""A paper's tables: published beside ours, the claims, and in what our runs depart from the paper's protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradflow.papers.claims import Finding, judge
from gradflow.papers.paper import PROVENANCE, Claim, Key, Paper, Published
from gradflow.papers.runs import PaperRuns
from gradflow.papers.values import Values
from gradflow.papers.verdicts import RULE, verdict
from gradflow.results.formats.words import text
from gradflow.results.memory import Told
from gradflow.results.statistics.interval import Interval
from gradflow.results.table import Head, Line, Table
from gradflow.runs.record import Record

HEADS = {
    "published": Head("published", (), "published"),
    "source": Head("source", (), "source", words=True),
    "ours": Head("ours", (), "ours"),
    "seeds": Head("seeds", (), "seeds"),
    "verdict": Head("verdict", (), "verdict", words=True),
}
CLAIM_HEADS = {
    "checked as": Head("checked as", (), "checked as", words=True),
    "difference": Head("difference", (), "difference"),
    "verdict": Head("verdict", (), "verdict", words=True),
    "source": Head("source", (), "source", words=True),
}
NOTHING = "no figure was published of it, and nothing has been run"
CLAIMS_RULE = (
    "claims: the difference of the two sides, as claimed, with its 95 % interval from those of the cells (MOVER; Zou & "
    "Donner 2008): supported where all of it is above 0, contradicted where all of it is below, else undecided"
)


@dataclass(frozen=True)
class PaperTable:
    """All that `gradflow paper table` shows.

    Attributes:
        scale: that of the runs; None where nothing was planned.
        reduced: whether any run departs from the paper's protocol.
        cells: a table for each measure.
        claims: what the runs say of each claim.
        deviations: of these runs from the paper's protocol, a sentence each.
    """

    paper: Paper
    name: str
    scale: str | None
    cells: list[Table]
    claims: list[tuple[Claim, Finding]]
    deviations: list[str]
    values: Values
    reduced: bool

    @property
    def title(self) -> str:
        return f"{self.paper.authors} {self.paper.year}, {self.paper.shows}"

    @property
    def told_scale(self) -> str:
        """'small scale', 'full scale', 'full scale, reduced'; empty where nothing was planned."""
        cut = ", reduced" if self.scale == "full" and self.reduced else ""
        return "" if self.scale is None else f"{self.scale} scale{cut}"

    def claims_table(self) -> Table:
        """The claims as a table; a claim of several comparisons has a line for each."""
        lines = []
        for claim, finding in self.claims:
            for comparison, of_part, difference in finding.parts:
                values = {"checked as": comparison.text, "difference": difference, "verdict": of_part}
                lines.append(Line({"claim": claim.says}, {**values, "source": claim.source}))
        return Table("Claims", ["claim"], list(CLAIM_HEADS), "", lines, [CLAIMS_RULE], CLAIM_HEADS)


def make_paper_table(name: str, paper: Paper, ran: PaperRuns | None, records: Mapping[str, Record]) -> PaperTable:
    """The tables of a paper.

    Args:
        ran: what was planned; None where nothing was: every cell is 'not run'.
        records: of those runs, as far as there are any.
    """
    values = Values(paper, {} if ran is None else ran.by_cell, records)
    claims = [(claim, judge(read, values)) for claim, read in zip(paper.claims, paper.claimed(), strict=True)]
    cells = [_of_measure(paper, measure, ran, values) for measure in paper.measures]
    deviations = list(_deviations(paper, ran, values))
    reduced = ran is not None and any(each.differs and values.done(each.key) for each in ran.cells)
    return PaperTable(paper, name, None if ran is None else ran.scale, cells, claims, deviations, values, reduced)


def _of_measure(paper: Paper, name: str, ran: PaperRuns | None, values: Values) -> Table:
    measure, printed = paper.measures[name], paper.printed(name)
    reduced = {each.key: bool(each.differs) for each in ran.cells} if ran is not None else {}
    lines = []
    for key in paper.cells():
        ours = values((name, key))
        if ours is None and key not in printed:
            continue
        number, block = printed.get(key, (None, None))
        lines.append(
            Line(
                dict(zip(paper.axes, key, strict=True)),
                {
                    "published": None if number is None or block is None else _printed(number, block),
                    "source": None if block is None else block.provenance,
                    "ours": ours,
                    "seeds": Told(str(ours.count), float(ours.count)) if ours is not None else None,
                    "verdict": _told(paper, key, ours, number, block, reduced.get(key, True)),
                },
            )
        )
    unit = f" ({measure.unit})" if measure.unit else ""
    return Table(
        f"{measure.label}{unit}",
        list(paper.axes),
        list(HEADS),
        "",
        lines,
        list(_notes(paper, name, values, lines)),
        HEADS,
    )


def _printed(number: float, block: Published) -> Told:
    return Told(f"{number:g}" + (" unverified" if block.provenance == "M" else ""), float(number))


def _told(
    paper: Paper, key: Key, ours: Interval | None, number: float | None, block: Published | None, reduced: bool
) -> str | None:
    if number is None or block is None:
        return "run at reduced scale" if reduced else None
    if not paper.has(key):
        return "quoted only"
    return verdict(ours, float(number), block, reduced)


def _notes(paper: Paper, name: str, values: Values, lines: list[Line]) -> Iterator[str]:
    measure = paper.measures[name]
    used = {str(line.values["source"]) for line in lines if line.values["source"] is not None}
    if used:
        yield "source of the published figure: " + ", ".join(
            f"{mark} {what}" for mark, what in PROVENANCE.items() if mark in used
        )
    for block in paper.published:
        if block.measure == name and block.note:
            yield f"published ({block.provenance}): {block.note}"
    if any(isinstance(line.values["ours"], Interval) for line in lines):
        how = (
            "share of runs with its exact 95 % interval (Clopper & Pearson)"
            if measure.share
            else "mean and 95 % interval (Student's t)"
        )
        yield f"ours: {how}" + (f"; counted: {measure.share}" if measure.share else "")
    if measure.better is not None:
        yield f"{measure.better} is better"
    if any(line.values["verdict"] in ("agrees", "differs") for line in lines):
        yield RULE
    absent: Counter[str] = values.absent.get(name, Counter())
    if absent:
        told = ", ".join(f"{count} {state}" for state, count in sorted(absent.items()))
        yield f"runs without such a figure, which enter no mean: {told}"


def _deviations(paper: Paper, ran: PaperRuns | None, values: Values) -> Iterator[str]:
    yield from paper.deviations
    if ran is None:
        return
    if ran.scale == "small" and paper.small.why:
        yield f"reduced scale: {paper.small.why}"
    wanted = paper.wanted("full")
    here = [each.key for each in ran.cells]
    left_out = [key for key in wanted if key not in here]
    if left_out:
        yield f"{len(left_out)} of the paper's {len(wanted)} cells are not run at this scale"
    beside = [key for key in here if key not in wanted]
    if beside:
        yield (
            f"{len(beside)} cells are beside the paper's: "
            + "; ".join(", ".join(key) for key in beside[:6])
            + (" …" if len(beside) > 6 else "")
        )
    if ran.seeds != paper.full.seeds:
        yield f"seeds: {ran.seeds} instead of {paper.full.seeds}"
    for key in dict.fromkeys(key for each in ran.cells for key in each.differs):
        yield _difference(key, ran)
    undone = sum(values.done(each.key) < len(each.runs) for each in ran.cells)
    if undone:
        yield f"{undone} of {len(ran.cells)} cells lack runs that were planned"


def _difference(key: str, ran: PaperRuns) -> str:
    """'trainer.max_steps: 1500 instead of 64000 (12 of 20 cells)'."""
    pairs = Counter(each.differs[key] for each in ran.cells if key in each.differs)
    count = sum(pairs.values())
    some = "" if count == len(ran.cells) else f" ({count} of {len(ran.cells)} cells)"
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return f"{key}: {_range(ours)} instead of {_range(theirs)}{some}"


def _range(values: list[Any]) -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) > 3 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in distinct):
        return f"{min(distinct)} to {max(distinct)}"
    return " or ".join("nothing" if value is None else str(value) for value in distinct)


def told_difference(difference: Interval | None) -> str:
    return "" if difference is None else text(difference)
