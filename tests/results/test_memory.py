"""What is remembered, in the table: chance, solved, memory horizon, and that each says what it cannot know."""

import csv
import io

import pytest
from rich.console import Console

from gradflow.results import formats
from gradflow.results.memory import memory_horizon, solved
from gradflow.results.table import Wanted, make_table
from gradflow.runs.planfile import collect

WHY = "the reservoir is not trained: no gradient flows through time"
CRITERION = "mse ≤ 0.05"


def met(*steps):
    return [{"solved": {"criterion": CRITERION, "step": step}} for step in steps]


@pytest.mark.parametrize(
    ("results", "told", "value"),
    [
        (met(1400), "step 1400", 1400),
        (met(1400, 1500), "step 1450", 1450),
        (met(1300, None, 1500), "2/3 at 1400", 1400),
        (met(None, None), "no", None),
        ([*met(200), {"solved": None}, {}], "step 200", 200),
    ],
    ids=str,
)
def test_solved_is_the_mean_step_of_those_that_did(results, told, value):
    assert (solved(results).text, solved(results).value) == (told, value)


def test_a_task_without_criterion_is_neither_solved_nor_not():
    assert solved([{"solved": None}, {}]) is None
    assert solved([]) is None


@pytest.mark.parametrize(
    ("horizons", "told", "value"),
    [
        ([37], "37", 37),
        ([37, 37], "37", 37),
        ([31, 44, 36], "36 (31–44)", 36),
        ([6, 9], "7.5 (6–9)", 7.5),
        ([None], "≥ 100", 100),
        ([31, None, 40], "40 (31–≥ 100)", 40),
        ([None, 31, None], "≥ 100 (31–≥ 100)", 100),
        ([40.25], "40", 40.25),
        ([6.644], "6.6", 6.644),
    ],
    ids=str,
)
def test_a_horizon_is_the_median_over_seeds_and_what_never_fell_is_a_bound(remembered, horizons, told, value):
    reach = memory_horizon([remembered(horizon) for horizon in horizons])
    assert (reach.text, reach.value) == (told, value)


def test_a_horizon_is_a_number_in_csv_where_it_is_one(records, recurrent, remembered):
    for cell, reach in (("rnn", 40.25), ("lstm", None)):
        recurrent(result=remembered(reach), cell=cell)
    table = make_table(collect(records.sweep()), None, Wanted(values=["memory_horizon"]))
    assert formats.to_csv(table) == "network,memory_horizon\nrnn,40.25\nlstm,≥ 100\n"


def test_a_probe_without_a_horizon_says_nothing(remembered):
    unknown = remembered(3)
    del unknown["time"]["last"]["memory_horizon_1%"]
    assert memory_horizon([unknown]) is None
    own = {"time": {"last": {"steps": 40, "memory_horizon_1%": None}}}  # the length may stand with the probe
    assert str(memory_horizon([own])) == "≥ 40"


def test_a_network_without_gradient_or_without_a_time_axis():
    reservoir = memory_horizon([{"time": None, "no_gradient": WHY}])
    assert (reservoir.text, reservoir.value) == ("no gradient", None)
    assert memory_horizon([{"time": None}, {}]) is None


@pytest.fixture
def table(records, recurrent, remembered):
    """Two lengths of three networks; an older record lacks every key of memory."""
    for length in (50, 200):
        for seed in (0, 1):
            done = {"solved": {"criterion": CRITERION, "step": 400 + 100 * seed if length == 50 else None}}
            words = {"task.length": length, "seed": seed}
            recurrent(curve={100: 0.02}, result=remembered(None, steps=length) | done, cell="lstm", **words)
            recurrent(curve={100: 0.2}, result=remembered(20 + seed) | done, cell="rnn", **words)
            reservoir = {"time": None, "no_gradient": WHY, "verdict": "gradient-free", "solved": done["solved"]}
            recurrent(curve={100: 0.17}, result=reservoir, cell=None, **words)
    return make_table(collect(records.sweep()))


def test_a_table_over_a_time_axis_shows_what_is_remembered(table):
    assert table.columns == ["metric", "chance", "solved", "memory_horizon", "verdict", "runs"]
    markdown = formats.to_markdown(table).splitlines()
    assert markdown[0] == "| task.length | network | test mse | chance | solved | memory horizon | verdict | runs |"
    assert markdown[2:8] == [
        "| 50 | lstm | **0.020 ± 0.000** | 0.167 | step 450 | ≥ 50 | healthy | 2/2 |",
        "| 50 | rnn | 0.200 ± 0.000 | 0.167 | step 450 | 20 (20–21) | healthy | 2/2 |",
        "| 50 | esn | 0.170 ± 0.000 | 0.167 | step 450 | no gradient | gradient-free | 2/2 |",
        "| 200 | lstm | **0.020 ± 0.000** | 0.167 | no | ≥ 200 | healthy | 2/2 |",
        "| 200 | rnn | 0.200 ± 0.000 | 0.167 | no | 20 (20–21) | healthy | 2/2 |",
        "| 200 | esn | 0.170 ± 0.000 | 0.167 | no | no gradient | gradient-free | 2/2 |",
    ]
    notes = "\n".join(table.notes)
    assert "solved: first validation with mse ≤ 0.05" in notes
    assert "fallen below 1 % of its size at the last step" in notes


def test_the_other_formats_show_the_same(table):
    row = list(csv.DictReader(io.StringIO(formats.to_csv(table))))[3]
    assert (float(row["chance"]), row["solved"], row["memory_horizon"]) == (1 / 6, "no", "≥ 200")
    assert not [name for name in row if name.startswith("chance ")]  # chance is known: it has no interval
    tex = formats.to_latex(table)
    assert r"200 & lstm & \bfseries 0.020 +- 0.000 & 0.167 & no & \(\geq\) 200 & healthy & 2/2 \\" in tex
    assert (
        r"{chance} & \multicolumn{1}{r}{solved} & \multicolumn{1}{r}{\shortstack[r]{memory \\ horizon}} & verdict"
        in tex
    )
    assert r"mse \(\leq\) 0.05" in tex
    with io.StringIO() as out:
        Console(file=out, width=150).print(formats.to_rich(table))
        words = out.getvalue()
    assert "≥ 200" in words
    assert "no gradient" in words


def test_the_gradient_ratio_says_something_only_between_blocks(records, recurrent, remembered):
    recurrent(result=remembered(9), cell="lstm", depth=2)
    assert make_table(collect(records.sweep())).columns == [
        *("metric", "chance", "memory_horizon", "gradient_ratio", "verdict", "runs")
    ]


def test_a_time_axis_is_known_before_anything_has_run(records, recurrent):
    recurrent(state="missing")
    table = make_table(collect(records.sweep()))
    assert table.columns == ["metric", "chance", "solved", "memory_horizon", "verdict", "runs"]
    assert [str(table.lines[0].values[column]) for column in table.columns[:4]] == ["missing", *["None"] * 3]


def test_a_task_with_a_criterion_needs_no_time_axis(records, validated):
    validated({100: (1.0, 0.5)}, 1.0, result={"solved": {"criterion": "accuracy ≥ 0.4", "step": 100}})
    table = make_table(collect(records.sweep()))
    assert table.columns == ["metric", "chance", "solved", "gradient_ratio", "verdict", "runs"]
    assert str(table.lines[0].values["solved"]) == "step 100"


def test_columns_of_memory_can_be_asked_for_of_any_run(records):
    records.add()
    (line,) = make_table(collect(records.sweep()), None, Wanted(values=["chance", "solved", "memory_horizon"])).lines
    assert (line.values["chance"].value, line.values["solved"], line.values["memory_horizon"]) == (0.1, None, None)


def test_a_diverged_seed_has_not_solved_its_task(records, recurrent):
    recurrent(curve={1: 0.1}, result=met(100)[0])
    recurrent(curve={1: 0.1}, result=met(None)[0], state="diverged", seed=1)
    assert str(make_table(collect(records.sweep())).lines[0].values["solved"]) == "1/2 at 100"
