"""The instruments there are, and the presets. Each name is that of a module beside this one. Needs no torch."""

from __future__ import annotations

CHEAP = ("grad_norm", "delta_norm", "update_ratio", "weight_norm", "activation_stats", "derivative_chain", "loss_curve")
NAMES = (
    *CHEAP,
    "grad_histogram",
    "jacobian_spectrum",
    "gradient_similarity",
    "gradient_noise",
    "effective_rank",
)
# How many of a preset's intervals lie between two looks of an instrument: weights are many, and change slowly.
PRESETS: dict[str, dict[str, int]] = {
    "none": {},
    "cheap": {**dict.fromkeys(CHEAP, 1), "update_ratio": 2, "weight_norm": 4},
    "full": dict.fromkeys(NAMES, 1),
}
