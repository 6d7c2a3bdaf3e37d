"""A report page of made-up runs, as many as wanted, by way of gradflow's own writer: for tests and measurements.

Names of runs and levels are hostile: whatever is shown of them must be words. No record is read or written.
"""

from __future__ import annotations

import itertools
import math
from statistics import fmean
from typing import Any

from gradflow.results.page.document import document, plotly

SCRIPT = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(2)>"
ACTIVATIONS = ("relu", "sigmoid", IMAGE)
NORMS = ("none", "batch", "layer")
DEPTHS = (2, 10, 30, 100)
TASKS = ("digits", "adding")
STEPS = [0, 50, 100, 150, 200]
BLOCKS = 8
CHUNK = 100  # runs whose details are one part


def made(count: int, **boot: Any) -> str:
    """The HTML of a page with `count` runs, Plotly and all."""
    head, parts = data(count)
    return document({**head, **boot}, {**parts, "plotly": plotly()})


def data(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Boot data and parts of it."""
    runs = _runs(count)
    parts = {
        "runs": _columns(runs),
        "table": _table(runs),
        "factors": {"series": _series(runs), "left_out": 0},
        "effects": _effects(),
        "comparisons-norm": _comparisons(runs),
        **_details(runs),
    }
    boot = {
        **{"format": 1, "version": "0", "title": f"{SCRIPT} sweep", "summary": f"{count} runs: some of each state"},
        **{"command": f"gradflow sweep name='{IMAGE}'", "live": False, "stamp": "1", "notes": [f"noted {SCRIPT}"]},
        **{"problems": [f"runs/{IMAGE}: not JSON"], "runs": count, "theme": None, "pictures": [_picture()]},
    }
    return boot, parts


def _runs(count: int) -> list[dict[str, Any]]:
    """Every combination in turn, with as many seeds as it takes."""
    settings = list(itertools.product(TASKS, ACTIVATIONS, NORMS, DEPTHS))
    return [_run(i, *settings[i % len(settings)], seed=i // len(settings)) for i in range(count)]


def _run(i: int, task: str, activation: str, norm: str, depth: int, seed: int) -> dict[str, Any]:
    state = {5: "diverged", 11: "failed", 17: "missing"}.get(i % 40, "completed")
    strength = {"relu": 0.98, "sigmoid": 0.3, IMAGE: 0.7}[activation] ** (1 if norm == "none" else 0.2)
    ratio = strength**depth * (1 + 0.1 * math.sin(i))
    done = state == "completed"
    return {
        **{"id": f"{i:012x}", "task": task, "activation": activation, "norm": norm, "depth": depth, "seed": seed},
        **{"state": state, "verdict": ("vanishing" if ratio < 1e-3 else "healthy") if done else None},
        "metric": round(0.1 + 0.85 * strength ** (depth / 30) + 0.02 * math.sin(7 * i), 6) if done else None,
        "gradient_ratio": None if not done else 0.0 if ratio < 1e-45 else ratio,
        **{"train_seconds": 10 + i % 90 if done else None, "steps": 200 if done else None, "parameters": 1000 * depth},
        "title": f"{SCRIPT} {task} {activation} {norm} depth {depth} seed {seed}",
    }


def _columns(runs: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {**dict.fromkeys(("task", "activation", "norm", "depth", "seed"), "factor")}
    kinds |= {"state": "state", "verdict": "state", "title": "title"}
    columns = []
    for key in [key for key in runs[0] if key != "id"]:
        number = not any(isinstance(run[key], str) for run in runs)
        titles = {"metric": "test accuracy", "gradient_ratio": "gradient ratio", "train_seconds": "train time"}
        column: dict[str, Any] = {"key": key, "title": titles.get(key, key), "kind": kinds.get(key, "figure")}
        column |= {"type": "number" if number else "word", "unit": "s" if key == "train_seconds" else None}
        column["better"] = "larger" if key == "metric" else None
        if key in kinds and key != "seed":
            values = list(dict.fromkeys(run[key] for run in runs if run[key] is not None))
            code = {value: i for i, value in enumerate(values)}
            column |= {"values": values, "codes": [code.get(run[key], -1) for run in runs]}
        else:
            column["data"] = [run[key] for run in runs]
        columns.append(column)
    return {"id": [run["id"] for run in runs], "chunk": [i // CHUNK for i in range(len(runs))], "columns": columns}


def _table(runs: list[dict[str, Any]]) -> dict[str, Any]:
    headers = [{"text": key, "key": key, "type": "word"} for key in ("task", "activation", "norm")]
    headers += [{"text": "depth", "key": "depth", "type": "number"}]
    headers += [{"text": "test accuracy", "key": "metric", "type": "number"}]
    rows = []
    for setting in itertools.product(TASKS, ACTIVATIONS, NORMS, DEPTHS):
        found = [run["metric"] for run in _of(runs, *setting) if run["metric"] is not None]
        value = fmean(found) if found else None
        cells = [{"t": str(label), "v": label, "c": "", "h": ""} for label in setting]
        rows.append([*cells, {"t": "–" if value is None else f"{value:.3f}", "v": value, "c": "", "h": SCRIPT}])
    return {"headers": headers, "rows": rows, "notes": [f"mean over seeds {IMAGE}"]}


def _of(runs: list[dict[str, Any]], task: str, activation: str, norm: str, depth: int) -> list[dict[str, Any]]:
    place = [TASKS, ACTIVATIONS, NORMS, DEPTHS]
    start = 0
    for values, value in zip(place, (task, activation, norm, depth), strict=True):
        start = start * len(values) + list(values).index(value)
    return runs[start :: math.prod(map(len, place))]


def _series(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    series = []
    for task, by, value in itertools.product(TASKS, ("activation", "norm"), ("metric", "gradient_ratio")):
        for level in ACTIVATIONS if by == "activation" else NORMS:
            points = []
            for depth in DEPTHS:
                cell = [
                    run[value]
                    for other in (NORMS if by == "activation" else ACTIVATIONS)
                    for run in _of(runs, task, *((level, other) if by == "activation" else (other, level)), depth)
                    if run[value] is not None
                ]
                if cell:
                    points.append(
                        {"x": depth, "mean": fmean(cell), "low": min(cell), "high": max(cell), "n": len(cell)}
                    )
            named = {"task": task, "metric": "test accuracy", "better": "larger", "x": "depth", "by": by}
            pooled = ["norm" if by == "activation" else "activation"]
            series.append({**named, "technique": level, "value": value, "points": points, "pooled": pooled})
    return series


def _effects() -> list[dict[str, Any]]:
    levels = [
        ("activation", "sigmoid", "relu", -0.3),
        ("activation", IMAGE, "relu", -0.12),
        ("norm", "batch", "none", 0.1),
    ]
    return [
        {
            **{"task": task, "metric": "test accuracy", "factor": factor, "level": level, "reference": reference},
            "difference": {"value": value, "low": value - 0.02, "high": value + 0.03, "count": 12},
            "better": value > 0,
        }
        for task in TASKS
        for factor, level, reference, value in levels
    ]


def _comparisons(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task, (a, b) in itertools.product(TASKS, itertools.combinations(NORMS, 2)):
        pairs = []
        for activation, depth in itertools.product(ACTIVATIONS, DEPTHS):
            for one, other in zip(
                _of(runs, task, activation, a, depth), _of(runs, task, activation, b, depth), strict=False
            ):
                if one["metric"] is not None and other["metric"] is not None:
                    setting = f"{activation}, depth {depth}, seed {one['seed']}"
                    both = {"a": one["metric"], "b": other["metric"]}
                    pairs.append({"setting": setting, "run_a": one["id"], "run_b": other["id"], **both})
        differences = [pair["b"] - pair["a"] for pair in pairs]
        value = fmean(differences)
        found.append(
            {
                **{"task": task, "metric": "test accuracy", "larger_is_better": True, "factor": "norm", "a": a, "b": b},
                **{"pairs": pairs[:200], "count": len(pairs)},
                "difference": {"value": value, "low": value - 0.01, "high": value + 0.01, "count": len(pairs)},
                "effect_size": 0.8,
                "improvement": {"value": 0.75, "low": 0.6, "high": 0.9, "count": len(pairs)},
                **{"test": "Wilcoxon signed-rank (exact)", "p": 0.004, "p_holm": 0.012},
            }
        )
    return found


def _details(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    chunks = itertools.batched(runs, CHUNK) if hasattr(itertools, "batched") else _batches(runs)
    return {f"details-{k}": {run["id"]: _detail(run) for run in chunk} for k, chunk in enumerate(chunks)}


def _batches(runs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [runs[i : i + CHUNK] for i in range(0, len(runs), CHUNK)]


def _detail(run: dict[str, Any]) -> dict[str, Any]:
    fall = math.log10(max(run["gradient_ratio"] or 1e-3, 1e-50)) / (BLOCKS - 1)
    heat = [[round((BLOCKS - 1 - block) * fall + 0.002 * step, 3) for step in STEPS] for block in range(BLOCKS)]
    recurrent = run["task"] == "adding"
    times = list(range(0, 40, 4))
    falls = [[round((36 - t) * -0.05 + 0.001 * step, 3) for step in STEPS] for t in times]
    line = [round((36 - t) * -0.06, 3) for t in times]
    config = {
        "activation.name": run["activation"],
        "model.depth": run["depth"],
        "norm": run["norm"],
        "seed": run["seed"],
    }
    return {
        **{"state": run["state"], "title": run["title"], "thinned": False, "attempts": 2, "host": f"node {IMAGE}"},
        "curves": [
            {"name": f"{split}/loss", "steps": STEPS, "values": [2.0 / (1 + i) + shift for i in range(5)]}
            for split, shift in (("train", 0.0), ("val", 0.1))
        ],
        "heat": [
            {
                **{"quantity": "grad_norm", "label": "‖∂L/∂(W_l, b_l)‖", "steps": STEPS},
                **{"blocks": list(range(BLOCKS)), "log10": heat, "zero": -999},
            }
        ],
        "theory": [{"quantity": "grad_norm", "log10": [row[0] for row in heat], "why": None}],
        "time": [
            {
                "layer": "blocks.0",
                "quantity": "time_grad_h",
                "steps": STEPS,
                "times": times,
                "log10": falls,
                "zero": -999,
            }
        ]
        if recurrent
        else [],
        "time_theory": {"blocks.0": {"log10": line, "why": None}} if recurrent else None,
        "histograms": [
            {
                **{"title": f"elements of the gradient, block {block}, step {step}", "block": block, "step": step},
                **{"edges": list(range(-20, -11)), "counts": [1, 4, 9, 20, 31, 20, 6, 2], "scale": "log2"},
                **{"zero": 3, "subnormal": 0, "nonfinite": 0},
            }
            for block in (0, 7)
            for step in (0, 200)
        ],
        "diagnosis": {
            **{"verdict": run["verdict"], "so_far": False, "clear": ["exploding", "dead"], "unmeasured": ["saturated"]},
            "signs": [
                {
                    **{"of": "vanishing", "name": "ratio", "what": "gradient ratio first ÷ last block"},
                    **{"value": run["gradient_ratio"], "threshold": 0.001, "where": f"blocks.00 {SCRIPT}"},
                }
            ],
            "cures": [{"text": f"he_normal {IMAGE}: why", "overrides": ["init=he_normal"], "source": "advice"}],
        },
        **{"config": config, "command": f"gradflow train depth={run['depth']} 'name={IMAGE}'"},
        "error": f"Traceback\nRuntimeError: {SCRIPT}" if run["state"] == "failed" else None,
        **{"cost": {"device": "cpu", "train_seconds": run["train_seconds"]}, "environment": {"python": "3.11"}},
    }


def _picture() -> dict[str, str]:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    return {"title": f"Gradient by block {SCRIPT}", "alt": "A dot", "png": dot}
