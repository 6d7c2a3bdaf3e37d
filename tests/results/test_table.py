"""The table: which rows and columns, in what order, and that what has no result is told and enters no mean."""

import itertools

import numpy as np
import pytest
from scipy import stats

from gradflow.errors import ConfigError
from gradflow.results.formats import text
from gradflow.results.memory import Told
from gradflow.results.table import Wanted, make_table
from gradflow.runs.planfile import collect

HE, GLOROT, FAN_IN = ({"activation": a, "init": i} for a, i in (("relu", "he"), ("tanh", "glorot"), ("sigmoid", "fan")))


def table_of(records, rows=None, values=None):
    return make_table(collect(records.sweep()), None, Wanted(rows=rows or (), values=values or ()))


def test_runs_that_differ_only_in_their_seed_share_a_row(records):
    for depth in (30, 2):
        for seed in range(3):
            split = {"task.split_seed": seed}
            records.add(depth=depth, seed=seed, accuracy=0.1 * seed + depth / 100, ratio=10.0**-seed, **split)
    table = table_of(records)
    assert (table.rows, table.columns) == (["depth"], ["metric", "gradient_ratio", "verdict", "runs"])
    assert [line.labels["depth"] for line in table.lines] == [2, 30]
    shown = table.lines[0].values
    assert (shown["metric"].value, shown["metric"].count) == (pytest.approx(0.12), 3)
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
    assert [values[name].value for name in list(values)[:3]] == [1.5, 100.0, 1.5]


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (["dpeth"], None, ["--rows dpeth: unknown", "allowed: activation, depth", "did you mean 'depth'?"]),
        (None, ["val/los"], ["--value val/los: unknown", "val/loss", "did you mean 'val/loss'?"]),
        (None, ["metrics"], ["--value metrics: unknown", "did you mean 'metric'?"]),
        (["zz"], ["zz"], ["--rows zz: unknown", "--value zz: unknown"]),
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
    assert (cpu["metric@steps"].value, gpu["metric@steps"].value) == (pytest.approx(0.51), pytest.approx(0.51))
    assert (cpu["metric@time"].value, gpu["metric@time"].value) == (pytest.approx(0.31), pytest.approx(0.71))
    assert cpu["metric@steps"].half == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([0.5, 0.52]))
    assert (cpu["steps"].value, gpu["steps"].value) == (200, 400)
    assert (cpu["cost/train_seconds"].value, gpu["cost/train_seconds"].value) == (8.5, 4.5)
    notes = "\n".join(table.notes)
    assert "at step 200: the largest at which every completed run was validated" in notes
    assert "at 5 s: each run's last validation within the time in which the quickest row completed" in notes


def test_a_run_without_a_validation_in_time_is_told_and_enters_no_mean(records, validated):
    validated({10: (0.5, 0.4), 20: (1.0, 0.8)}, 1.0)
    validated({10: (3.0, 0.6), 20: (6.0, 0.9)}, 6.0, depth=3)
    validated({10: (0.9, 0.5), 20: (1.8, 0.7)}, 2.0, depth=3, seed=1)
    table = table_of(records, None, ["metric@time", "metric@steps"])
    shown = [[(v.value, v.count) for v in line.values.values()] for line in table.lines]
    assert shown == [[(0.8, 1), (0.8, 1)], [(0.5, 1), (pytest.approx(0.8), 2)]]
    assert any("1 of 3 had none by then and enter no mean" in note for note in table.notes)


def test_the_step_is_one_at_which_all_were_validated_not_one_that_all_passed(records, validated):
    validated({100: (1, 0.1), 200: (2, 0.2), 300: (3, 0.3)}, 3.0)
    validated({150: (1, 0.5), 300: (2, 0.6), 450: (3, 0.7)}, 3.0, width=16)
    table = table_of(records, None, ["metric@steps"])
    assert table.header("metric@steps") == "val accuracy at step 300"
    assert [line.values["metric@steps"].value for line in table.lines] == [0.3, 0.6]


def test_diverged_and_unfinished_runs_set_neither_the_step_nor_the_time(records, validated):
    validated({100: (1.0, 0.1), 200: (2.0, 0.2)}, 2.0)
    validated({100: (0.01, 0.9)}, 0.02, seed=1, state="diverged")
    records.add(seed=2, state="preempted")
    table = table_of(records, None, ["metric@steps", "metric@time"])
    assert [table.header(c) for c in table.columns] == ["val accuracy at step 200", "val accuracy at 2 s"]
    assert [table.lines[0].values[c].value for c in table.columns] == [0.2, 0.2]


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
    assert [str(line.values["metric@time"]) for line in table.lines] == ["missing", "missing"]


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
    assert (line.values["metric"].value, line.values["metric"].count) == (0.5, 2)
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
        (3, Told("missing"), "missing"),
        (4, Told("failed"), "failed"),
    ]


def test_diverged_runs_have_a_gradient_ratio_but_no_accuracy(records):
    records.add(state="diverged", ratio=1e5)
    records.add(state="diverged", ratio=None, seed=1)
    (line,) = table_of(records).lines
    assert line.values["metric"] == Told("diverged 2/2")
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
    assert line.values["metric"].value == pytest.approx(sum(accuracies) / 4)
    assert line.values["metric"].half == pytest.approx(stats.t.ppf(0.975, 3) * stats.sem(accuracies))
    assert line.values["gradient_ratio"] == pytest.approx(stats.gmean([r["gradient"]["ratio"] for r in results]))
    assert line.values["runs"] == "4/4"


# --- pivoted ------------------------------------------------------------------------------------------------------


def pivot(records, **wanted):
    return make_table(collect(records.sweep()), None, Wanted(**wanted))


def cells(table):
    """Figures by row and column, as words."""
    return {
        tuple(line.labels.values()): {table.head(c).name: text(v) for c, v in line.values.items()}
        for line in table.lines
    }


@pytest.fixture
def square(records):
    """Depth × activation × norm, three seeds: relu with batch norm is the best at depth 2, tanh not far from it."""
    scores = {("relu", "none"): 0.6, ("relu", "batch"): 0.9, ("tanh", "none"): 0.3, ("tanh", "batch"): 0.89}
    noise = (-0.02, 0.0, 0.03)
    for (activation, norm), score in scores.items():
        for depth in (20, 2):
            for seed in range(3):
                own = 0.04 * ((seed + len(activation + norm) + depth) % 3)
                accuracy = (score + noise[seed] + own * (norm == "batch")) / (1 + depth / 20)
                records.add(depth=depth, activation=activation, norm=norm, seed=seed, accuracy=accuracy)
    return records


def test_choices_are_pivoted_across(square):
    table = pivot(square, rows=["depth"], cols=["activation", "norm"], values=["test/accuracy"])
    assert [line.labels for line in table.lines] == [{"depth": 2}, {"depth": 20}]
    heads = [(*head.above, head.text) for head in map(table.head, table.columns)]
    assert heads == [("relu", "norm none"), ("relu", "batch"), ("tanh", "norm none"), ("tanh", "batch")]
    assert table.title == "hand: test/accuracy"
    labels = collect(square.sweep()).planned
    for line in table.lines:
        pairs = itertools.product(("relu", "tanh"), ("none", "batch"))
        for column, (activation, norm) in zip(table.columns, pairs, strict=True):
            seen = [
                record.result["metrics"]["test/accuracy"]
                for run_id, record in collect(square.sweep()).found.records.items()
                if (labels[run_id]["depth"], labels[run_id]["activation"], labels[run_id]["norm"])
                == (line.labels["depth"], activation, norm)
            ]
            shown = line.values[column]
            assert (shown.value, shown.count) == (pytest.approx(np.mean(seen)), 3)
            low, high = stats.t.interval(0.95, 2, loc=np.mean(seen), scale=stats.sem(seen))
            assert (shown.low, shown.high) == pytest.approx((low, high))


def test_several_values_and_statistics_stand_under_each_choice(square):
    table = pivot(
        square, rows=["depth"], cols=["norm"], values=["metric", "val/loss", "runs"], statistics=["median", "range"]
    )
    heads = [(*head.above, head.text) for head in map(table.head, table.columns)]
    figures = [(value, statistic) for value in ("test accuracy", "val/loss") for statistic in ("median", "range")]
    assert heads == [(norm, *rest) for norm in ("norm none", "batch") for rest in [*figures, ("runs",)]]
    shown = table.lines[0].values["batch · val/loss range"]
    seen = [
        r.result["metrics"]["val/loss"]
        for r in collect(square.sweep()).found.records.values()
        if r.labels["norm"] == "batch" and r.labels["depth"] == 2
    ]
    assert (shown.value, shown.low, shown.high, shown.count) == (pytest.approx(np.mean(seen)), min(seen), max(seen), 6)
    assert "a cell pools runs that differ in activation" in "\n".join(table.notes)


def test_what_varies_and_is_not_pivoted_are_the_rows(square):
    assert pivot(square, cols=["norm"]).rows == ["depth"]
    assert pivot(square, cols=["depth"]).rows == ["recipe"]
    assert pivot(square, cols=["depth", "recipe"]).rows == ["task"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"cols": ["nrom"]}, "--cols nrom: unknown; allowed: activation, depth, "),
        ({"statistics": ["meen"]}, "--stat meen: unknown; allowed: iqm, mean, median, range; did you mean 'mean'?"),
        ({"rows": ["depth"], "cols": ["depth"]}, "--cols depth: is among --rows already"),
        ({"cols": ["norm", "norm"]}, "--cols norm: given twice"),
        ({"rows": ["depth"], "by": ["norm"]}, "--by norm: unknown; allowed: depth"),
    ],
    ids=str,
)
def test_what_cannot_be_pivoted_is_refused(square, wanted, told):
    with pytest.raises(ConfigError) as caught:
        pivot(square, **wanted)
    assert told in str(caught.value)


def test_a_cell_says_which_of_its_runs_do_not_enter(records):
    states = {"relu": ["completed", "diverged", "failed"], "tanh": ["diverged", "missing", "diverged"]}
    for activation, each in states.items():
        for seed, state in enumerate(each):
            records.add(activation=activation, seed=seed, state=state)
    records.add(depth=3, activation="relu")
    table = pivot(records, rows=["depth"], cols=["activation"])
    assert cells(table) == {
        (2,): {"relu · test/accuracy": "0.500", "tanh · test/accuracy": "diverged 2/3, missing 1/3"},
        (3,): {"relu · test/accuracy": "0.500", "tanh · test/accuracy": "–"},
    }
    assert table.lines[0].lacking == {"relu · metric": "1d 1f"}
    notes = "\n".join(table.notes)
    assert "3 diverged (non-finite loss)" in notes
    assert "2 of 7 runs have no result and enter no mean: 1 failed, 1 missing" in notes
    assert "raised: runs of a cell that enter its figure not (d: diverged, f: failed)" in notes
    assert "–: no such run is planned" in notes


# --- the best -----------------------------------------------------------------------------------------------------


def marks(table):
    return [{table.head(c).name: mark for c, mark in line.marks.items()} for line in table.lines]


def test_the_best_and_those_not_shown_to_be_worse_are_marked(square):
    """Against SciPy: paired t tests over the three seeds, Holm over the three compared with the best."""
    table = pivot(square, rows=["depth"], cols=["activation", "norm"])
    found = collect(square.sweep()).found.records.values()
    for line, marked in zip(table.lines, marks(table), strict=True):
        scores = {}
        for record in sorted((r for r in found if r.labels["depth"] == line.labels["depth"]), key=lambda r: r.run_id):
            key = (
                f"{record.labels['activation']} · {record.labels['norm'].replace('none', 'norm none')} · test/accuracy"
            )
            scores.setdefault(key, []).append(record.result["metrics"]["test/accuracy"])
        best = max(scores, key=lambda key: np.mean(scores[key]))
        others = [key for key in scores if key != best]
        ps = sorted((stats.ttest_rel(scores[key], scores[best]).pvalue, key) for key in others)
        expected, highest = {best: "best"}, 0.0
        for step, (p, key) in enumerate(ps):
            highest = max(highest, p * (len(ps) - step))
            if highest > 0.05:
                expected[key] = "tied"
        assert marked == expected
    notes = "\n".join(table.notes)
    assert "†: not shown to be worse than it (paired t, 3 pairs of runs with the same seed, p > 0.05" in notes
    assert "3 pairs cannot be significant by the signed-rank test, whose smallest p is 0.25; it takes 7" in notes


def test_techniques_compete_at_each_setting_whichever_way_the_table_lies(square):
    """In a list, down the rows of each depth; pivoted, across; a number never competes where words do."""
    bests = {(20, "relu · he_normal · batch"), (2, "relu · he_normal · batch")}
    listed = pivot(square)
    assert {tuple(line.labels.values()) for line in listed.lines if "best" in line.marks.values()} == bests
    across = pivot(square, rows=["depth"], cols=["recipe"])
    down = pivot(square, rows=["recipe"], cols=["depth"])
    assert [[c for c, m in line.marks.items() if m == "best"] for line in across.lines] == [
        ["relu · he_normal · batch · metric"]
    ] * 2
    assert [line.marks for line in down.lines if "best" in line.marks.values()] == [
        {"depth 2 · metric": "best", "depth 20 · metric": "best"}
    ]


def test_with_many_seeds_the_signed_rank_test_decides(records):
    random = np.random.default_rng(0)
    for seed, (x, y) in enumerate(random.normal(0.5, 0.05, (12, 2))):
        for activation, accuracy in (("relu", x + 0.2), ("tanh", x + 0.2 + (y - 0.5) / 5), ("sigmoid", x)):
            records.add(activation=activation, seed=seed, accuracy=accuracy)
    table = pivot(records)
    assert sorted(mark for line in table.lines for mark in line.marks.values()) == ["best", "tied"]
    assert "Wilcoxon signed-rank (exact), 12 pairs" in "\n".join(table.notes)
    assert "more seeds" not in "\n".join(table.notes)


def test_a_diverged_run_competes_with_the_score_of_chance(records):
    """The survivors of a technique that diverges half the time are not the best."""
    for seed in range(4):
        records.add(activation="relu", seed=seed, accuracy=0.8)
        records.add(activation="tanh", seed=seed, accuracy=0.9, state="completed" if seed % 2 else "diverged")
    table = pivot(records)
    assert table.lines[0].marks == {"metric": "best"}
    assert table.lines[1].values["metric"].value == pytest.approx(0.9)
    assert "a diverged run counts as chance here" in "\n".join(table.notes)


def test_cells_that_have_all_diverged_are_not_the_best_of_those_that_are_worse_than_chance(records):
    for seed in range(3):
        records.add(seed=seed, activation="relu", state="diverged")
        records.add(seed=seed, activation="tanh", accuracy=0.05 + seed / 1000)
    assert [line.marks for line in make_table(collect(records.sweep())).lines] == [{}, {}]


def test_a_single_seed_has_a_best_and_nothing_is_tested(records):
    for activation, accuracy in (("relu", 0.5), ("tanh", 0.6)):
        records.add(activation=activation, accuracy=accuracy)
    table = pivot(records)
    assert [line.marks for line in table.lines] == [{}, {"metric": "best"}]
    assert "nothing is tested against it" in "\n".join(table.notes)


def test_tasks_do_not_compete_and_of_an_error_less_is_better(records, recurrent):
    for seed in range(2):
        for task, shift in (("digits", 0.0), ("mnist", 0.3)):
            records.add(task=task, activation="relu", seed=seed, accuracy=0.5 + shift)
            records.add(task=task, activation="tanh", seed=seed, accuracy=0.4 + shift)
        for cell, error in (("rnn", 0.2), ("lstm", 0.1)):
            recurrent(curve={1: error + seed / 100}, cell=cell, seed=seed)
    table = pivot(records, rows=["task", "network", "recipe"], values=["metric"])
    best = [line.labels["task"] for line in table.lines if line.marks.get("metric") == "best"]
    assert best == ["digits", "mnist", "adding"]
    (adding,) = [line for line in table.lines if line.labels["task"] == "adding" and line.marks]
    assert adding.labels["network"] == "lstm"


def test_a_cell_of_several_tasks_does_not_compete(records):
    for task in ("digits", "mnist"):
        for activation, accuracy in (("relu", 0.5), ("tanh", 0.6)):
            records.add(task=task, activation=activation, accuracy=accuracy)
    table = pivot(records, rows=["activation"])
    assert [line.marks for line in table.lines] == [{}, {}]
    assert "differ in task" in "\n".join(table.notes)


def test_costs_and_words_are_not_marked(square):
    table = pivot(square, values=["cost/train_seconds", "verdict", "steps", "gradient_ratio"])
    assert [line.marks for line in table.lines] == [{}] * len(table.lines)
