"""The table: which rows and columns, in what order, and that what has no result is told and enters no mean."""

import pytest
from scipy import stats

from gradflow.errors import ConfigError
from gradflow.results.table import make_table
from gradflow.runs.planfile import collect

HE, GLOROT, FAN_IN = ({"activation": a, "init": i} for a, i in (("relu", "he"), ("tanh", "glorot"), ("sigmoid", "fan")))


def table_of(records, rows=None, columns=None):
    return make_table(collect(records.sweep()), rows, columns)


def test_runs_that_differ_only_in_their_seed_share_a_row(records):
    for depth in (30, 2):
        for seed in range(3):
            split = {"task.split_seed": seed}
            records.add(depth=depth, seed=seed, accuracy=0.1 * seed + depth / 100, ratio=10.0**-seed, **split)
    table = table_of(records)
    assert (table.rows, table.columns) == (["depth"], ["metric", "gradient_ratio", "verdict", "runs"])
    assert [line.labels["depth"] for line in table.lines] == [2, 30]
    shown = table.lines[0].values
    assert (shown["metric"].mean, shown["metric"].count) == (pytest.approx(0.12), 3)
    assert shown["metric"].half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem([0.02, 0.12, 0.22]))
    assert shown["gradient_ratio"] == pytest.approx(0.1)
    assert (shown["verdict"], shown["runs"]) == ("healthy", "3/3")
    assert table.header("metric") == "test accuracy"


def test_a_recipe_is_one_row_label_where_several_of_its_parts_vary(records):
    for recipe in (FAN_IN, HE, GLOROT):
        for depth in (10, 2):
            records.add(**recipe, depth=depth)
    table = table_of(records)
    assert table.rows == ["depth", "recipe"]
    assert [tuple(line.labels.values()) for line in table.lines] == [
        (depth, recipe) for depth in (2, 10) for recipe in ("sigmoid · fan", "relu · he", "tanh · glorot")
    ]  # numbers ascending, words in the order of the plan


@pytest.mark.parametrize(
    ("varied", "rows"),
    [
        ([{"activation": "relu"}, {"activation": "tanh"}], ["activation"]),
        ([{"width": 8}, {"width": 16}], ["width"]),
        ([{"optimizer.lr": 0.1}, {"optimizer.lr": 0.01}], ["optimizer.lr"]),
        ([{"task": "mnist", "optimizer.lr": 0.1}, {"task": "digits", "optimizer.lr": 1}], ["task", "optimizer.lr"]),
        ([HE, GLOROT | {"width": 3, "depth": 7}], ["depth", "width", "recipe"]),
        ([{"seed": 0}, {"seed": 1}], ["depth"]),
        ([{}], ["depth"]),
    ],
    ids=str,
)
def test_rows_are_what_varies_apart_from_the_seed(records, varied, rows):
    for labels in varied:
        records.add(**labels)
    assert table_of(records).rows == rows


def test_rows_and_columns_can_be_chosen(records):
    for width in (16, 8):
        for seed in (0, 1):
            records.add(width=width, seed=seed, accuracy=0.25 + seed / 2)
    table = table_of(records, ["seed", "width"], ["val/loss", "steps", "cost/train_seconds", "runs"])
    assert [tuple(line.labels.values()) for line in table.lines] == [(0, 8), (0, 16), (1, 8), (1, 16)]
    values = table.lines[2].values
    assert list(values) == ["val/loss", "steps", "cost/train_seconds", "runs"]
    assert [values[name].mean for name in list(values)[:3]] == [1.5, 100.0, 1.5]


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (["dpeth"], None, ["--rows dpeth: unknown", "allowed: activation, depth", "did you mean 'depth'?"]),
        (None, ["val/los"], ["--cols val/los: unknown", "val/loss", "did you mean 'val/loss'?"]),
        (None, ["metrics"], ["--cols metrics: unknown", "did you mean 'metric'?"]),
        (["zz"], ["zz"], ["--rows zz: unknown", "--cols zz: unknown"]),
    ],
    ids=str,
)
def test_an_unknown_row_or_column_is_refused(records, rows, columns, told):
    records.add()
    with pytest.raises(ConfigError) as caught:
        table_of(records, rows, columns)
    assert [part for part in told if part not in str(caught.value)] == []


def test_what_has_no_result_is_told_counted_and_enters_no_mean(records):
    states = ["completed", "diverged", "failed", "preempted", "missing", "completed"]
    for seed, state in enumerate(states):
        error = "Traceback ...\nRuntimeError: x" if state == "failed" else None
        records.add(seed=seed, state=state, accuracy=0.5, verdict="vanishing", error=error, ratio=1e-6)
    table = table_of(records)
    (line,) = table.lines
    assert (line.values["metric"].mean, line.values["metric"].count) == (0.5, 2)
    assert line.values["runs"] == "3/6"
    assert line.values["verdict"] == "vanishing 2/6, diverged 1/6, preempted 1/6, failed 1/6, missing 1/6"
    notes = "\n".join(table.notes)
    assert "1 diverged" in notes
    assert "3 of 6 runs have no result and enter no mean" in notes


def test_a_row_of_runs_without_any_result_is_still_a_row(records):
    records.add(depth=2)
    records.add(depth=3, state="missing")
    records.add(depth=4, state="failed")
    lines = table_of(records).lines
    assert [(line.labels["depth"], line.values["metric"], line.values["verdict"]) for line in lines[1:]] == [
        (3, None, "missing"),
        (4, None, "failed"),
    ]


def test_diverged_runs_have_a_gradient_ratio_but_no_accuracy(records):
    records.add(state="diverged", ratio=1e5)
    records.add(state="diverged", ratio=None, seed=1)
    (line,) = table_of(records).lines
    assert line.values["metric"] is None
    assert line.values["gradient_ratio"] == pytest.approx(1e5)
    assert (line.values["verdict"], line.values["runs"]) == ("diverged", "2/2")


def test_a_row_that_pools_more_than_seeds_says_so(records):
    for depth, rate in ((2, 0.1), (2, 0.2)):
        records.add(depth=depth, accuracy=rate, **{"optimizer.lr": rate})
    assert table_of(records).rows == ["optimizer.lr"]
    pooled = table_of(records, ["depth"])
    assert any("differ in optimizer.lr" in note for note in pooled.notes)
    assert not any("differ in" in note for note in table_of(records).notes)


def test_the_table_of_a_real_sweep_shows_the_results_of_its_runs(baseline, evidence):
    table = make_table(collect(baseline.folder))
    (line,) = table.lines
    results = [evidence(baseline.shell.runs / run_id).result for run_id in baseline.run_ids]
    accuracies = [result["metrics"]["test/accuracy"] for result in results]
    assert line.values["metric"].mean == pytest.approx(sum(accuracies) / 4)
    assert line.values["metric"].half == pytest.approx(stats.t.ppf(0.975, 3) * stats.sem(accuracies))
    assert line.values["gradient_ratio"] == pytest.approx(stats.gmean([r["gradient"]["ratio"] for r in results]))
    assert line.values["runs"] == "4/4"
