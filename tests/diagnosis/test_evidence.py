"""Evidence from a record, from tables and from rows is the same."""

import json

import made_of_rows as rows
import numpy as np
import pyarrow as pa
import pytest

from gradflow.diagnosis.evidence import from_record, from_rows, from_tables, geometric_ratio
from gradflow.diagnosis.verdict import diagnose
from gradflow.errors import ConfigError
from gradflow.instruments.ratio import gradient_ratio
from gradflow.runs.record import write_json


def test_a_record_is_read_whole(records):
    path = records.add(norms={0: [1e-9, 1e-4, 1.0], 10: [1e-8, 1e-4, 1.0]}, accuracy=0.1)
    evidence = from_record(path)
    assert evidence.blocks == ("blocks.00", "blocks.01", "blocks.02")
    series = evidence.quantities["grad_norm"]
    assert series.steps.tolist() == [0, 10]
    assert series.values.tolist() == [[1e-9, 1e-4, 1.0], [1e-8, 1e-4, 1.0]]
    assert series.ratio() == pytest.approx(10**-8.5)
    assert (evidence.figure, evidence.chance, evidence.metric) == (0.1, 0.1, "test/accuracy")
    assert diagnose(evidence).verdict == "vanishing"


@pytest.mark.parametrize("kind", ["table", "rows"])
def test_the_same_numbers_give_the_same_evidence(kind):
    given = [
        *rows.of_blocks("grad_norm", [[1.0, None], [2.0, 3.0]]),
        *rows.of_all("grad_norm", [1.0, 4.0]),
        *rows.of_all("loss", [2.0, 1.0]),
        {"step": 0, "block": None, "name": "head", "quantity": "grad_norm", "value": 9.0},
    ]
    if kind == "table":
        columns = ("step", "block", "name", "time", "quantity", "value")
        table = pa.table({name: [row.get(name) for row in given] for name in columns})
        evidence = from_tables({}, table, None)
    else:
        evidence = from_rows(iter(given))
    values = evidence.quantities["grad_norm"].values
    assert np.array_equal(values, [[1.0, np.nan], [2.0, 3.0]], equal_nan=True)
    assert evidence.whole["grad_norm"].values.tolist() == [[1.0], [4.0]]
    assert [part.tolist() for part in evidence.loss] == [[0, 10], [2.0, 1.0]]


def test_a_record_without_its_series_and_a_run_that_has_not_ended(records, tmp_path):
    path = records.add(ratio=1e-9, accuracy=0.5)
    assert diagnose(from_record(path)).verdict == "vanishing"
    running = records.add(state="running", norms={0: [1.0, 1.0]})
    assert diagnose(from_record(running)).verdict == "healthy"
    with pytest.raises(ConfigError, match="holds no run"):
        from_record(tmp_path)


def test_files_that_cannot_be_read_are_named(records):
    path = records.add()
    (path / "gradflow.parquet").write_bytes(b"no table")
    with pytest.raises(ConfigError, match=r"gradflow\.parquet: cannot be read"):
        from_record(path)
    (path / "gradflow.parquet").unlink()
    (path / "result.json").write_text("{")
    with pytest.raises(ConfigError, match=r"result\.json: truncated"):
        from_record(path)


def test_the_tasks_own_criterion(records):
    path = records.add()
    known = json.loads((path / "result.json").read_text())
    for solved, expected in ((None, None), ({"step": None}, False), ({"step": 40}, True)):
        write_json(path / "result.json", {**known, "solved": solved})
        assert from_record(path).solved is expected


@pytest.mark.parametrize("losses", [[3.0, 2.0, 1.0], {2: 1.0, 0: 3.0, 1: 2.0}, ([0, 1, 2], [3.0, 2.0, 1.0])], ids=str)
def test_losses_are_taken_in_three_forms(losses):
    steps, values = from_rows([], losses=losses).loss
    assert (steps.tolist(), values.tolist()) == ([0, 1, 2], [3.0, 2.0, 1.0])


def test_losses_and_steps_must_be_equally_many():
    with pytest.raises(ValueError, match="one per step"):
        from_rows([], losses=([0, 1], [1.0]))


@pytest.mark.parametrize(
    ("first", "last"),
    [([1e-3, 1e-5], [1, 1]), ([0, 1e-5], [1, 1]), ([0, 0], [1, 2]), ([0, 0], [0, 0]), ([np.inf, 1], [1, 2]), ([], [])],
)
def test_the_ratio_is_that_of_the_instrument(first, last):
    a, b = np.asarray(first, dtype=float), np.asarray(last, dtype=float)
    assert geometric_ratio(a, b) == gradient_ratio(a, b).value


def test_late_is_the_median_of_the_second_half():
    late = (
        from_rows(rows.of_blocks("slope", [[9.0, 1.0], [9.0, None], [1.0, None], [3.0, None]]))
        .quantities["slope"]
        .late()
    )
    assert late[0] == 2.0
    assert np.isnan(late[1])
