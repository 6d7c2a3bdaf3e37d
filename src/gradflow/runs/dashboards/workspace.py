"""The sections of a workspace. Each is a function of the subject, and is left out where it has nothing to show."""

from __future__ import annotations

from gradflow.diagnosis.verdicts import VERDICTS
from gradflow.runs import wandb_keys as keys
from gradflow.runs.dashboards.panels import (
    Axis,
    Bars,
    Importance,
    Lines,
    Note,
    Panel,
    Parallel,
    Pictures,
    Scatter,
    Section,
    Workspace,
)
from gradflow.runs.dashboards.subject import TASK, Subject

TASK_KEY = keys.config_key(TASK)
DEPTH = Axis("config", keys.config_key("depth"), "depth")
RATIO = Axis("summary", keys.FINAL_RATIO, "gradient ratio, first block ÷ last", log=True)
VERDICT = Axis("summary", keys.VERDICT, "verdict")
SECONDS = Axis("summary", keys.TRAIN_SECONDS, "seconds of training", log=True)
PARAMETERS = Axis("summary", keys.PARAMETERS, "parameters", log=True)
TRAIN_LOSS = "train/loss"
MOST_LINES = 8  # of blocks in one chart: W&B shows as many in colours that can be told apart

READ_ME = """**gradient ratio**: norm of the first block's gradient ÷ the last block's, geometric mean over training.
Near 1 the gradient arrives; far below it vanishes on the way, far above it explodes. Its axes are logarithmic.

**verdict**: `healthy`, `vanishing`, `exploding`, `dead`, `stagnant` …; the number and the threshold behind each sign
are in a run's summary under `diagnosis/`. A diverged run has no final metric, and is in no mean here.

Bars and bands: mean, smallest and largest of the runs of a group, over all that differs between them. Intervals over
seeds, and tests, are in `gradflow table` and on the page of `gradflow report`."""


def workspace(subject: Subject) -> Workspace:
    """What there is to see of a subject, section by section."""
    sections = [
        Section("Accuracy by factor" if _all_accuracy(subject) else "Metric by factor", by_factor(subject)),
        Section("Learning curves", learning_curves(subject)),
        Section("Gradient ratio by depth", gradient_ratio(subject)),
        Section("Gradient by block", gradient_by_block(subject)),
        Section("Heat maps", heat_maps(subject)),
        Section("Time axis", time_axis(subject)),
        Section("Diagnosis", diagnosis(subject)),
        Section("Cost", cost(subject), opened=False),
    ]
    columns = (VERDICT, Axis("summary", keys.STATE, "state"), *(aim.axis for aim in subject.aims), RATIO)
    factors = tuple(factor.axis for factor in subject.factors)
    return Workspace(
        subject.title, tuple(section for section in sections if section.panels), subject.runs, (*factors, *columns)
    )


def by_factor(subject: Subject) -> tuple[Panel, ...]:
    """The headline figure by each choice, over all of them at once, and which choice has the most to say about it."""
    panels: list[Panel] = []
    for aim in subject.aims:
        pooled = f" ({len(aim.tasks)} tasks pooled)" if len(aim.tasks) > 1 else ""
        for factor in aim.factors:
            title = f"{aim.title} by {factor.label}"
            panels.append(Bars(title + pooled, (keys.final(aim.metric),), factor.key))
            if factor.number:
                panels.append(Scatter(f"{title}, each run", factor.axis, aim.axis, RATIO if aim.deep else None))
        axes = (*(part.axis for part in aim.parts), *((RATIO,) if aim.deep else ()), aim.axis)
        panels.append(Parallel(f"{aim.title}: all choices at once", axes))
        panels.append(Importance(f"{aim.title}: which choice says the most", keys.final(aim.metric)))
    return tuple(panels)


def learning_curves(subject: Subject) -> tuple[Panel, ...]:
    """The headline figure on the validation split, and the training loss, over training steps."""
    panels: list[Panel] = []
    for aim in subject.aims:
        words = [factor for factor in aim.factors if not factor.number]
        for factor in dict.fromkeys((*words[:1], *aim.factors[:2])):
            title = f"{aim.curve.replace('/', ' ')} by {factor.label}"
            panels.append(Lines(title, (aim.curve,), factor.key, log=not aim.larger_is_better))
    panels.append(Lines(f"train loss by {subject.by.label}", (TRAIN_LOSS,), subject.by.key, log=True))
    return tuple(panels)


def gradient_ratio(subject: Subject) -> tuple[Panel, ...]:
    """Whether the gradient arrives, by depth, and how that changes over training. One block has no ratio."""
    if subject.depths[-1] == 1:
        return ()
    by = subject.by
    score = subject.aims[0].axis if len(subject.aims) == 1 else None
    panels: list[Panel] = [
        Scatter("gradient ratio by depth, each run", DEPTH, RATIO, score),
        Lines(f"gradient ratio over training, by {by.label}", (keys.GRADIENT_RATIO,), by.key, log=True),
    ]
    if len(subject.depths) > 1:
        panels.append(Lines("gradient ratio over training, by depth", (keys.GRADIENT_RATIO,), DEPTH.key, log=True))
    panels += [Scatter(f"{aim.title} by gradient ratio", RATIO, aim.axis, DEPTH) for aim in subject.aims if aim.deep]
    return _once(panels)


def gradient_by_block(subject: Subject) -> tuple[Panel, ...]:
    """Gradient norms of blocks as far apart as can be; of networks with too many for a chart each, their quantiles."""
    by = subject.by
    first = dict.fromkeys(_norm(keys.block(0, depth)) for depth in subject.depths)
    panels: list[Panel] = [Lines(f"gradient norm of the first block, by {by.label}", tuple(first), by.key, log=True)]
    shown = [depth for depth in subject.depths if depth > 1 and keys.per_block("grad_norm", depth)]
    if shown:
        blocks = _spread(shown[-1], MOST_LINES)
        norms = tuple(_norm(keys.block(block, shown[-1])) for block in blocks)
        panels.append(Lines("gradient norm by block, 00 is nearest the input", norms, log=True))
    if any(not keys.per_block("grad_norm", depth) for depth in subject.depths):
        quantiles = tuple(_norm(name) for name in keys.QUANTILES)
        panels.append(Lines("gradient norm over the blocks of deep networks", quantiles, log=True))
        title = f"smallest gradient norm of deep networks, by {by.label}"
        panels.append(Lines(title, (_norm("min"),), by.key, log=True))
    return tuple(panels)


def heat_maps(subject: Subject) -> tuple[Panel, ...]:
    """The images that each run has logged."""
    panels: list[Panel] = []
    if subject.depths[-1] > 1:
        panels.append(Pictures("gradient norm: block × training step", (keys.HEAT_MAP,)))
    if subject.layers:
        panels.append(Pictures("gradient: time step × training step", (keys.TIME_HEAT_MAP,)))
    if subject.depths[-1] > 1:
        panels.append(Lines("histogram of the blocks' gradient norms", (keys.BLOCK_NORMS,)))
    return tuple(panels)


def time_axis(subject: Subject) -> tuple[Panel, ...]:
    """How far back in a sequence the gradient reaches."""
    if not subject.layers:
        return ()
    by = subject.by
    decays = tuple(keys.quantity_key("time_decay", layer) for layer in subject.layers)
    horizons = tuple(keys.quantity_key("memory_horizon_1%", layer) for layer in subject.layers)
    return (
        Lines(f"decay of the gradient per time step, by {by.label}", decays, by.key),
        Lines(f"memory horizon in time steps, by {by.label}", horizons, by.key, log=True),
    )


def diagnosis(subject: Subject) -> tuple[Panel, ...]:
    """How many runs have which verdict, and which choices those are."""
    verdicts = tuple(keys.verdict_is(word) for word in VERDICTS)
    panels: list[Panel] = [
        Note("how to read this", READ_ME),
        Bars("runs by verdict", verdicts, TASK_KEY, "sum"),
        Bars(f"runs by verdict and {subject.by.label}", verdicts, subject.by.key, "sum"),
    ]
    for factor in subject.factors:
        panels.append(Bars(f"share of healthy runs by {factor.label}", (keys.verdict_is("healthy"),), factor.key))
    for aim in subject.aims:
        axes = (*(part.axis for part in aim.parts), *((RATIO,) if aim.deep else ()), VERDICT)
        panels.append(Parallel(f"verdict by choice, runs with a {aim.title}", axes))
    return tuple(panels)


def cost(subject: Subject) -> tuple[Panel, ...]:
    """What a run takes, and what that buys."""
    by = subject.by
    panels: list[Panel] = [
        Bars(f"seconds of training by {by.label}", (keys.TRAIN_SECONDS,), by.key),
        Bars(f"steps per second by {by.label}", (keys.STEPS_PER_SECOND,), by.key),
        Bars("seconds of training by depth", (keys.TRAIN_SECONDS,), DEPTH.key),
    ]
    panels += [Scatter(f"{aim.title} by seconds of training", SECONDS, aim.axis, DEPTH) for aim in subject.aims]
    panels += [Scatter(f"{aim.title} by parameters", PARAMETERS, aim.axis, DEPTH) for aim in subject.aims]
    return _once(panels)


def _once(panels: list[Panel]) -> tuple[Panel, ...]:
    """Where curves are grouped by depth, what is by depth is there already."""
    return tuple(dict.fromkeys(panels))


def _norm(where: str) -> str:
    return keys.quantity_key("grad_norm", where)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of 0 … count − 1, the first and the last among them, evenly apart.

    >>> _spread(4, 8), _spread(30, 4)
    ([0, 1, 2, 3], [0, 10, 19, 29])
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _all_accuracy(subject: Subject) -> bool:
    return all(aim.metric == "test/accuracy" for aim in subject.aims)
