"""Looking at a module without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn

_under_way: ContextVar[bool] = ContextVar("probing", default=False)


def under_way() -> bool:
    """Whether a pass that is made now is a probe's, which those who watch the training step must leave out."""
    return _under_way.get()


@contextmanager
def probing(module: nn.Module) -> Iterator[None]:
    """Inside, gradients are recorded; afterwards random generators, buffers and parameters are as they were.

    So a module in training mode may drop units, count running statistics and clip its weights inside: the training that
    goes on afterwards is the same as if nobody had looked. Its mode and its parameters' `grad` are not touched here.
    """
    tensors = [*module.parameters(), *module.buffers()]
    devices = sorted({t.device.index or 0 for t in tensors if t.device.type == "cuda"})
    kept = [
        (owner, name, buffer, None if buffer is None else buffer.detach().clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
    ]
    weights = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]
    with torch.random.fork_rng(devices), torch.enable_grad():
        before_it = _under_way.set(True)
        try:
            yield
        finally:
            _under_way.reset(before_it)
            with torch.no_grad():
                for parameter, before in weights:
                    if not torch.equal(parameter, before):
                        parameter.copy_(before)
                for owner, name, buffer, values in kept:
                    owner._buffers[name] = buffer
                    if buffer is not None and values is not None:
                        buffer.copy_(values)
