"""gradflow: which choices let the gradient reach the first layer, and what that buys on a real task.

For your own model::

    from gradflow import GradientFlow
    Trainer(callbacks=[GradientFlow()])      # any LightningModule

    with gradflow.watch(model) as flow:      # any PyTorch loop
        ...
    flow.ratio()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Flow", "GradientFlow", "watch"]

if TYPE_CHECKING:
    from gradflow.instruments.flow import Flow, watch
    from gradflow.instruments.gradient_flow import GradientFlow


def __getattr__(name: str) -> Any:
    """Import torch and Lightning only when somebody asks for what needs them."""
    if name == "GradientFlow":
        from gradflow.instruments.gradient_flow import GradientFlow

        return GradientFlow
    if name in ("Flow", "watch"):
        from gradflow.instruments import flow

        return getattr(flow, name)
    raise AttributeError(f"module 'gradflow' has no attribute {name!r}")
