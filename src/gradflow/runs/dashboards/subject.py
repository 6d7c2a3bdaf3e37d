"""What a dashboard is about: which choices vary, what is measured, how deep the networks are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gradflow.runs.dashboards.panels import Axis, Which
from gradflow.runs.planfile import RECIPE
from gradflow.runs.wandb_keys import block, config_key, final

Labels = dict[str, Any]  # of one run

TASK, DEPTH = "task", "depth"
LOG_FROM = 10  # largest ÷ smallest value of a number from which on it is drawn by its logarithm
MOST_FACTORS = 6  # with panels of their own: W&B's page is for looking, and a table has no such limit
MOST_IDS = 1000  # of runs in a filter; beyond that W&B's group stands for them, so that a view stays small
NAME = 100  # characters of a name; W&B takes 128 for a report's title


@dataclass(frozen=True)
class Factor:
    """A choice that differs between runs.

    Attributes:
        label: its name in tables, 'optimizer.lr'.
        number: whether its values are numbers.
        log: whether they are far enough apart for a logarithmic axis.
    """

    label: str
    number: bool = False
    log: bool = False

    @property
    def key(self) -> str:
        return config_key(self.label)

    @property
    def axis(self) -> Axis:
        return Axis("config", self.key, self.label, self.log)


@dataclass(frozen=True)
class Aim:
    """A headline figure, and the choices that its runs differ in.

    Attributes:
        tasks: words of the tasks that are judged by it; none: not known.
        metric: 'test/accuracy'.
        factors: choices, the most telling first.
        parts: the same in the smallest pieces: 'activation' and 'norm', where `factors` has 'recipe'.
        deep: whether all of its runs have more than one block, and with that a gradient ratio.
    """

    tasks: tuple[str, ...]
    metric: str
    larger_is_better: bool
    factors: tuple[Factor, ...]
    parts: tuple[Factor, ...]
    deep: bool = True

    @property
    def title(self) -> str:
        return self.metric.replace("/", " ")

    @property
    def axis(self) -> Axis:
        """Figures that fall towards zero are drawn by their logarithm."""
        return Axis("summary", final(self.metric), self.title, log=not self.larger_is_better)

    @property
    def curve(self) -> str:
        """The history's key of the same figure on the validation split."""
        return self.metric.replace("test/", "val/", 1)


@dataclass(frozen=True)
class Subject:
    """What is shown.

    Attributes:
        name: the sweep's; None: a whole project.
        runs: which of the project's runs.
        count: how many of them there are; 0: not known.
        studies: one aim per task.
        depths: different numbers of blocks, ascending.
        layers: the places in a key of the first layer of recurrent networks, '00', or of its two directions; none: no
            network has a time axis.
    """

    name: str | None
    runs: Which
    count: int
    studies: tuple[Aim, ...]
    depths: tuple[int, ...]
    layers: tuple[str, ...]

    @property
    def title(self) -> str:
        return "gradflow" if self.name is None else f"gradflow {self.name}"

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for study in self.studies for task in study.tasks)

    @property
    def aims(self) -> tuple[Aim, ...]:
        """One per metric: tasks that share one are pooled, and tell runs apart."""
        shared: dict[tuple[str, bool], list[Aim]] = {}
        for study in self.studies:
            shared.setdefault((study.metric, study.larger_is_better), []).append(study)
        return tuple(_pooled(studies) for studies in shared.values())

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Of all studies."""
        return _union(study.factors for study in self.studies)

    @property
    def by(self) -> Factor:
        """What curves and gradients are grouped by: the first choice of parts, which is a word; else the first."""
        words = [factor for factor in self.factors if not factor.number and factor.label != TASK]
        return (words or list(self.factors))[0]


def general() -> Subject:
    """A whole project, of which nothing is known but what all runs log."""
    depth = Factor(DEPTH, number=True)
    factors = (Factor("recipe"), depth, Factor(TASK))
    parts = (*(Factor(word) for word in ("activation", "init", "norm", "skip")), depth, Factor("width", number=True))
    studies = (Aim((), "test/accuracy", True, factors, parts), Aim((), "test/loss", False, factors, parts))
    return Subject(None, Which(), 0, studies, (10,), layers=("00",))


def subject_of(
    name: str,
    labels: Mapping[str, Labels],
    varying: Callable[[Collection[Labels]], list[str]],
    judged: Mapping[str, tuple[str, bool]],
    group: str | None = None,
) -> Subject:
    """A sweep, or any folder of runs.

    Args:
        name: what it is called; characters that W&B refuses in a view's name become '_'.
        labels: by run id, as the runs log them to W&B's config.
        varying: which labels tell some runs apart, as `gradflow.results.choices` has it. 'network', which is no label,
            stands for the model and the cell.
        judged: the metric of each task, and whether larger is better.
        group: the W&B group of the runs, which stands for more than `MOST_IDS`; None: they have none.
    """
    runs = list(labels.values())
    studies = []
    for task, (metric, larger) in judged.items():
        own = [run for run in runs if run[TASK] == task]
        factors, parts = _choices(varying(own), own)
        studies.append(Aim((task,), metric, larger, factors, parts, all(run[DEPTH] > 1 for run in own)))
    depths = sorted({int(run[DEPTH]) for run in runs})
    return Subject(
        name=_plain(name),
        runs=Which(tuple(labels)) if len(labels) <= MOST_IDS else Which(group=group),
        count=len(labels),
        studies=tuple(studies),
        depths=tuple(depths),
        layers=_layers([run for run in runs if run.get("cell")]),
    )


def _layers(recurrent: list[Labels]) -> tuple[str, ...]:
    places = (("forward", "backward") if run.get("model.bidirectional") else ("",) for run in recurrent)
    return tuple(dict.fromkeys(block(0, 1, f".{place}") for two in places for place in two))


def _choices(varying: list[str], runs: list[Labels]) -> tuple[tuple[Factor, ...], tuple[Factor, ...]]:
    words = [word for key in varying for word in (("model", "cell") if key == "network" else (key,))]
    factors = [_factor(word, runs) for word in dict.fromkeys(words) if _differs(word, runs)]
    factors = factors[:MOST_FACTORS] or [_factor(DEPTH, runs)]
    pieces = [_factor(word, runs) for word in RECIPE if _differs(word, runs)]
    parts = [part for factor in factors for part in (pieces if factor.label == "recipe" else [factor])]
    return tuple(factors), tuple(dict.fromkeys(parts))


def _factor(label: str, runs: Iterable[Labels]) -> Factor:
    """A choice as its values have it: a number wherever a run has it, and far apart or not."""
    values = [value for run in runs if (value := run.get(label)) is not None]
    number = bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return Factor(label, number, number and min(values) > 0 and max(values) >= LOG_FROM * min(values))


def _differs(label: str, runs: Iterable[Labels]) -> bool:
    return len({run.get(label) for run in runs}) > 1


def _pooled(studies: list[Aim]) -> Aim:
    first, several = studies[0], len(studies) > 1
    task = (Factor(TASK),) if several else ()
    return Aim(
        tuple(word for study in studies for word in study.tasks),
        first.metric,
        first.larger_is_better,
        _union((task, *(study.factors for study in studies))),
        _union((task, *(study.parts for study in studies))),
        all(study.deep for study in studies),
    )


def _union(many: Iterable[tuple[Factor, ...]]) -> tuple[Factor, ...]:
    """By label; one that is a number in some runs only is drawn as a word."""
    found: dict[str, Factor] = {}
    for factor in (factor for factors in many for factor in factors):
        other = found.get(factor.label, factor)
        number = factor.number and other.number
        found[factor.label] = Factor(factor.label, number, number and (factor.log or other.log))
    return tuple(found.values())


def _plain(name: str) -> str:
    """Letters, digits and a few signs: W&B refuses many symbols in a view's name."""
    return re.sub(r"[^\w .,+-]", "_", name).strip()[:NAME] or "sweep"
