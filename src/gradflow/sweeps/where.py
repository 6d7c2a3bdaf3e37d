"""Which cells of a grid are wanted: `sweep.where="not (norm=='none' and depth>50)"`, an expression and no program.

It knows names, numbers, words, comparisons (chained, and `in`), `and`, `or`, `not`, arithmetic, lists, and `min`, `max`
and `abs`. Names are those of a run's labels (`activation`, `optimizer.lr`, `recipe`) and of any key of its config.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gradflow.errors import ConfigError, choose_from

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
ORDERS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
SIGNS: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
YAML_WORDS = {"true": True, "false": False, "null": None}
KNOWN = "names, numbers, words in quotes, comparisons, in, and, or, not, + - * / // % **, [lists], min, max and abs"
LARGEST_POWER = 64

Look = Callable[[str], Any]


class Where:
    """A condition on cells.

    Args:
        text: the expression.
        source: where it stands, for messages.

    Attributes:
        names: that it asks for.

    Raises:
        ConfigError: if it cannot be read, or is more than an expression may be.
    """

    def __init__(self, text: str, source: str = "sweep.where") -> None:
        self.text, self.source = text, source
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise self._fault(f"cannot be read ({reason}); write e.g. \"not (norm=='none' and depth>50)\"") from None
        self._check(self._tree)
        self.names = _names(self._tree)

    def __call__(self, look: Look) -> bool:
        """Whether a cell is wanted.

        Args:
            look: a name's value in the cell; None for one that only other cells have.

        Raises:
            ConfigError: if values cannot be compared or computed with.
        """
        found = self._value(self._tree, look)
        if not isinstance(found, bool):
            raise self._fault(f"gives {found!r}, not true or false: compare it with something")
        return found

    def _value(self, node: ast.AST, look: Look) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            name = _dotted(node)
            return YAML_WORDS[name] if name in YAML_WORDS else look(name)
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(each, look) for each in node.elts]
        if isinstance(node, ast.BoolOp):
            return self._joined(node, look)
        if isinstance(node, ast.Compare):
            return self._compared(node, look)
        try:
            if isinstance(node, ast.UnaryOp):
                operand = self._value(node.operand, look)
                if isinstance(node.op, ast.Not) and not isinstance(operand, bool):
                    raise self._fault(f"'not {ast.unparse(node.operand)}': {operand!r} is neither true nor false")
                return SIGNS[type(node.op)](operand)
            if isinstance(node, ast.BinOp):
                left, right = self._value(node.left, look), self._value(node.right, look)
                if isinstance(node.op, ast.Pow) and isinstance(right, int | float) and abs(right) > LARGEST_POWER:
                    raise self._fault(f"'{ast.unparse(node)}': the largest power is {LARGEST_POWER}")
                return OPERATORS[type(node.op)](left, right)
            assert isinstance(node, ast.Call)
            assert isinstance(node.func, ast.Name)
            return FUNCTIONS[node.func.id](*(self._value(each, look) for each in node.args))
        except (TypeError, ZeroDivisionError, OverflowError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise self._fault(f"'{ast.unparse(node)}': {error}") from None

    def _joined(self, node: ast.BoolOp, look: Look) -> bool:
        ends = isinstance(node.op, ast.Or)  # the first true one ends an `or`, the first false one an `and`
        for each in node.values:
            found = self._value(each, look)
            if not isinstance(found, bool):
                raise self._fault(f"'{ast.unparse(each)}': {found!r} is neither true nor false")
            if found is ends:
                return ends
        return not ends

    def _compared(self, node: ast.Compare, look: Look) -> bool:
        left = self._value(node.left, look)
        for sign, other in zip(node.ops, node.comparators, strict=True):
            right = self._value(other, look)
            try:
                holds = _holds(sign, left, right)
            except TypeError:
                told = f"{_kind(left)} cannot be compared with {_kind(right)}"
                raise self._fault(f"'{ast.unparse(node)}': {told}") from None
            if not holds:
                return False
            left = right
        return True

    def _check(self, tree: ast.AST) -> None:
        """Refuse all that is more than an expression, before it is looked at with any cell."""
        allowed = (
            *(ast.Constant, ast.Name, ast.Attribute, ast.List, ast.Tuple, ast.BoolOp, ast.Compare, ast.UnaryOp),
            *(ast.BinOp, ast.Call, ast.And, ast.Or, ast.Load, ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot),
            *(*OPERATORS, *ORDERS, *SIGNS),
        )
        for node in ast.walk(tree):
            fine = isinstance(node, allowed)
            if isinstance(node, ast.Constant):
                fine = node.value is None or isinstance(node.value, bool | int | float | str)
            if isinstance(node, ast.Attribute):
                fine = isinstance(node.value, ast.Name | ast.Attribute)
            if isinstance(node, ast.Call):
                fine = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
            if not fine:
                shown = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
                raise self._fault(f"'{shown}' has no meaning here; allowed: {KNOWN}")

    def _fault(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.source}={self.text}: {reason}")


class Wanted:
    """Which cells several conditions want, and whether every name in them means something in any cell at all."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, Where], bool] = {}
        self._known: dict[str, None] = {}

    def keeps(self, conditions: Iterable[Where], known: Mapping[str, Any], key: Look) -> bool:
        """Whether all conditions want a cell.

        Args:
            known: the cell's labels.
            key: the value at a key of its config; raises `LookupError` for no such key.
        """

        def look(name: str) -> Any:
            return known[name] if name in known else key(name)

        def look_kindly(name: str) -> Any:
            try:
                return look(name)
            except LookupError:
                return None  # other cells have it, or `finish` will tell

        for condition in conditions:
            for name in condition.names:
                if not self._means.get((name, condition)):
                    try:
                        look(name)
                        self._means[name, condition] = True
                    except LookupError:
                        self._means[name, condition] = False
                        self._known.update(dict.fromkeys(known))
            if not condition(look_kindly):
                return False
        return True

    def finish(self) -> None:
        """Called after the last cell.

        Raises:
            ConfigError: for names that no cell has.
        """
        faults = [
            f"{where.source}={where.text}: '{name}' is a name in no cell; {choose_from(name, self._known)}"
            for (name, where), means in self._means.items()
            if not means
        ]
        if faults:
            raise ConfigError(*faults)


def _holds(sign: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(sign, ast.Eq | ast.Is):
        return bool(left == right)
    if isinstance(sign, ast.NotEq | ast.IsNot):
        return bool(left != right)
    if isinstance(sign, ast.In | ast.NotIn):
        return (left in right if right is not None else False) is isinstance(sign, ast.In)
    if left is None or right is None:
        return False  # a cell that has no such key, or null there, is neither above nor below
    return ORDERS[type(sign)](left, right)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    assert isinstance(node, ast.Name)
    return node.id


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        return [] if (name := _dotted(node)) in YAML_WORDS else [name]
    inner = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    return [name for each in inner for name in _names(each)]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return f"a number ({value:g})"
    return f"a word ('{value}')" if isinstance(value, str) else f"{value!r}"
