"""A paper's claim as a sentence that a machine checks: `error(plain,56) > error(plain,20)`.

Comparisons (<, <=, >, >=, chained, joined by `and`) of sums of measures of cells with numeric factors. The difference
of the two sides gets a 95 % interval from those of its measures by MOVER (method of variance estimates recovery): for
independent estimates θ_k with limits (l_k, u_k), Σ c_k θ_k has the limits

    Σ c_k θ_k ∓ √( Σ (c_k θ_k − that end of c_k (l_k, u_k))² )

(Zou & Donner 2008, Statistics in Medicine 27:1693; with Wilson's intervals of two proportions it is Newcombe's 1998
method 10. Ours are exact, which say less of few runs: three that all succeed against three that all fail show nothing,
as in Fisher's test). Cells share their seeds, and with them their batches: differences of what moves together are
narrower than this says. A claim is supported where the interval lies wholly on its side, contradicted where it lies
wholly on the other, undecided else, also where a cell has no interval (one seed).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gradflow.errors import ConfigError
from gradflow.results.statistics.interval import Interval

Key = tuple[str, ...]
Term = tuple[str, Key]  # a measure of a cell
Verdict = Literal["supported", "contradicted", "undecided", "not run"]
KNOWN = "measure(coordinates), numbers, + - * /, < <= > >=, and"


@dataclass(frozen=True)
class Linear:
    """constant + Σ factor · measure(cell)."""

    constant: float
    factors: Mapping[Term, float]

    def __add__(self, other: Linear) -> Linear:
        factors = dict(self.factors)
        for term, factor in other.factors.items():
            factors[term] = factors.get(term, 0.0) + factor
        return Linear(self.constant + other.constant, factors)

    def times(self, number: float) -> Linear:
        return Linear(self.constant * number, {term: factor * number for term, factor in self.factors.items()})


@dataclass(frozen=True)
class Comparison:
    """`difference` > 0 (≥ 0 counts alike: no interval tells them apart).

    Attributes:
        text: as written.
        difference: the larger side minus the smaller, as claimed.
    """

    text: str
    difference: Linear


@dataclass(frozen=True)
class Claimed:
    """A claim that was read: all of its comparisons are claimed."""

    text: str
    comparisons: tuple[Comparison, ...]

    def cells(self) -> list[Term]:
        return list(dict.fromkeys(term for each in self.comparisons for term in each.difference.factors))


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim.

    Attributes:
        verdict: of all of its comparisons together.
        parts: each comparison's verdict, and the difference with its interval; None where a cell was not run.
    """

    verdict: Verdict
    parts: tuple[tuple[Comparison, Verdict, Interval | None], ...]


def parse(text: str) -> Claimed:
    """Read a claim.

    Raises:
        ConfigError: for what is no comparison of measures.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise _fault(text, "cannot be read") from None
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    made = []
    for part in parts:
        if not isinstance(part, ast.Compare):
            raise _fault(text, f"'{ast.unparse(part)}' compares nothing")
        sides = [part.left, *part.comparators]
        for order, left, right in zip(part.ops, sides[:-1], sides[1:], strict=True):
            if not isinstance(order, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                raise _fault(text, f"'{ast.unparse(part)}' must compare by <, <=, > or >=")
            a, b = _linear(text, left), _linear(text, right)
            larger, smaller = (b, a) if isinstance(order, ast.Lt | ast.LtE) else (a, b)
            sign = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}[type(order)]
            difference = larger + smaller.times(-1.0)
            if not difference.factors:
                raise _fault(text, f"'{ast.unparse(part)}' has no measure in it")
            made.append(Comparison(f"{ast.unparse(left)} {sign} {ast.unparse(right)}", difference))
    return Claimed(text, tuple(made))


def judge(claimed: Claimed, value: Callable[[Term], Interval | None]) -> Finding:
    """What the runs say.

    Args:
        value: a measure of a cell with its interval; None where it has no run that counts.
    """
    parts: list[tuple[Comparison, Verdict, Interval | None]] = []
    for each in claimed.comparisons:
        values = {term: value(term) for term in each.difference.factors}
        known = {term: found for term, found in values.items() if found is not None}
        if len(known) < len(values):
            parts.append((each, "not run", None))
            continue
        difference = combine(each.difference, known)
        parts.append((each, _verdict(difference), difference))
    return Finding(_together([verdict for _, verdict, _ in parts]), tuple(parts))


def combine(sum_: Linear, values: Mapping[Term, Interval]) -> Interval:
    """The interval of a sum of independent estimates, by MOVER; without ends where one of them has none.

    Infinite estimates, as of a loss that overflowed, make an infinite sum.
    """
    total = sum_.constant + sum(factor * values[term].value for term, factor in sum_.factors.items() if factor)
    below, above = 0.0, 0.0
    count = min(each.count for each in values.values())
    for term, factor in sum_.factors.items():
        each = values[term]
        if each.low is None or each.high is None:
            return Interval(total, None, None, count)
        ends = sorted((factor * each.low, factor * each.high))
        below += (factor * each.value - ends[0]) ** 2
        above += (factor * each.value - ends[1]) ** 2
    return Interval(total, total - math.sqrt(below), total + math.sqrt(above), count)


def _verdict(difference: Interval) -> Verdict:
    if difference.low is None or difference.high is None:
        return "undecided"
    if difference.low > 0:
        return "supported"
    return "contradicted" if difference.high < 0 else "undecided"


def _together(verdicts: list[Verdict]) -> Verdict:
    """One comparison that is contradicted contradicts the whole, whatever was not run."""
    first: tuple[Verdict, ...] = ("contradicted", "not run", "undecided")
    return next((verdict for verdict in first if verdict in verdicts), "supported")


def _linear(text: str, node: ast.AST) -> Linear:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return Linear(float(node.value), {})
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _linear(text, node.operand).times(-1.0)
    if isinstance(node, ast.BinOp):
        left, right = _linear(text, node.left), _linear(text, node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left + right.times(-1.0)
        if isinstance(node.op, ast.Mult) and not (left.factors and right.factors):
            return left.times(right.constant) if left.factors else right.times(left.constant)
        if isinstance(node.op, ast.Div) and not right.factors and right.constant:
            return left.times(1 / right.constant)
        raise _fault(text, f"'{ast.unparse(node)}' is no sum of measures with numeric factors: multiply a ratio out")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return Linear(0.0, {(node.func.id, tuple(_coordinate(text, each) for each in node.args)): 1.0})
    raise _fault(text, f"'{ast.unparse(node)}' has no meaning here")


def _coordinate(text: str, node: ast.AST) -> str:
    """Coordinates are words; a number is one in its shortest form."""
    if isinstance(node, ast.Name):
        return node.id.lower() if node.id in ("True", "False") else node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return f"-{node.operand.value!s}"
    raise _fault(text, f"'{ast.unparse(node)}' is no coordinate: a plain word or a number")


def _fault(text: str, reason: str) -> ConfigError:
    return ConfigError(f"claims: '{text}': {reason}; allowed: {KNOWN}")
