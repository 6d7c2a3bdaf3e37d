"""What the tasks of a folder's runs are judged by."""

from __future__ import annotations

from collections.abc import Iterator

from gradflow.runs.planfile import Collection, read_plan

Judged = tuple[str, tuple[str, bool]]  # a task's word; its metric, and whether larger is better
UNKNOWN = ("test/loss", False)  # of runs without a plan or a result


def judged(collection: Collection) -> dict[str, tuple[str, bool]]:
    """The metric of each task, and whether larger is better: as results say, else as the plan does."""
    tasks = dict.fromkeys(str(labels["task"]) for labels in collection.planned.values())
    found = dict(_by_results(collection))
    if tasks.keys() - found.keys():
        found = {**dict(_by_plan(collection)), **found}
    return {task: found.get(task, UNKNOWN) for task in tasks}


def _by_results(collection: Collection) -> Iterator[Judged]:
    for record in collection.found.records.values():
        if record.result is not None:
            larger = bool(record.result.get("larger_is_better", True))
            yield str(record.labels["task"]), (str(record.result["metric"]), larger)


def _by_plan(collection: Collection) -> Iterator[Judged]:
    plan = read_plan(collection.folder)
    if plan is None:
        return
    from gradflow.runs.build import make  # torch, which nothing else here needs

    for word, node in {run.labels["task"]: run.config["task"] for run in plan.runs if "task" in run.config}.items():
        task = make("task", node)
        yield str(word), (f"test/{task.metric}", task.larger_is_better)
