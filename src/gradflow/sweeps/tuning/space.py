"""What is searched: keys of a config and the values they may take, read from Hydra's grammar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from gradflow.errors import ConfigError
from gradflow.runs.compose import Composer

LOG = "log"  # the one tag that says something here
MOST_POINTS = 100_000  # of a grid
DIGITS = 4  # of a number that is searched: no result hangs on the fifth, and tables can be read


@dataclass(frozen=True)
class Dimension:
    """One key that is searched.

    Attributes:
        key: as typed, e.g. 'optimizer.lr'.
        text: the values as typed.
        kind: numbers of an interval or of even steps, or a choice.
        low, high: of numbers, both included.
        step: between numbers; None where all are possible.
        log: whether numbers are drawn evenly on a logarithmic scale.
        words: of a choice, as one would type each.
        values: of a choice, as a config has them.
        group: whether a choice is between files of a config group.
    """

    key: str
    text: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    words: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    group: bool = False

    def points(self) -> list[Any] | None:
        """Every value that Optuna may suggest, in order; None where there is no end of them."""
        if self.kind == "choice":
            return list(self.words)
        if self.kind == "float" and self.step is None:
            return None
        step = self.step or 1
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        kind = int if self.kind == "int" else float
        return [kind(self.low + i * step) for i in range(min(count, MOST_POINTS))]

    def corners(self) -> list[Any]:
        """Values that stand for all: both ends of numbers, each of a choice."""
        if self.kind == "choice":
            return list(self.words)
        return [int(self.low), int(self.high)] if self.kind == "int" else [self.low, self.high]

    def value(self, suggested: Any) -> Any:
        """What a config has where Optuna suggests this: numbers have `DIGITS`, as a person would write them."""
        if self.kind == "choice":
            return self.values[self.words.index(suggested)]
        if self.kind == "int":
            return int(suggested)
        return min(max(float(f"{suggested:.{DIGITS}g}"), self.low), self.high)

    def shown(self, suggested: Any) -> Any:
        """The same for a table: of a choice the word."""
        return suggested if self.kind == "choice" else self.value(suggested)

    def word(self, suggested: Any) -> str:
        """What a person types to get it."""
        return f"{self.key}={suggested if self.kind == 'choice' else repr(self.value(suggested))}"


def read_dimension(composer: Composer, override: Override) -> Dimension:
    """One key's values.

    Raises:
        ConfigError: for values that cannot be searched.
    """
    line, key = str(override.input_line), override.get_key_element()
    text, value = line.partition("=")[2], override._value
    group = override.key_or_group in composer.groups()
    if override.is_choice_sweep():
        return choice(composer, override)
    if group:
        raise ConfigError(f"{line}: {key} is a choice between files and has no numbers; write {key}=A,B,C")
    assert isinstance(value, RangeSweep | IntervalSweep)
    tags = {str(tag) for tag in value.tags}
    if tags - {LOG}:
        raise ConfigError(f"{line}: tag '{min(tags - {LOG})}' says nothing here; allowed: {LOG}")
    if isinstance(value, IntervalSweep):
        return _interval(key, text, line, value, LOG in tags)
    if tags:
        raise ConfigError(f"{line}: steps are even, not logarithmic; write {key}=tag(log,interval(LOW,HIGH))")
    return _range(key, text, line, value)


def choice(composer: Composer, override: Override) -> Dimension:
    """The values of a key that can be counted: a,b,c; choice(a,b,c); glob(…); range(…).

    Raises:
        ConfigError: if there are none.
    """
    line, key = str(override.input_line), override.get_key_element()
    words = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not words:
        raise ConfigError(f"{line}: matches nothing")
    parsed = composer.parse([f"{key}={word}" for word in words])
    group = composer.is_group(parsed[0]) or override.key_or_group in composer.groups()
    values = tuple(each.value() for each in parsed)
    return Dimension(key, line.partition("=")[2], "choice", words=words, values=values, group=group)


def _interval(key: str, text: str, line: str, value: IntervalSweep, log: bool) -> Dimension:
    low, high = cast("float", value.start), cast("float", value.end)
    whole = isinstance(low, int) and isinstance(high, int)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{line}: must go from a number to a greater one")
    if log and low <= 0:
        raise ConfigError(f"{line}: a logarithmic interval must begin above 0")
    return Dimension(key, text, "int" if whole else "float", low, high, log=log)


def _range(key: str, text: str, line: str, value: RangeSweep) -> Dimension:
    kind: Literal["float", "int"] = "float"
    try:
        found = value.range()
        kind = "int" if isinstance(found, range) else "float"
        numbers = found if isinstance(found, range) else list(found)
    except (ValueError, ArithmeticError, HydraException) as error:
        raise ConfigError(f"{line}: {error}") from None
    if len(numbers) < 2:
        raise ConfigError(f"{line}: has {len(numbers)} values; a search needs at least two")
    low, high = min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
    return Dimension(key, text, kind, low, high, abs(cast("float", value.step)))
