"""Rows of a record: written as a whole, cut back to a checkpoint when a run goes on."""

import math

import pyarrow.parquet as pq

from gradflow.runs.series import GRADFLOW, METRICS, Series


def add(series: Series, *steps: int) -> None:
    for step in steps:
        series.add(step=step, epoch=0, split="train", name="loss", value=step / 7)


def test_rows_come_back_in_order_with_what_they_leave_out_as_null(tmp_path):
    series = Series(tmp_path / "g.parquet", GRADFLOW)
    series.add(step=3, block=0, name="blocks.00", quantity="grad_norm", value=1e-300)
    series.add(step=3, name="head", quantity="grad_norm", value=math.inf)
    series.write()
    series.add(step=4, block=1, name="blocks.01", time=2, quantity="new", value=0.1)
    series.write()
    rows = pq.read_table(tmp_path / "g.parquet").to_pylist()
    assert [list(row.values()) for row in rows] == [
        [3, 0, "blocks.00", None, "grad_norm", 1e-300],
        [3, None, "head", None, "grad_norm", math.inf],
        [4, 1, "blocks.01", 2, "new", 0.1],
    ]


def test_going_on_drops_what_lies_behind_the_checkpoint_and_keeps_the_rest(tmp_path):
    file = tmp_path / "m.parquet"
    first = Series(file, METRICS)
    add(first, 10, 20, 30)
    first.write()
    second = Series(file, METRICS, before=21)
    add(second, 25, 30, 40)
    second.write()
    assert pq.read_table(file)["step"].to_pylist() == [10, 20, 25, 30, 40]
    assert pq.read_table(file).schema.equals(METRICS)
    anew = Series(file, METRICS)
    add(anew, 5)
    anew.write()
    assert pq.read_table(file)["step"].to_pylist() == [5]


def test_a_series_without_rows_is_a_table_without_rows(tmp_path):
    Series(tmp_path / "m.parquet", METRICS, before=5).write()
    table = pq.read_table(tmp_path / "m.parquet")
    assert (table.num_rows, table.schema.names) == (0, METRICS.names)
