"""Figures by factor, effects and comparisons: the statistics' own numbers, within bounds."""

import itertools
import math
import statistics

import pytest
from scipy import stats

from gradflow.results.memory import memory_horizon
from gradflow.results.page import analysis
from gradflow.results.page.analysis import compared, comparisons_part, effects_part, factors_part
from gradflow.results.statistics.compare import comparisons
from gradflow.results.statistics.effects import effects
from gradflow.runs.planfile import collect


@pytest.fixture
def grid(records):
    """depth × activation × seed, with accuracies and ratios of which none is like another."""
    for i, (depth, activation, seed) in enumerate(itertools.product((2, 10, 30), ("relu", "tanh"), range(3))):
        records.add(depth=depth, activation=activation, seed=seed, accuracy=0.3 + i * i / 1000, ratio=10.0**-i)
    records.add(depth=30, activation="relu", seed=3, state="diverged")
    return records


def series(part, x, by, technique, value):
    found = [s for s in part["series"] if (s["x"], s["by"], s["technique"], s["value"]) == (x, by, technique, value)]
    assert len(found) == 1
    return found[0]


def accuracies(depth, activation):
    places = enumerate(itertools.product((2, 10, 30), ("relu", "tanh"), range(3)))
    return [0.3 + i * i / 1000 for i, (d, a, _) in places if (d, a) == (depth, activation)]


def test_a_point_is_a_mean_with_students_interval(grid):
    part = factors_part(collect(grid.sweep()))
    shown = series(part, "depth", "activation", "tanh", "metric")
    assert [point["x"] for point in shown["points"]] == [2, 10, 30]
    for point in shown["points"]:
        values = accuracies(point["x"], "tanh")
        low, high = stats.t.interval(0.95, 2, statistics.fmean(values), stats.sem(values))
        assert (point["mean"], point["low"], point["high"]) == pytest.approx(
            (statistics.fmean(values), low, high), rel=1e-5
        )
        assert point["n"] == 3
    assert (shown["task"], shown["metric"], shown["better"]) == ("digits", "test/accuracy", "larger")
    assert (part["left_out"], shown["chance"]) == (0, 0.1)


def test_runs_that_diverged_or_failed_are_counted_and_enter_no_mean(grid):
    grid.add(depth=30, activation="relu", seed=4, state="failed")
    for seed in range(2):
        grid.add(depth=30, activation="gelu", seed=seed, state=("diverged", "failed")[seed])
    shown = series(factors_part(collect(grid.sweep())), "depth", "activation", "relu", "metric")
    assert [point.get("ended") for point in shown["points"]] == [None, None, "1 of 5 diverged, 1 of 5 failed"]
    assert shown["points"][2]["mean"] == pytest.approx(statistics.fmean(accuracies(30, "relu")), rel=1e-5)
    (lost,) = series(factors_part(collect(grid.sweep())), "depth", "activation", "gelu", "metric")["points"]
    assert lost == {"x": 30, "mean": None, "low": None, "high": None, "n": 0, "ended": "1 of 2 diverged, 1 of 2 failed"}


def test_a_ratio_is_a_geometric_mean_with_an_interval_of_its_logarithm(grid):
    point = series(factors_part(collect(grid.sweep())), "depth", "activation", "relu", "gradient_ratio")["points"][1]
    logs = [math.log(10.0**-i) for i in (6, 7, 8)]
    low, high = stats.t.interval(0.95, 2, statistics.fmean(logs), stats.sem(logs))
    expected = [math.exp(each) for each in (statistics.fmean(logs), low, high)]
    assert [point["mean"], point["low"], point["high"]] == pytest.approx(expected, rel=1e-5)


def test_a_ratio_that_was_zero_once_is_zero_without_an_interval(records):
    for depth, ratio in ((2, 1.0), (2, 0.0), (3, 1.0)):
        records.add(depth=depth, ratio=ratio, seed=len(records.planned))
    point = series(factors_part(collect(records.sweep())), "depth", "", analysis.ALL, "gradient_ratio")["points"][0]
    assert point == {"mean": 0, "low": None, "high": None, "n": 2, "x": 2}


REACHES = {1: (37, 44), 2: (30, 37, None), 3: (37, None), 4: (None, None), 5: (None, 200)}  # depth → of each seed


def test_a_horizon_that_is_not_within_the_sequence_is_a_lower_bound_as_in_the_table(records, recurrent, remembered):
    told = {}
    for depth, reaches in REACHES.items():
        results = [remembered(reach, steps=200) for reach in reaches]
        told[depth] = str(memory_horizon(results))
        for seed, result in enumerate(results):
            recurrent(None, {10: 0.2, 20: 0.04}, result, depth=depth, seed=seed)
    points = series(factors_part(collect(records.sweep())), "depth", "", analysis.ALL, "memory_horizon")["points"]
    assert [(point["mean"], point["low"], point["high"], point.get("least")) for point in points] == [
        *((40.5, 37, 44, None), (37, 30, 200, ["high"]), (118.5, 37, 200, ["mean", "high"])),
        *((200, 200, 200, ["mean", "low", "high"]), (200, 200, 200, ["mean", "high"])),
    ]
    assert list(told.values()) == ["40 (37–44)", "37 (30–≥ 200)", "≥ 118 (37–≥ 200)", "≥ 200", "≥ 200 (200–≥ 200)"]
    assert "least" not in points[0]


def test_words_stand_on_an_axis_in_the_order_of_the_plan_and_pooled_factors_are_named(records):
    for activation, norm, depth in itertools.product(("tanh", "relu"), ("none", "batch"), (2, 3)):
        records.add(activation=activation, norm=norm, depth=depth)
    part = factors_part(collect(records.sweep()))
    shown = series(part, "activation", "norm", "batch", "metric")
    assert [point["x"] for point in shown["points"]] == ["tanh", "relu"]
    assert shown["pooled"] == ["depth"]
    assert all(s["x"] != s["by"] for s in part["series"])


def test_tasks_are_never_mixed(records, recurrent, remembered):
    for seed in (0, 1):
        records.add(depth=2, seed=seed)
        records.add(depth=3, seed=seed)
        for width in (8, 16):
            recurrent(None, {10: 0.2, 20: 0.04}, remembered(3), cell="lstm", seed=seed, width=width)
    part = factors_part(collect(records.sweep()))
    tasks = {(s["task"], s["metric"], s["better"]) for s in part["series"] if s["value"] == "metric"}
    assert tasks == {("digits", "test/accuracy", "larger"), ("adding", "test/mse", "smaller")}
    adding = [s for s in part["series"] if s["task"] == "adding"]
    assert {s["value"] for s in adding} == {"metric", "memory_horizon"}
    assert {s["value"] for s in part["series"] if s["task"] == "digits"} == {"metric", "gradient_ratio"}
    assert {point["n"] for s in adding for point in s["points"]} == {2}
    assert {s["x"] for s in part["series"] if s["task"] == "digits"} == {"depth"}  # the only thing that varies in it


def test_what_does_not_fit_is_counted(grid, monkeypatch):
    monkeypatch.setattr(analysis, "MOST_POINTS", 0)
    part = factors_part(collect(grid.sweep()))
    assert part["left_out"] > 0
    assert {(s["x"], s["by"]) for s in part["series"]} == {("depth", "activation")}  # the first stays


def test_effects_are_those_of_the_statistics(grid):
    collection = collect(grid.sweep())
    found, part = effects(collection), effects_part(collection)
    assert len(part) == len(found) > 0
    for effect, shown in zip(found, part, strict=True):
        assert (shown["factor"], shown["level"], shown["better"]) == (effect.factor, effect.level, effect.better)
        assert shown["difference"]["value"] == pytest.approx(effect.difference.value, rel=1e-5)


def test_comparisons_are_those_of_the_statistics_and_list_their_pairs(grid, monkeypatch):
    collection = collect(grid.sweep())
    assert set(compared(collection)) == {"depth", "activation"}
    (found,), (shown,) = comparisons(collection, "activation"), comparisons_part(collection, "activation")
    assert (shown["a"], shown["b"], shown["count"]) == ("relu", "tanh", 9)
    assert shown["difference"]["value"] == pytest.approx(found.difference.value, rel=1e-5)
    assert (shown["p"], shown["p_holm"]) == pytest.approx((found.p, found.p_holm), rel=1e-5)
    assert [pair["run_a"] for pair in shown["pairs"]] == [pair.run_a for pair in found.pairs]
    monkeypatch.setattr(analysis, "MOST_PAIRS", 0)
    monkeypatch.setattr(analysis, "FEWEST_PAIRS", 4)
    (few,) = comparisons_part(collection, "activation")
    assert [pair["run_a"] for pair in few["pairs"]] == [found.pairs[place].run_a for place in (0, 3, 5, 8)]
    assert few["count"] == 9
    assert few["difference"] == shown["difference"]


def test_without_a_result_there_is_nothing_to_compare(records):
    records.add(state="missing")
    records.add(state="failed", depth=3)
    collection = collect(records.sweep())
    assert factors_part(collection) == {"series": [], "left_out": 0}
    assert effects_part(collection) == comparisons_part(collection, "depth") == []
