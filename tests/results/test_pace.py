"""How fast a sweep gets on, in numbers that can be worked out by hand."""

import pytest

from gradflow.results.pace import Pace, Stint, pace
from gradflow.results.survey import works


def done(began, until, work=1.0):
    return Stint(work, 1.0, began, until, True)


def test_runs_that_take_a_minute_each_one_after_another():
    stints = [done(60.0 * i, 60.0 * (i + 1)) for i in range(5)]
    assert pace(stints, rest=10.0, now=300.0) == Pace(1.0, "10 min", 600.0)


def test_two_workers_are_twice_as_fast():
    stints = 2 * [done(60.0 * i, 60.0 * (i + 1)) for i in range(5)]
    assert pace(stints, rest=10.0, now=300.0) == Pace(2.0, "10 min", 300.0)


def test_what_is_left_is_counted_by_work_and_not_by_runs():
    """Five light runs a minute each; one ten times as heavy is still to come."""
    stints = [done(60.0 * i, 60.0 * (i + 1)) for i in range(5)]
    assert pace(stints, rest=10.0, now=300.0).seconds_left == pace(stints, rest=1.0, now=300.0).seconds_left * 10


def test_a_long_run_counts_before_it_has_ended():
    """Half of a run's work in half an hour: the other half takes as long."""
    assert pace([Stint(8.0, 0.5, 0.0, 1800.0, False)], rest=4.0, now=1800.0) == Pace(0.0, "day", 1800.0)


def test_only_the_last_while_counts_and_of_a_run_only_what_falls_into_it():
    """Slow long ago, and a run that began before the while and ended in it: half of its work is in it."""
    slow = [done(-100_000.0 + i, -50_000.0 + i) for i in range(10)]
    across = done(-600.0, 600.0, work=4.0)
    recent = [done(0.0, 300.0), done(300.0, 600.0)]
    found = pace([*slow, across, *recent], rest=8.0, now=600.0)
    assert found == Pace(60 * 3 / 600, "10 min", 8.0 * 600 / (2.0 + 1.0 + 1.0))


def test_slow_sweeps_are_judged_by_a_longer_while():
    hourly = [done(1000.0 * i, 1000.0 * (i + 1)) for i in range(10)]
    assert pace(hourly, rest=1.0, now=10_000.0).window == "hour"
    assert pace(hourly, rest=1.0, now=10_000.0).seconds_left == pytest.approx(1000.0)
    assert pace(hourly[:1], rest=1.0, now=10_000.0).window == "day"


@pytest.mark.parametrize("stint", [done(500.0, 400.0), done(700.0, 800.0), done(-200_000.0, -100_000.0)])
def test_a_clock_that_jumps_and_a_sweep_that_sleeps_say_nothing(stint):
    assert pace([stint], rest=1.0, now=600.0).seconds_left is None
    assert pace([], rest=1.0, now=600.0).seconds_left is None


def test_work_is_operations_where_the_plan_knows_those_of_all_and_steps_times_layers_otherwise():
    labels = {"a": {"trainer.max_steps": 100, "depth": 3}, "b": {"trainer.max_steps": 50, "depth": 8}, "c": {}}
    assert works(labels, {}) == {"a": 500.0, "b": 500.0, "c": 3.0}
    estimates = {"a": {"operations": 7e9}, "b": {"operations": 1e9}}
    assert works(labels, estimates) == works(labels, {})  # not those of c
    assert works({"a": {}, "b": {}}, estimates) == {"a": 7e9, "b": 1e9}
