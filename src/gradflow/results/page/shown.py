"""A run's series as the page shows them: thinned to what fits, with what theory says of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.results import predicted
from gradflow.results.page import series
from gradflow.results.page.pack import rounded
from gradflow.results.page.thin import evenly, shape, shares


def series_of(found: series.Measured, said: dict[str, Any] | None, most: int) -> dict[str, Any]:
    """Curves, heat maps with their theory and histograms, in at most about `most` numbers; `thinned` says whether
    steps, blocks or time steps were left out. The first and the last of each are always in.

    Args:
        said: the run's prediction, as in prediction.json.
    """
    grids = [*found.blocks, *found.times, *found.ends]
    needs = [*(2 * len(curve.steps) for curve in found.curves), *(grid.log10.size for grid in grids)]
    needs += [len(histogram.counts) for histogram in found.histograms]
    given = shares(needs, most)
    thinned = given != needs
    curves = [_curve(curve, size) for curve, size in zip(found.curves, given, strict=False)]
    sizes = given[len(found.curves) :]
    shown = [_thin(grid, size) for grid, size in zip(grids, sizes, strict=False)]
    blocks, rest = shown[: len(found.blocks)], shown[len(found.blocks) :]
    times, ends = rest[: len(found.times)], rest[len(found.times) :]
    decimals = 2 if thinned else 3
    histograms = [
        _histogram(each)
        for each, size in zip(found.histograms, sizes[len(grids) :], strict=True)
        if size == len(each.counts)
    ]
    return {
        "thinned": thinned,
        "curves": curves,
        "heat": [
            {
                "quantity": grid.quantity,
                "label": series.BY_BLOCK[grid.quantity],
                "steps": grid.steps.tolist(),
                "blocks": grid.rows.tolist(),
                "log10": _matrix(grid.log10, decimals),
                "zero": int(series.ZERO),
            }
            for grid in blocks
        ],
        "theory": [_theory(whole, grid, said, decimals) for whole, grid in zip(found.blocks, blocks, strict=True)],
        "time": [_over_time(grid, decimals) for grid in times],
        "ends": [_over_time(grid, decimals) for grid in ends],
        "time_theory": _time_theory(times, said, decimals),
        "histograms": histograms,
    }


def _over_time(grid: series.Grid, decimals: int) -> dict[str, Any]:
    return {
        "layer": grid.name,
        "quantity": grid.quantity,
        "steps": grid.steps.tolist(),
        "times": grid.rows.tolist(),
        "log10": _matrix(grid.log10, decimals),
        "zero": int(series.ZERO),
    }


def _curve(curve: series.Curve, most: int) -> dict[str, Any]:
    kept = evenly(len(curve.steps), max(2, most // 2))
    return {"name": curve.name, "steps": curve.steps[kept].tolist(), "values": rounded(curve.values[kept].tolist())}


def _thin(grid: series.Grid, most: int) -> series.Grid:
    places, moments = grid.log10.shape
    rows, columns = shape(places, moments, most)
    row, column = evenly(places, rows), evenly(moments, columns)
    return series.Grid(grid.quantity, grid.name, grid.rows[row], grid.steps[column], grid.log10[np.ix_(row, column)])


def _matrix(log10: np.ndarray, decimals: int) -> list[list[float | int | None]]:
    return [_row(row, decimals) for row in log10]


def _row(log10: np.ndarray, decimals: int) -> list[float | int | None]:
    short: list[float] = np.round(log10, decimals).tolist()
    return [None if x != x else int(x) if x.is_integer() else x for x in short]


def _theory(whole: series.Grid, shown: series.Grid, said: dict[str, Any] | None, decimals: int) -> dict[str, Any]:
    """What is predicted of the first measured step, as large as the measurement at the last block."""
    found: dict[str, Any] = {"quantity": shown.quantity, "log10": None, "why": None}
    if said is None:
        return found | {"why": "this run's record holds no prediction"}
    if not said.get("applies"):
        return found | {"why": str(said.get("why_not") or "not covered")}
    key = predicted.OF[shown.quantity]
    if said.get(key) is None:
        return found | {"why": "theory says nothing of this quantity"}
    if len(said[key]) != len(whole.rows):
        return found | {"why": f"the prediction is of {len(said[key])} blocks, and {len(whole.rows)} were measured"}
    start = whole.log10[:, 0]
    usable = np.where(np.isin(start, (series.ZERO, series.BROKEN)), np.nan, start)
    placed = predicted.anchored(np.array(said[key], dtype=float), usable)
    if placed is None:
        return found | {"why": "nothing finite was measured at the first step to compare it with"}
    return found | {"log10": _row(placed[np.isin(whole.rows, shown.rows)], decimals)}


def _time_theory(times: list[series.Grid], said: dict[str, Any] | None, decimals: int) -> dict[str, Any] | None:
    """By layer: the predicted fall from the last time step on, as large as the first measurement there.

    Theory is of the first layer, and gives the exponent ½ ln χ₁ per step (`gradflow.runs.time_prediction`).
    """
    profiles = [grid for grid in times if grid.quantity == "time_grad_h"]
    if not profiles or said is None:
        return None
    through = said.get("through_time") or {}
    exponent = through.get("exponent")
    told: dict[str, Any] = {}
    for place, grid in enumerate(profiles):
        last = grid.log10[-1, 0]
        why = None
        if place:
            why = "theory looks at the first layer alone"
        elif exponent is None:
            why = "theory through time covers simple recurrent cells alone"
        elif not math.isfinite(last) or last in (series.ZERO, series.BROKEN):
            why = "nothing finite was measured at the last time step to compare it with"
        line = None if why or exponent is None else last + exponent / math.log(10) * (grid.rows[-1] - grid.rows)
        told[grid.name] = {"log10": None if line is None else _row(line, decimals), "why": why}
    return told


def _histogram(found: series.Histogram) -> dict[str, Any]:
    edges = list(range(found.lowest, found.lowest + len(found.counts) + 1))
    return {
        "title": f"elements of the gradient, block {found.block}, step {found.step}",
        "block": found.block,
        "step": found.step,
        "edges": edges,
        "counts": found.counts,
        "scale": "log2",
        **found.others,
    }
