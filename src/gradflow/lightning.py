"""What gradflow uses of Lightning, and the quick way to import it.

Lightning imports torchmetrics, which imports whatever optional package of its metrics it finds: torchvision, SciPy's
signal processing, matplotlib. Of these metrics gradflow uses none, and here they are left out, which halves what an
import of Lightning costs beyond torch. Python's collector rests meanwhile: what modules are made of stays.

A process in which the whole of torchmetrics is wanted imports it before.
"""

from __future__ import annotations

import atexit
import functools
import gc
import re
import sys

_collects = gc.isenabled()
gc.disable()
try:
    import torch
    import torch._dynamo  # which the first optimiser would import; workers have it before they are forked
    from lightning_utilities.core import imports

    def _absent(_name: str) -> bool:
        return False

    def _import_torchmetrics() -> None:
        if "torchmetrics" in sys.modules:
            return
        cache, available = imports.RequirementCache, imports.package_available
        met = cache.__bool__
        of_torch = re.compile(r"torch(metrics)?\s*[<=>]")
        try:
            cache.__bool__ = lambda self: bool(of_torch.match(self.requirement or "")) and met(self)  # type: ignore[method-assign]
            imports.package_available = _absent  # type: ignore[assignment]
            import torchmetrics  # noqa: F401
        finally:
            cache.__bool__, imports.package_available = met, available  # type: ignore[method-assign]

    _import_torchmetrics()
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from lightning.fabric.utilities import registry
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import DDPStrategy
    from lightning.pytorch.trainer import call
    from lightning.pytorch.utilities.model_helpers import is_overridden

    # Every Trainer looks through the metadata of all that is installed: a tenth of what a short run costs
    registry.entry_points = functools.cache(registry.entry_points)  # type: ignore[attr-defined, assignment]
finally:
    gc.freeze()
    atexit.register(gc.unfreeze)  # triton's bindings tell of leaks where Python leaves with frozen objects
    if _collects:
        gc.enable()

__all__ = [
    "Callback",
    "ClusterEnvironment",
    "DDPStrategy",
    "LightningModule",
    "Trainer",
    "call",
    "is_overridden",
    "rank_zero_only",
    "torch",
]
