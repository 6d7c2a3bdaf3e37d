"""What the maps over time steps are given: whole sequences, and lines for the steps that are measured more often."""

import numpy as np
import pyarrow as pa

from gradflow.results.page.series import measured
from gradflow.results.page.shown import series_of


def test_a_map_over_time_has_whole_sequences_alone_and_the_ends_of_segments_are_lines():
    whole = [(step, time) for step in (0, 100) for time in range(8)]
    ends = [(step, time) for step in (10, 20) for time in (3, 7)]
    step, time = np.array(whole + ends).T
    words = {"name": ["blocks.00"] * len(step), "quantity": ["time_grad_h"] * len(step)}
    table = pa.table({"step": step, "time": time, "block": [0] * len(step), "value": 10.0**-time, **words})
    found = series_of(measured(table, None), None, 10**9)
    grid, lines = found["time"][0], found["ends"][0]
    assert (grid["steps"], grid["times"]) == ([0, 100], list(range(8)))
    assert not any(number is None for row in grid["log10"] for number in row)
    assert (lines["steps"], lines["times"], lines["log10"]) == ([0, 10, 20, 100], [3, 7], [[-3] * 4, [-7] * 4])
    assert series_of(measured(table.slice(0, len(whole)), None), None, 10**9)["ends"] == []
