"""Formulas in x."""

import math

import pytest

from gradflow.errors import ConfigError
from gradflow.papers.arithmetic import Arithmetic


@pytest.mark.parametrize(
    ("text", "x", "value"),
    [
        ("100 * (1 - x)", 0.25, 75.0),
        ("-x ** 2 + 3", 2.0, -1.0),
        ("log10(x)", 1000.0, 3.0),
        ("sqrt(abs(x)) / 2", -16.0, 2.0),
        ("x <= 0.05", 0.05, True),
        ("0.1 < x < 0.2", 0.2, False),
    ],
)
def test_a_formula_is_what_it_says(text, x, value):
    assert Arithmetic(text)(x) == pytest.approx(value)


@pytest.mark.parametrize(("text", "x"), [("log10(x)", 0.0), ("1 / x", 0.0), ("exp(x)", 1e9), ("x ** 9999", 10.0)])
def test_where_a_formula_has_no_value_it_is_not_a_number(text, x):
    assert math.isnan(Arithmetic(text)(x))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x +",
        "y",
        "__import__('os')",
        "x.real",
        "(x > 1) + 1",
        "x == 1",
        "'x'",
        "log10(x, 2)",
        "[x]",
        "x if x else 1",
        "True",
    ],
)
def test_nothing_else_is_read(text):
    with pytest.raises(ConfigError, match="allowed: x, numbers"):
        Arithmetic(text)
