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


HARDWARE = {
    "cpu": {"hardware": "cpu 32", "hardware.device": "cpu", "hardware.precision": "32", "hardware.threads": 1},
    "gpu": {"hardware": "cuda tf32", "hardware.device": "cuda", "hardware.precision": "tf32", "hardware.threads": 1},
}
BUDGET = ["metric", "metric@steps", "metric@time", "steps", "cost/train_seconds", "gradient_ratio", "verdict", "runs"]


def test_hardware_is_one_word_and_a_remedy_is_one_too(records):
    for hardware in HARDWARE.values():
        records.add(**hardware, remedy="none")
        records.add(**hardware, remedy="clip_norm", **{"remedy.clip_norm.max_norm": 1.0})
    table = table_of(records)
    assert table.rows == ["hardware", "remedy"]
    assert [tuple(line.labels.values()) for line in table.lines] == [
        (hardware, remedy) for hardware in ("cpu 32", "cuda tf32") for remedy in ("none", "clip_norm")
    ]


def test_what_the_word_does_not_imply_is_a_row_of_its_own(records):
    for threads in (1, 4):
        records.add(**HARDWARE["cpu"] | {"hardware.threads": threads}, remedy="none")
        for bound in (1.0, 5.0):
            labels = {"remedy": "clip_norm", "remedy.clip_norm.max_norm": bound, "hardware.threads": threads}
            records.add(**HARDWARE["cpu"] | labels)
    assert table_of(records).rows == ["hardware.threads", "remedy", "remedy.clip_norm.max_norm"]


def test_runs_on_different_hardware_are_compared_at_equal_steps_and_at_equal_time(records, validated):
    """The CPU makes 200 steps in 8 s; by when both seeds on the GPU are done, it has made 100."""
    for seed, better in ((0, 0.0), (1, 0.02)):
        cpu = {100: (4.0, 0.3 + better), 200: (8.0, 0.5 + better)}
        validated(cpu, 8.5, accuracy=0.5, seed=seed, **HARDWARE["cpu"])
        gpu = {100: (0.5, 0.31), 200: (1.0, 0.51), 300: (1.5, 0.6), 400: (2.0 + seed, 0.7 + better)}
        validated(gpu, 5.0 - seed, accuracy=0.7, seed=seed, **HARDWARE["gpu"])
    table = table_of(records)
    assert table.columns == BUDGET
    assert [table.header(c) for c in BUDGET[1:3]] == ["val accuracy at step 200", "val accuracy at 5 s"]
    cpu, gpu = (line.values for line in table.lines)
    assert (cpu["metric@steps"].mean, gpu["metric@steps"].mean) == (pytest.approx(0.51), pytest.approx(0.51))
    assert (cpu["metric@time"].mean, gpu["metric@time"].mean) == (pytest.approx(0.31), pytest.approx(0.71))
    assert cpu["metric@steps"].half == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([0.5, 0.52]))
    assert (cpu["steps"].mean, gpu["steps"].mean) == (200, 400)
    assert (cpu["cost/train_seconds"].mean, gpu["cost/train_seconds"].mean) == (8.5, 4.5)
    notes = "\n".join(table.notes)
    assert "at step 200: the largest at which every completed run was validated" in notes
    assert "at 5 s: each run's last validation within the time in which the quickest row completed" in notes


def test_a_run_without_a_validation_in_time_is_told_and_enters_no_mean(records, validated):
    validated({10: (0.5, 0.4), 20: (1.0, 0.8)}, 1.0)
    validated({10: (3.0, 0.6), 20: (6.0, 0.9)}, 6.0, depth=3)
    validated({10: (0.9, 0.5), 20: (1.8, 0.7)}, 2.0, depth=3, seed=1)
    table = table_of(records, None, ["metric@time", "metric@steps"])
    shown = [[(v.mean, v.count) for v in line.values.values()] for line in table.lines]
    assert shown == [[(0.8, 1), (0.8, 1)], [(0.5, 1), (pytest.approx(0.8), 2)]]
    assert any("1 of 3 had none by then and enter no mean" in note for note in table.notes)


def test_the_step_is_one_at_which_all_were_validated_not_one_that_all_passed(records, validated):
    validated({100: (1, 0.1), 200: (2, 0.2), 300: (3, 0.3)}, 3.0)
    validated({150: (1, 0.5), 300: (2, 0.6), 450: (3, 0.7)}, 3.0, width=16)
    table = table_of(records, None, ["metric@steps"])
    assert table.header("metric@steps") == "val accuracy at step 300"
    assert [line.values["metric@steps"].mean for line in table.lines] == [0.3, 0.6]


def test_diverged_and_unfinished_runs_set_neither_the_step_nor_the_time(records, validated):
    validated({100: (1.0, 0.1), 200: (2.0, 0.2)}, 2.0)
    validated({100: (0.01, 0.9)}, 0.02, seed=1, state="diverged")
    records.add(seed=2, state="preempted")
    table = table_of(records, None, ["metric@steps", "metric@time"])
    assert [table.header(c) for c in table.columns] == ["val accuracy at step 200", "val accuracy at 2 s"]
    assert [table.lines[0].values[c].mean for c in table.columns] == [0.2, 0.2]


def test_without_a_step_in_common_or_any_completed_run_there_is_no_figure(records, validated):
    validated({7: (1.0, 0.1)}, 1.0)
    validated({8: (1.0, 0.1)}, 1.0, seed=1)
    table = table_of(records, None, ["metric@steps"])
    assert (table.header("metric@steps"), table.lines[0].values["metric@steps"]) == (
        "val accuracy at no common step",
        None,
    )


def test_a_sweep_on_new_hardware_that_has_not_begun_has_a_table(records):
    for hardware in HARDWARE.values():
        records.add(state="missing", **hardware)
    table = table_of(records)
    assert table.columns == BUDGET
    assert [line.values["metric@time"] for line in table.lines] == [None, None]


@pytest.mark.parametrize(
    ("first", "second", "columns"),
    [
        ({}, {"depth": 3}, ["metric", "gradient_ratio", "verdict", "runs"]),
        (HARDWARE["cpu"], HARDWARE["cpu"] | {"depth": 3}, ["metric", "gradient_ratio", "verdict", "runs"]),
        ({"trainer.max_time": None}, {"depth": 3}, ["metric", "gradient_ratio", "verdict", "runs"]),
        (HARDWARE["cpu"], HARDWARE["cpu"] | {"hardware.threads": 2}, BUDGET),
        ({"trainer.max_time": "00:00:00:09"}, {"depth": 3, "trainer.max_time": None}, BUDGET),
    ],
    ids=["nothing", "one machine", "no clock", "threads", "clock"],
)
def test_equal_points_are_shown_where_time_can_tell_runs_apart(records, first, second, columns):
    records.add(**first)
    records.add(**second)
    assert table_of(records).columns == columns


def test_of_a_loss_smaller_is_better_and_the_table_says_so(records, validated):
    validated({10: (1.0, 0.2)}, 1.0, {"larger_is_better": False})
    assert "test accuracy: smaller is better" in table_of(records).notes


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


def test_pooled_hardware_is_told_in_one_word(records):
    for hardware in HARDWARE.values():
        records.add(**hardware)
    (note,) = [note for note in table_of(records, ["depth"]).notes if "differ in" in note]
    assert "differ in hardware:" in note


def test_the_table_of_a_real_sweep_shows_the_results_of_its_runs(baseline, evidence):
    table = make_table(collect(baseline.folder))
    (line,) = table.lines
    results = [evidence(baseline.shell.runs / run_id).result for run_id in baseline.run_ids]
    accuracies = [result["metrics"]["test/accuracy"] for result in results]
    assert line.values["metric"].mean == pytest.approx(sum(accuracies) / 4)
    assert line.values["metric"].half == pytest.approx(stats.t.ppf(0.975, 3) * stats.sem(accuracies))
    assert line.values["gradient_ratio"] == pytest.approx(stats.gmean([r["gradient"]["ratio"] for r in results]))
    assert line.values["runs"] == "4/4"
