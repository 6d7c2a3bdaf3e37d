"""The kinds of pictures by their names. Each is imported when it is drawn: matplotlib takes half a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradflow.runs.planfile import Collection

if TYPE_CHECKING:
    from gradflow.results.pictures.sheet import Picture, Sheet

# What `Asked` says and a kind's `draw` takes; the order is that in which a person would look at them.
KINDS: dict[str, tuple[str, ...]] = {
    "metric": ("value", "x", "by"),
    "effects": ("value",),
    "profiles": ("value", "by"),
    "ranks": ("value", "by"),
    "curves": ("by",),
    "gradient_by_block": (),
    "time_gradient": ("by",),
    "heatmap": (),
    "trainability": ("value", "theory"),
    "phase": ("diagram",),
    "decay": (),
}
ON_THE_PAGE = ("heatmap", "gradient_by_block", "time_gradient", "decay", "curves")


@dataclass(frozen=True)
class Asked:
    """What a person can choose, or a caller can compute.

    Attributes:
        value: 'metric', or any figure of a result.
        x: the choice along the axis.
        by: the choice that tells lines, or techniques, apart.
        theory: see `gradflow.results.pictures.trainability`.
        diagram: see `gradflow.results.pictures.phase`.
    """

    value: str = "metric"
    x: str | None = None
    by: str | None = None
    theory: Callable[[str, list[float]], Any] | None = None
    diagram: Callable[[str], dict[str, Any] | None] | None = None


def draw(kind: str, collection: Collection, sheet: Sheet | None = None, asked: Asked | None = None) -> Picture:
    """One of `KINDS`, on the page unless another sheet is given.

    Raises:
        SaysNothing: with the reason, where it would say nothing of these runs.
        ConfigError: for a choice that no run has.
    """
    from gradflow.results.pictures.sheet import PAGE

    asked = asked or Asked()
    module = import_module(f"gradflow.results.pictures.{kind}")
    made: Picture = module.draw(
        collection, PAGE if sheet is None else sheet, **{name: getattr(asked, name) for name in KINDS[kind]}
    )
    return made
