"""The blocks of a W&B report: what a sweep asked, its table, its panels by choice, and how to run it again."""

from __future__ import annotations

from collections.abc import Mapping

from gradflow.runs import wandb_keys as keys
from gradflow.runs.dashboards.panels import Bars, Block, Code, Grid, Heading, Lines, Markdown, Report, RunSet, Words
from gradflow.runs.dashboards.subject import Aim, Factor, Subject
from gradflow.runs.dashboards.workspace import (
    READ_ME,
    TASK_KEY,
    VERDICT,
    cost,
    diagnosis,
    gradient_by_block,
    gradient_ratio,
    heat_maps,
    time_axis,
)


def report(subject: Subject, summary: str, tables: Mapping[str, str], command: str | None) -> Report:
    """The report of a sweep.

    Args:
        subject: what it is about.
        summary: one line on the states of its runs.
        tables: of each task its results in Markdown, as `gradflow table --format md` writes them.
        command: what was typed; None where no plan says so.
    """
    everything = RunSet("all runs")
    several = len(subject.studies) > 1
    blocks: list[Block] = [Words(summary), Heading("Results")]
    for task, table in tables.items():
        blocks += [*([Heading(task, 2)] if several else []), Markdown(table)]
    blocks += [Heading("By factor")]
    blocks += [block for study in subject.studies for block in _by_factor(study, several)]
    grids = {
        "Gradient ratio by depth": gradient_ratio(subject),
        "Gradient by block": gradient_by_block(subject),
        "Time axis": time_axis(subject),
        "Heat maps": heat_maps(subject),
    }
    for title, panels in grids.items():
        if panels:
            blocks += [Heading(title), Grid(everything, panels)]
    verdicts = tuple(Bars(f"{aim.title} by verdict", (keys.final(aim.metric),)) for aim in subject.aims)
    blocks += [Heading("Diagnosis"), Markdown(READ_ME), Grid(_by_verdict(), verdicts)]
    blocks += [Grid(everything, diagnosis(subject)[1:])]
    blocks += [Heading("Cost"), Grid(everything, cost(subject)), Heading("How to run this again")]
    if command is not None:
        blocks += [Code(command)]
    blocks += [Words("Every run's exact command and config are in its record, and on the page of gradflow report.")]
    description = f"Made by gradflow from the records of {subject.count} runs."
    return Report(subject.title, description, tuple(blocks), subject.runs)


def _by_factor(study: Aim, several: bool) -> list[Block]:
    """A grid per choice, its run set grouped by that choice; tasks apart from each other."""
    blocks: list[Block] = []
    task = f"{study.tasks[0]}: " if several else ""
    where = ((TASK_KEY, study.tasks[0]),) if several else ()
    for factor in study.factors:
        blocks.append(Heading(f"{task}{study.title} by {factor.label}", 2))
        blocks.append(Grid(RunSet(f"{task}by {factor.label}", (factor.axis,), where), _panels(study, factor)))
    return blocks


def _panels(aim: Aim, factor: Factor) -> tuple[Bars | Lines, ...]:
    return (
        Bars(f"{aim.title} by {factor.label}", (keys.final(aim.metric),), factor.key),
        Lines(
            f"{aim.curve.replace('/', ' ')} by {factor.label}",
            (aim.curve,),
            factor.key,
            log=not aim.larger_is_better,
        ),
        Lines(f"gradient ratio by {factor.label}", (keys.GRADIENT_RATIO,), factor.key, log=True),
    )


def _by_verdict() -> RunSet:
    """Its table counts the runs of each verdict."""
    return RunSet("by verdict", (VERDICT,))
