"""A formula in x, and a condition on x: what a paper file may compute from a run's figure."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

from gradflow.errors import ConfigError
from gradflow.sweeps.where import OPERATORS, ORDERS

FUNCTIONS: dict[str, Callable[[float], float]] = {
    **{"log10": math.log10, "log": math.log, "exp": math.exp, "sqrt": math.sqrt, "abs": abs}
}
KNOWN = f"x, numbers, + - * / // % **, < <= > >=, {', '.join(FUNCTIONS)}"


class Arithmetic:
    """`100 * (1 - x)`, or `x <= 0.05`.

    >>> Arithmetic("100 * (1 - x)")(0.9125), Arithmetic("0 <= x <= 0.05")(0.06)
    (8.750000000000002, False)

    Args:
        source: what it is called in messages.

    Raises:
        ConfigError: for what is no such formula.
    """

    def __init__(self, text: str, source: str = "convert") -> None:
        self.text, self.source = text, source
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            raise self._fault("cannot be read") from None
        self._check(self._tree)

    def __call__(self, x: float) -> Any:
        """A number, or whether a condition holds. NaN where a formula has no value, as log10(0) or 1 / 0; a condition
        on NaN does not hold."""
        try:
            return self._value(self._tree, x)
        except (ValueError, ZeroDivisionError, OverflowError):
            return math.nan

    def _value(self, node: ast.AST, x: float) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return x
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](self._value(node.left, x), self._value(node.right, x))
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, x)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Compare):
            values = [self._value(each, x) for each in (node.left, *node.comparators)]
            return all(ORDERS[type(order)](a, b) for order, a, b in zip(node.ops, values[:-1], values[1:], strict=True))
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        return FUNCTIONS[node.func.id](self._value(node.args[0], x))

    def _check(self, node: ast.AST, within: bool = False) -> None:
        """Only one comparison, and that outermost."""
        inner: list[ast.AST]
        if (isinstance(node, ast.Constant) and type(node.value) in (int, float)) or (
            isinstance(node, ast.Name) and node.id == "x"
        ):
            inner = []
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            inner = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner = [node.operand]
        elif isinstance(node, ast.Compare) and not within and all(type(op) in ORDERS for op in node.ops):
            inner = [node.left, *node.comparators]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in FUNCTIONS
            and len(node.args) == 1
            and not node.keywords
        ):
            inner = list(node.args)
        else:
            raise self._fault(f"'{ast.unparse(node)}' has no meaning here")
        for each in inner:
            self._check(each, True)

    def _fault(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.source}={self.text}: {reason}; allowed: {KNOWN}")
