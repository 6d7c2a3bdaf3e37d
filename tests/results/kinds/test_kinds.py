"""The tables of techniques: figures against rliable and SciPy on the same runs, and what they say of absent ones."""

import csv
import io

import numpy as np
import pytest
from rliable import metrics
from scipy import stats

from gradflow.errors import ConfigError
from gradflow.results import formats
from gradflow.results.kinds.aggregate import make_aggregate
from gradflow.results.kinds.asked import Asked
from gradflow.results.kinds.pairs import make_pairs
from gradflow.results.kinds.profiles import TAUS, make_profiles
from gradflow.results.kinds.rank_table import make_ranks
from gradflow.runs.planfile import collect

NAMES = ("relu", "tanh", "sigmoid")
TASKS = {"digits": 0.9, "mnist": 0.8}
MAKERS = (make_pairs, make_aggregate, make_ranks, make_profiles)


@pytest.fixture
def swept(records):
    """Three activations on two tasks at two depths, four seeds: scores[name] is runs × settings, as rliable has it."""
    random = np.random.default_rng(0)
    scores = {name: [] for name in NAMES}
    for task, top in TASKS.items():
        for depth in (2, 8):
            for place, name in enumerate(NAMES):
                column = np.clip(top - 0.12 * place * depth / 8 + random.normal(0, 0.05, 4), 0.11, 1)
                scores[name].append(column)
                for seed, accuracy in enumerate(column.tolist()):
                    records.add(task=task, depth=depth, activation=name, seed=seed, accuracy=accuracy)
    return records, {name: np.array(columns).T for name, columns in scores.items()}


def collected(swept):
    return collect(swept[0].sweep())


def figures(table, column):
    return {tuple(line.labels.values()): line.values[column] for line in table.lines}


def test_the_aggregate_is_rliables_of_normalised_scores(swept):
    table = make_aggregate(collected(swept), Asked())
    assert table.rows == ["activation"]
    normalised = {name: (scores - 0.1) / 0.9 for name, scores in swept[1].items()}
    theirs = {
        "iqm": metrics.aggregate_iqm,
        "median": metrics.aggregate_median,
        "mean": metrics.aggregate_mean,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }
    for column, function in theirs.items():
        shown = figures(table, column)
        assert {name: value.value for (name,), value in shown.items()} == {
            name: pytest.approx(function(scores)) for name, scores in normalised.items()
        }
        assert all(value.low <= value.value <= value.high for value in shown.values())
    assert {line.values["runs"] for line in table.lines} == {"16"}
    assert "normalised score: chance is 0, the reference is 1: digits 1 (the perfect score), mnist 1" in "\n".join(
        table.notes
    )


def test_references_can_be_stated_and_are_told(swept):
    table = make_aggregate(collected(swept), Asked(references={"mnist": 0.8}))
    scale = np.array([0.9, 0.9, 0.7, 0.7])
    expected = metrics.aggregate_iqm((swept[1]["relu"] - 0.1) / scale)
    assert figures(table, "iqm")[("relu",)].value == pytest.approx(expected)
    assert "digits 1 (the perfect score), mnist 0.8" in "\n".join(table.notes)


def test_ranks_are_of_the_settings_means(swept):
    table = make_ranks(collected(swept), Asked())
    means = np.array([swept[1][name].mean(axis=0) for name in NAMES])
    expected = stats.rankdata(-means, axis=0).mean(axis=1)
    shown = figures(table, "rank")
    assert {name: told.value for (name,), told in shown.items()} == dict(zip(NAMES, expected.tolist(), strict=True))
    friedman = stats.friedmanchisquare(*means)
    (note,) = [note for note in table.notes if note.startswith("Friedman")]
    assert f"over 4 settings: χ²(2) = {friedman.statistic:.2f}, p = {friedman.pvalue:.2g}" in note
    critical = stats.studentized_range.ppf(0.95, 3, np.inf) / np.sqrt(2) * np.sqrt(3 * 4 / (6 * 4))
    assert f"critical difference {critical:.2f}" in note


def test_of_a_single_setting_seeds_are_the_blocks(records):
    for seed in range(5):
        for place, name in enumerate(NAMES):
            records.add(activation=name, seed=seed, accuracy=0.9 - place / 10)
    table = make_ranks(collect(records.sweep()), Asked())
    assert figures(table, "rank") == figures(table, "rank")
    assert [(line.labels["activation"], str(line.values["rank"]), line.values["group"]) for line in table.lines] == [
        ("relu", "1.000", "a"),
        ("tanh", "2.000", "ab"),
        ("sigmoid", "3.000", "b"),
    ]
    assert "over 5 seeds" in "\n".join(table.notes)


def test_profiles_are_the_share_of_runs_above(swept):
    table = make_profiles(collected(swept), Asked())
    for name in NAMES:
        normalised = (swept[1][name] - 0.1) / 0.9
        shown = [line.values[name].value for line in table.lines]
        assert shown == pytest.approx([np.mean(normalised > tau) for tau in TAUS])


def test_pairs_are_scipys(swept):
    table = make_pairs(collected(swept), Asked(by=["activation"]))
    assert table.rows == ["task", "a", "b"]
    for place, task in enumerate(TASKS):
        columns = slice(2 * place, 2 * place + 2)
        for a, b in (("relu", "tanh"), ("relu", "sigmoid"), ("tanh", "sigmoid")):
            (line,) = [line for line in table.lines if tuple(line.labels.values()) == (task, a, b)]
            x, y = swept[1][a][:, columns], swept[1][b][:, columns]
            difference = (y - x).ravel()
            assert line.values["difference"].value == pytest.approx(difference.mean())
            low, high = stats.t.interval(0.95, 7, loc=difference.mean(), scale=stats.sem(difference))
            assert (line.values["difference"].low, line.values["difference"].high) == pytest.approx((low, high))
            assert line.values["effect"].value == pytest.approx(difference.mean() / difference.std(ddof=1))
            assert line.values["p"].value == pytest.approx(stats.wilcoxon(difference).pvalue)
            assert line.values["improvement"].value == pytest.approx(metrics.probability_of_improvement(y, x))
            assert line.values["pairs"] == "8"
    assert "Wilcoxon signed-rank (exact), two-sided" in "\n".join(table.notes)


def test_a_p_is_in_full_in_csv(records):
    for seed in range(12):
        for activation, accuracy in (("relu", 0.5), ("tanh", 0.7)):
            records.add(activation=activation, seed=seed, accuracy=accuracy + seed / (100 if accuracy > 0.6 else 90))
    table = make_pairs(collect(records.sweep()), Asked())
    (row,) = csv.DictReader(io.StringIO(formats.to_csv(table)))
    assert (float(row["p"]), str(table.lines[0].values["p"])) == (2.0**-11, "< 0.001")


def test_a_part_with_one_technique_is_told_and_not_shown(records):
    for depth, names in ((2, NAMES[:2]), (8, NAMES[:1])):
        for name in names:
            for seed in range(2):
                records.add(activation=name, depth=depth, seed=seed)
    table = make_aggregate(collect(records.sweep()), Asked(by=["activation"], rows=["depth"]))
    assert [tuple(line.labels.values()) for line in table.lines] == [(2, "relu"), (2, "tanh")]
    notes = "\n".join(table.notes)
    assert "over 1 settings" in notes
    assert "not shown, for want of two activation that share settings: depth 8" in notes


def test_rows_divide_a_table(swept):
    table = make_aggregate(collected(swept), Asked(rows=["depth"]))
    assert [tuple(line.labels.values()) for line in table.lines] == [(d, name) for d in (2, 8) for name in NAMES]
    expected = metrics.aggregate_iqm((swept[1]["tanh"][:, [1, 3]] - 0.1) / 0.9)
    assert figures(table, "iqm")[8, "tanh"].value == pytest.approx(expected)
    assert make_pairs(collected(swept), Asked(rows=["depth"])).rows == ["depth", "task", "a", "b"]


@pytest.mark.parametrize("make", MAKERS)
def test_absent_runs_are_counted_in_the_notes_of_every_table(records, make):
    for name in NAMES:
        for depth in (2, 8):
            for seed in range(3):
                state = {("tanh", 2, 0): "diverged", ("relu", 8, 1): "failed", ("relu", 8, 2): "missing"}
                records.add(activation=name, depth=depth, seed=seed, state=state.get((name, depth, seed), "completed"))
    notes = "\n".join(make(collect(records.sweep()), Asked()).notes)
    assert "1 diverged: each scores chance" in notes
    assert "2 of 18 runs have no result and are not counted: 1 failed, 1 missing" in notes


def test_a_diverged_run_is_0_and_a_setting_that_not_all_have_is_left_out(records):
    for name, depth, state in (
        *(("relu", 2, "completed"), ("relu", 4, "completed"), ("relu", 8, "completed")),
        *(("tanh", 2, "completed"), ("tanh", 4, "diverged"), ("tanh", 8, "failed")),
    ):
        records.add(activation=name, depth=depth, state=state, accuracy=1.0)
    table = make_aggregate(collect(records.sweep()), Asked())
    assert {name: value.value for (name,), value in figures(table, "mean").items()} == {"relu": 1.0, "tanh": 0.5}
    notes = "\n".join(table.notes)
    assert "one run in each setting: a bootstrap has nothing to draw from" in notes
    assert "1 diverged: each scores chance, which is 0" in notes
    assert "1 settings are left out: not every activation has a score there" in notes


def test_tasks_with_techniques_of_their_own_are_looked_at_one_by_one(records, recurrent):
    for seed in range(2):
        for name in NAMES[:2]:
            records.add(activation=name, seed=seed)
        for cell in ("rnn", "lstm"):
            recurrent(curve={1: 0.1}, cell=cell, seed=seed)
    table = make_aggregate(collect(records.sweep()), Asked(by=["network", "recipe"]))
    assert [line.labels["task"] for line in table.lines] == ["digits", "digits", "adding", "adding"]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked(by=["activaton"]), "--by activaton: unknown; allowed: activation, depth, "),
        (Asked(rows=["dpeth"]), "--rows dpeth: unknown; "),
        (Asked(by=["activation"], rows=["activation"]), "--rows activation: is among --by already"),
        (Asked(value="val/los"), "--value val/los: unknown; "),
        (Asked(value="steps"), "--value steps: whether more of it is better is not known"),
    ],
    ids=["by", "rows", "both", "value", "direction"],
)
def test_what_cannot_be_compared_is_refused_in_a_line(swept, make, asked, told):
    with pytest.raises(ConfigError) as caught:
        make(collected(swept), asked)
    assert told in str(caught.value)


@pytest.mark.parametrize("make", MAKERS)
def test_techniques_that_never_meet_are_told(records, make):
    records.add(activation="relu", depth=2)
    records.add(activation="tanh", depth=4)
    with pytest.raises(ConfigError, match="--by activation: no "):
        make(collect(records.sweep()), Asked(by=["activation"]))


@pytest.mark.parametrize("make", MAKERS)
def test_every_format_has_every_kind(swept, make):
    """The figures of one are those of the others."""
    table = make(collected(swept), Asked())
    shown = [formats.text(value) for line in table.lines for value in line.values.values()]
    for name, write in formats.WRITERS.items():
        written = write(table).replace("\u00a0", " ")
        if name == "csv":
            rows = list(csv.reader(io.StringIO(written)))[1:]
            assert len(rows) == len(table.lines)
            assert len({len(row) for row in rows}) == 1
        if name in ("html", "typst"):
            assert all(words.replace("<", "&lt;" if name == "html" else "<") in written for words in shown)
    assert make(collected(swept), Asked()) == table  # seeded
