"""Each run's number, and what a cell's runs say together."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from gradflow.papers.paper import Measure, Paper
from gradflow.papers.values import Values, exact_share, raw
from gradflow.runs.record import Record
from gradflow.runs.series import GRADFLOW, METRICS


def result(state="completed", accuracy=0.9, **more):
    metrics = {"test/accuracy": accuracy, "test/loss": 0.3, "train/loss": 0.2}
    return {
        **{"state": state, "metric": "test/accuracy", "metrics": metrics, "steps": 300, "chance": 0.1},
        **{"solved": {"step": 250}, "gradient": {"ratio": 0.5}, "cost": {"parameters": 1000}},
        **more,
    }


@pytest.mark.parametrize(
    ("figure", "made", "number"),
    [
        ("test/accuracy", result(), 0.9),
        ("metric", result(), 0.9),
        ("solved", result(), 250.0),
        ("solved", result(solved={"step": None}), None),
        ("solved", result(solved=None), None),
        ("gradient_ratio", result(), 0.5),
        ("gradient_ratio", result(gradient=None), None),
        ("steps", result("diverged"), 300.0),
        ("cost/parameters", result("diverged"), 1000.0),
        ("test/accuracy", result("diverged", None), 0.1),  # nothing was learned: chance
        ("metric", result("diverged", None), 0.1),
        ("train/loss", result("diverged"), None),
        ("no/such", result(), None),
    ],
)
def test_a_run_s_number_is_read_from_its_result(tmp_path, figure, made, number):
    assert raw(Measure(label="x", figure=figure), made, tmp_path) == number


@pytest.fixture
def series(tmp_path):
    rows = [(step, 0, "train", "loss", 1.0 / step) for step in (10, 20, 30, 40)]
    rows += [(20, 0, "val", "loss", 5.0), (40, 0, "val", "loss", 4.0)]
    pq.write_table(
        pa.Table.from_pylist([dict(zip(METRICS.names, row, strict=True)) for row in rows], METRICS),
        tmp_path / "metrics.parquet",
    )
    flow = [
        (step, block, f"blocks.{block}", None, "delta_norm", 8.0 / 2**block + step)
        for step in (0, 50)
        for block in range(4)
    ]
    flow += [(0, None, "stem", None, "delta_norm", 99.0), (0, 0, "blocks.0", None, "other", 77.0)]
    pq.write_table(
        pa.Table.from_pylist([dict(zip(GRADFLOW.names, row, strict=True)) for row in flow], GRADFLOW),
        tmp_path / "gradflow.parquet",
    )
    return tmp_path


@pytest.mark.parametrize(
    ("keys", "number"),
    [
        ({"at": 25}, 1 / 20),
        ({"at": 5}, None),
        ({"last": 20}, (1 / 30 + 1 / 40) / 2),
        ({"least": True}, 1 / 40),
        ({"most": True}, 1 / 10),
        ({"figure": "val/loss", "at": 39}, 5.0),
        ({"figure": "test/loss", "at": 39}, None),
    ],
)
def test_a_number_on_the_way_is_read_from_the_metrics(series, keys, number):
    measure = Measure(label="x", **{"figure": "train/loss", **keys})
    assert raw(measure, result(), series) == (number if number is None else pytest.approx(number))


@pytest.mark.parametrize(
    ("keys", "number"),
    [
        ({"block": "first"}, 8.0),
        ({"block": "last"}, 1.0),
        ({}, (8 + 4 + 2 + 1) / 4),
        ({"block": "ratio"}, 8.0),
        ({"block": "slope"}, 2.0),
        ({"block": "last", "step": "last"}, 51.0),
        ({"quantity": "absent"}, None),
    ],
)
def test_an_instrument_s_number_is_read_block_by_block(series, keys, number):
    measure = Measure(label="x", **{"quantity": "delta_norm", **keys})
    assert raw(measure, result(), series) == (number if number is None else pytest.approx(number))


def test_a_record_without_series_has_no_such_number(tmp_path):
    assert raw(Measure(label="x", figure="train/loss", at=9), result(), tmp_path) is None
    assert raw(Measure(label="x", quantity="delta_norm"), result(), tmp_path) is None


@pytest.mark.parametrize(("successes", "count"), [(0, 5), (1, 5), (5, 5), (17, 40), (40, 40)])
def test_the_interval_of_a_share_is_scipy_s_exact_share(successes, count):
    expected = binomtest(successes, count).proportion_ci(method="exact")
    made = exact_share(successes, count)
    assert (made.low, made.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (made.value, made.count) == (successes / count, count)


def test_nothing_has_no_share():
    assert exact_share(0, 0) is None


def records_of(*results):
    return {
        f"r{i}": Record(f"r{i}", None, each["state"] if each else "failed", {}, {}, each)
        for i, each in enumerate(results)
    }


def test_runs_of_a_cell_are_averaged_and_those_without_a_figure_counted(paper: Paper):
    key = ("relu", "2")
    records = records_of(result(accuracy=0.9), result(accuracy=0.8), result("diverged", None), None)
    values = Values(paper, {key: ["r0", "r1", "r2", "r3", "r4"]}, records)
    error = values(("error", key))
    assert (error.value, error.count) == (
        pytest.approx((10 + 20 + 90) / 3),
        3,
    )  # what failed or is missing says nothing
    share = values(("learned", key))
    assert (share.value, share.count) == (pytest.approx(2 / 3), 3)
    assert values.done(key) == 3
    assert values(("error", ("relu", "10"))) is None
    assert values(("learned", ("relu", "10"))) is None


def test_a_run_without_the_figure_enters_no_mean_but_counts_against_a_share(content):
    content["measures"] = {
        "loss": {"figure": "train/loss", "label": "x"},
        "low": {"figure": "train/loss", "share": "x < 1", "label": "x"},
    }
    content |= {"published": [], "claims": []}
    key = ("relu", "2")
    values = Values(Paper.model_validate(content), {key: ["r0", "r1"]}, records_of(result(), result("diverged")))
    assert values(("loss", key)).count == 1
    assert values.absent == {"loss": {"diverged": 1}}
    assert (values(("low", key)).value, values(("low", key)).count) == (0.5, 2)
