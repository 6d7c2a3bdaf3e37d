"""What a dashboard shows of which runs, in our own words; no wandb is needed for it."""

import subprocess
import sys

import pytest

from gradflow.results.choices import planned, varying
from gradflow.runs import wandb_keys as keys
from gradflow.runs.dashboards.panels import Bars, Code, Grid, Heading, Lines, Markdown, Parallel, Scatter
from gradflow.runs.dashboards.report import report
from gradflow.runs.dashboards.subject import MOST_IDS, general, subject_of
from gradflow.runs.dashboards.workspace import workspace
from gradflow.runs.planfile import collect

ACCURACY = {"digits": ("test/accuracy", True)}


def labels(**changed):
    recipe = {"activation": "relu", "init": "he_normal", "norm": "none", "skip": "none", "recipe": "relu · he_normal"}
    return {"task": "digits", "model": "mlp", **recipe, "depth": 2, "width": 8, "seed": 0, **changed}


def made_of(*runs, judged=ACCURACY, name="hand", group=None):
    return subject_of(name, {f"{i:012x}": run for i, run in enumerate(runs)}, varying, judged, group)


def panels(subject, title=None):
    return [panel for s in workspace(subject).sections if title in (None, s.title) for panel in s.panels]


def titles(subject):
    return [section.title for section in workspace(subject).sections]


DEEP = [labels(depth=depth, activation=word, recipe=word) for depth in (2, 40) for word in ("relu", "tanh")]


def test_sections_stand_in_the_order_in_which_a_person_asks():
    assert titles(made_of(*DEEP)) == [
        "Accuracy by factor",
        "Learning curves",
        "Gradient ratio by depth",
        "Gradient by block",
        "Heat maps",
        "Diagnosis",
        "Cost",
    ]


def test_the_choices_that_vary_decide_the_panels():
    first = panels(made_of(*DEEP), "Accuracy by factor")
    assert [panel.by for panel in first if isinstance(panel, Bars)] == ["depth", "activation"]
    (scatter,) = (panel for panel in first if isinstance(panel, Scatter))
    assert (scatter.x.key, scatter.x.log, scatter.y.key) == ("depth", True, "final/test/accuracy")
    (parallel,) = (panel for panel in first if isinstance(panel, Parallel))
    assert [axis.key for axis in parallel.axes] == ["depth", "activation", "gradient/ratio", "final/test/accuracy"]


def test_a_recipe_has_bars_of_its_own_and_its_parts_are_axes():
    runs = [labels(activation=a, norm=n, recipe=f"{a} · {n}") for a in ("relu", "tanh") for n in ("none", "batch")]
    first = panels(made_of(*runs), "Accuracy by factor")
    assert [panel.by for panel in first if isinstance(panel, Bars)] == ["recipe"]
    (parallel,) = (panel for panel in first if isinstance(panel, Parallel))
    assert [axis.key for axis in parallel.axes][:2] == ["activation", "norm"]


@pytest.mark.parametrize("runs", [DEEP, [labels(depth=2), labels(depth=40)]])
def test_no_panel_is_there_twice(runs):
    """Nor where curves are grouped by depth, for want of another choice."""
    for section in workspace(made_of(*runs)).sections:
        titles = [panel.title for panel in section.panels]
        assert len(titles) == len(set(titles)), section.title


def test_a_label_with_a_dot_is_the_key_that_runs_log():
    runs = [labels(**{"optimizer.lr": rate}) for rate in (0.001, 0.1)]
    bars = panels(made_of(*runs))[0]
    assert (bars.title, bars.by) == ("test accuracy by optimizer.lr", "optimizer-lr")


def test_deep_networks_are_shown_by_quantiles_and_never_by_a_key_that_they_do_not_log():
    subject = made_of(*DEEP)
    shown = {key for panel in panels(subject, "Gradient by block") for key in panel.metrics}
    logged = {key for depth in (2, 40) for key in keys.over_blocks("grad_norm", depth)}
    assert shown <= logged
    assert keys.quantity_key("grad_norm", "median") in shown
    shallow = made_of(labels(depth=3), labels(depth=30))
    for panel in panels(shallow, "Gradient by block"):
        assert set(panel.metrics) <= set(keys.over_blocks("grad_norm", 30))
        assert len(panel.metrics) <= 8
    last = panels(shallow, "Gradient by block")[-1].metrics
    assert (last[0], last[-1]) == ("gradflow/grad_norm/00", "gradflow/grad_norm/29")


RECURRENT = {"task": "adding", "model": "recurrent", "depth": 1, "recipe": "lstm"}


def test_recurrent_networks_have_a_time_axis_and_with_one_block_no_ratio():
    runs = [labels(**RECURRENT | {"cell": cell, "recipe": cell}) for cell in ("lstm", "rnn")]
    subject = made_of(*runs, judged={"adding": ("test/mse", False)})
    assert "Time axis" in titles(subject)
    assert "Gradient ratio by depth" not in titles(subject)
    assert titles(subject)[0] == "Metric by factor"
    axes = [axis.key for panel in panels(subject) if isinstance(panel, Parallel) for axis in panel.axes]
    assert keys.FINAL_RATIO not in axes  # W&B leaves out a run that lacks an axis
    curve = panels(subject, "Learning curves")[0]
    assert isinstance(curve, Lines)
    assert (curve.metrics, curve.by, curve.log) == (("val/mse",), "cell", True)
    both = made_of(
        labels(**RECURRENT, cell="lstm", **{"model.bidirectional": True}), judged={"adding": ("test/mse", 0)}
    )
    assert both.layers == ("00_forward", "00_backward")


def test_tasks_are_not_mixed_in_a_report_and_told_where_they_are_pooled():
    tasks = {"digits": ("test/accuracy", True), "mnist": ("test/accuracy", True), "adding": ("test/mse", False)}
    runs = [labels(task=task, depth=depth) for task in ("digits", "mnist") for depth in (2, 3)]
    runs += [labels(**RECURRENT | {"cell": cell, "recipe": cell}) for cell in ("lstm", "rnn")]
    subject = made_of(*runs, judged=tasks)
    assert [(aim.metric, aim.tasks) for aim in subject.aims] == [
        ("test/accuracy", ("digits", "mnist")),
        ("test/mse", ("adding",)),
    ]
    bars = [panel.title for panel in panels(subject, "Metric by factor") if isinstance(panel, Bars)]
    assert bars == [
        "test accuracy by task (2 tasks pooled)",
        "test accuracy by depth (2 tasks pooled)",
        "test mse by cell",
    ]
    grids = [block for block in report(subject, "", {}, None).blocks if isinstance(block, Grid)]
    assert [grid.runs.where for grid in grids[:3]] == [
        (("task", "digits"),),
        (("task", "mnist"),),
        (("task", "adding"),),
    ]
    assert [grid.runs.by[0].key for grid in grids[:3]] == ["depth", "depth", "cell"]


def test_a_report_holds_table_panels_and_the_command(records):
    records.add(depth=2)
    records.add(depth=3)
    collection = collect(records.sweep(command="gradflow sweep depth=2,3"))
    subject = subject_of(collection.name, planned(collection), varying, ACCURACY)
    blocks = report(subject, "2 runs", {"digits": "| depth |"}, "gradflow sweep depth=2,3").blocks
    assert Markdown("| depth |") in blocks
    assert Code("gradflow sweep depth=2,3") in blocks
    assert [block.text for block in blocks if isinstance(block, Heading) and block.level == 1] == [
        "Results",
        "By factor",
        "Gradient ratio by depth",
        "Gradient by block",
        "Heat maps",
        "Diagnosis",
        "Cost",
        "How to run this again",
    ]
    assert report(subject, "", {}, None).runs.ids == tuple(collection.planned)


def test_many_runs_are_chosen_by_their_group_so_that_a_view_stays_small():
    few = made_of(*[labels(seed=seed) for seed in range(3)], group="hand")
    assert (len(few.runs.ids), few.runs.group) == (3, None)
    many = made_of(*[labels(seed=seed) for seed in range(MOST_IDS + 1)], group="hand")
    assert (many.runs.ids, many.runs.group, many.count) == ((), "hand", MOST_IDS + 1)


@pytest.mark.parametrize(("name", "title"), [("a/b<c>☃", "gradflow a_b_c__"), ("…", "gradflow _"), ("x" * 300, None)])
def test_a_name_becomes_one_that_wandb_takes(name, title):
    made = made_of(labels(), name=name).title
    assert made == (title or "gradflow " + "x" * 100)


def test_without_a_folder_there_is_a_general_dashboard():
    assert titles(general()) == [
        "Metric by factor",
        "Learning curves",
        "Gradient ratio by depth",
        "Gradient by block",
        "Heat maps",
        "Time axis",
        "Diagnosis",
        "Cost",
    ]
    assert (general().title, general().runs.ids, general().runs.group) == ("gradflow", (), None)


def test_what_to_show_is_said_without_wandb():
    words = (
        "import sys, gradflow.runs.dashboards.report\nsys.exit(sum(name.startswith('wandb') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
