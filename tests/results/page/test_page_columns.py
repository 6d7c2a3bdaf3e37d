"""The columns of runs and the table's cells hold the records' own numbers."""

import json
import random

import pytest

from gradflow.results.page.columns import FEW, runs_part, table_part
from gradflow.results.table import Wanted, make_table
from gradflow.runs.planfile import collect
from gradflow.runs.record import write_json


@pytest.fixture
def part(records):
    def make():
        collection = collect(records.sweep())
        return runs_part(collection, make_table(collection), [0] * len(collection.planned))

    return make


def values(part, key):
    """A column as it is meant: one value per run, None where there is none."""
    column = next(column for column in part["columns"] if column["key"] == key)
    if "data" in column:
        return column["data"]
    return [None if code < 0 else column["values"][code] for code in column["codes"]]


def column(part, key):
    return next(column for column in part["columns"] if column["key"] == key)


def test_every_planned_run_has_a_place_in_every_column(records, part):
    records.add(depth=10, accuracy=0.123456789, ratio=1.6e-25)
    records.add(depth=2, state="diverged", seed=1)
    records.add(depth=2, state="failed", activation="tanh", error="Traceback\nValueError: five")
    records.add(depth=30, state="missing")
    records.add(depth=30, state="running", seed=1)
    found = part()
    assert found["id"] == [f"{i:012x}" for i in range(5)]
    assert all(len(c.get("data", c.get("codes"))) == 5 for c in found["columns"])
    assert values(found, "depth") == [10, 2, 2, 30, 30]
    assert column(found, "depth")["values"] == [2, 10, 30]  # numbers ascending
    assert values(found, "activation") == ["relu", "relu", "tanh", "relu", "relu"]
    assert values(found, "seed") == [0, 1, 0, 0, 1]
    assert values(found, "state") == ["completed", "diverged", "failed", "missing", "running"]
    assert values(found, "verdict") == ["healthy", "diverged", None, None, None]
    assert values(found, "metric") == [0.123457, None, None, None, None]  # six digits
    assert values(found, "gradient_ratio") == [1.6e-25, 1, None, None, None]
    assert values(found, "train_seconds") == [1.5, 1.5, None, None, None]
    assert values(found, "steps") == [100, 100, 7, None, 7]  # as far as they are
    assert values(found, "error") == [None, None, "ValueError: five", None, None]
    assert (column(found, "metric")["title"], column(found, "metric")["better"]) == ("test accuracy", "larger")
    assert {c["kind"] for c in found["columns"]} == {"factor", "title", "state", "figure", "note"}


def test_few_numbers_are_coded_and_many_stand_as_they_are(records, part):
    draws = [random.Random(0).uniform(0, 1) for _ in range(FEW + 1)]
    draws = [draw + i for i, draw in enumerate(draws)]
    for i, draw in enumerate(draws):
        records.add(**{"optimizer.lr": draw, "optimizer.momentum": 0.5 + i % 2 / 4})
    found = part()
    assert "codes" not in column(found, "optimizer.lr")
    assert values(found, "optimizer.lr") == pytest.approx(draws, rel=1e-11)
    assert column(found, "optimizer.momentum")["values"] == [0.5, 0.75]
    assert column(found, "optimizer.lr")["type"] == column(found, "optimizer.momentum")["type"] == "number"


def test_mixed_and_missing_labels_are_words_and_holes(records, part):
    for value in (True, None, "2", 2):
        records.add(**{"model.option": value})
    assert values(part(), "model.option") == ["true", None, "2", "2"]


def test_what_is_told_in_words_has_a_number_to_sort_by(records, part, recurrent, remembered):
    solved = {"solved": {"criterion": "mse ≤ 0.05", "step": 20}}
    recurrent(None, {10: 0.2, 20: 0.04}, remembered(None) | solved, cell="lstm")
    recurrent(None, {10: 0.2, 20: 0.1}, remembered(12) | {"solved": {"criterion": "x", "step": None}}, cell="rnn")
    found = part()
    assert (column(found, "memory_horizon")["data"], column(found, "memory_horizon")["texts"]) == (
        [100, 12],
        ["≥ 100", "12"],
    )
    assert (column(found, "solved")["data"], column(found, "solved")["texts"]) == ([20, None], ["step 20", "no"])
    assert values(found, "network") == ["lstm", "rnn"]
    assert (column(found, "metric")["title"], column(found, "metric")["better"]) == ("test mse", "smaller")


def test_runs_of_different_tasks_have_no_one_metric(records, part, recurrent, remembered):
    records.add()
    recurrent(None, {10: 0.2, 20: 0.04}, remembered(3), cell="lstm")
    assert (column(part(), "metric")["title"], column(part(), "metric")["better"]) == ("metric", None)


def test_the_table_is_the_table_with_its_numbers_in_full(records):
    for seed, accuracy in enumerate((0.5, 0.75)):
        records.add(depth=2, seed=seed, accuracy=accuracy, ratio=0.25)
        records.add(depth=10, seed=seed, accuracy=accuracy / 3, ratio=1e-9, verdict="vanishing")
    records.add(depth=30, state="failed")
    table = make_table(collect(records.sweep()))
    part = table_part(table)
    assert [(head["text"], head["key"], head["type"]) for head in part["headers"]] == [
        ("depth", "depth", "number"),
        ("test accuracy", "metric", "number"),
        ("gradient ratio", "gradient_ratio", "number"),
        ("verdict", "verdict", "word"),
        ("runs", "runs", "word"),
    ]
    shown = [[cell["t"] for cell in row] for row in part["rows"]]
    assert [row[0] for row in shown] == ["2", "10", "30"]
    assert part["rows"][0][1]["v"] == 0.625
    assert part["rows"][1][1]["v"] == table.lines[1].values["metric"].value == pytest.approx(0.625 / 3)
    assert part["rows"][1][2]["v"] == pytest.approx(1e-9)
    assert [row[3]["c"] for row in part["rows"]] == ["healthy", "vanishing", ""]
    assert part["notes"] == table.notes
    json.dumps(part, allow_nan=False)


def test_runs_that_are_not_in_a_figure_are_raised_beside_it(records):
    for seed, state in enumerate(("completed", "completed", "diverged", "failed")):
        records.add(seed=seed, state=state, accuracy=0.5)
    wanted = Wanted(rows=["depth"], cols=["activation"])
    cell = table_part(make_table(collect(records.sweep()), wanted=wanted))["rows"][0][1]
    assert cell["t"] == "0.500 ± 0.000¹ᵈ¹ᶠ"
    assert cell["h"] == "n = 2, 95 % interval 0.5 to 0.5; not in it: 1 diverged, 1 failed"


def test_a_table_without_a_finite_ratio_is_still_json(records):
    path = records.add(ratio=1.0)
    known = json.loads((path / "result.json").read_text())
    write_json(path / "result.json", {**known, "gradient": {"ratio": None}})
    json.dumps(table_part(make_table(collect(records.sweep()))), allow_nan=False)
