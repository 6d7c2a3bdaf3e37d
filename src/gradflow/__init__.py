"""gradflow: which choices let the gradient reach the first layer, and what that buys on a real task.

For your own model::

    from gradflow import GradientFlow
    Trainer(callbacks=[GradientFlow()])      # any LightningModule

    with gradflow.watch(model) as flow:      # any PyTorch loop
        ...
    flow.ratio()

    gradflow.diagnose(flow)                  # vanishing, exploding, dead …: the verdict, its signs, what would help

`TimeFlow` and `watch_time` are their like for recurrent layers: the gradient of every time step.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Diagnosis", "Flow", "GradientFlow", "TimeFlow", "diagnose", "watch", "watch_time"]

if TYPE_CHECKING:
    from gradflow.diagnosis.stranger import diagnose
    from gradflow.diagnosis.verdict import Diagnosis
    from gradflow.instruments.flow import Flow, watch
    from gradflow.instruments.gradient_flow import GradientFlow
    from gradflow.instruments.time_flow import TimeFlow
    from gradflow.instruments.watch_time import watch_time

WHERE = {
    "Flow": "instruments.flow",
    "watch": "instruments.flow",
    "GradientFlow": "instruments.gradient_flow",
    "TimeFlow": "instruments.time_flow",
    "watch_time": "instruments.watch_time",
    "diagnose": "diagnosis.stranger",
    "Diagnosis": "diagnosis.verdict",
}


def __getattr__(name: str) -> Any:
    """Import torch and Lightning only when somebody asks for what needs them."""
    if name in WHERE:
        return getattr(import_module(f"gradflow.{WHERE[name]}"), name)
    raise AttributeError(f"module 'gradflow' has no attribute {name!r}")
