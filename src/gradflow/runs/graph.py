"""Which runs have networks of one graph, and so can be trained as one. Needs no torch."""

from __future__ import annotations

import json
from typing import Any

# Choices in which runs of one graph may differ: what sets the numbers of weights, optimisers and remedies.
FREE = ("seed", "recipe", "init", "recurrent_init", "scheduler")
PRECISIONS = ("32", "tf32", "64")
NOISY = {"activation": ("rrelu",), "skip": ("stochastic_depth",)}


def why_alone(labels: dict[str, Any], config: dict[str, Any]) -> str | None:
    """Why a run is always made alone; None for one that can be trained with others.

    Args:
        labels: of the run, as `gradflow.runs.identity.labels` has them.
        config: resolved.
    """
    trainer, hardware = config["trainer"], config["hardware"]
    drawing = [f"{name}={config[name]:g}" for name in ("dropout", "alpha_dropout", "input_noise") if config[name]]
    drawing += [f"{factor}={word}" for factor, words in NOISY.items() if (word := labels.get(factor)) in words]
    if drawing:  # modules would draw the numbers of their neighbours
        return f"{' '.join(drawing)} draws random numbers while it trains"
    if hardware["precision"] not in PRECISIONS:
        return f"hardware.precision={hardware['precision']}"
    if hardware["compile"]:
        return "hardware.compile=true"
    if trainer["devices"] * trainer["num_nodes"] > 1:
        return "it trains in several processes"
    if trainer["max_time"] is not None:
        return f"trainer.max_time={trainer['max_time']} ends it by the clock"
    if labels.get("cell") and config["instruments"]["time_segments"] is not None:
        return f"instruments.time_segments={config['instruments']['time_segments']} looks into its training steps"
    return None


def graph_key(labels: dict[str, Any], config: dict[str, Any]) -> str | None:
    """The same for runs that can be trained as one; None for a run that is always made alone. See `why_alone`."""
    if why_alone(labels, config) is not None:
        return None
    same = {key: value for key, value in labels.items() if not _is_free(key, value)}
    same["momentum"] = bool(labels.get("optimizer.momentum"))  # without it an optimiser remembers less
    return json.dumps(
        [same, config["trainer"], config["instruments"], list(config["remedy"])], sort_keys=True, default=str
    )


def _is_free(key: str, value: Any) -> bool:
    """Numbers of optimisers and remedies are free; words and switches such as 'optimizer.nesterov' are not."""
    first = key.partition(".")[0]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return first in FREE or "seed" in key or (first in ("optimizer", "remedy") and (number or key == "optimizer.betas"))
