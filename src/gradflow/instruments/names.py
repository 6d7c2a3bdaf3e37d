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
PRESETS: dict[str, tuple[str, ...]] = {"none": (), "cheap": CHEAP, "full": NAMES}
