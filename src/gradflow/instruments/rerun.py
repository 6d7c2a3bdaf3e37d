"""Calling part of a network once more, on one example, to differentiate it, without leaving a trace.

Shapes: R copies of the example, M numbers in its input, N in its output, B examples of the batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm, _NormBase

from gradflow.instruments import ranks
from gradflow.instruments.instrument import Named

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
CHANGED = ("training", "momentum", "track_running_stats", "_buffers", *HOOKS)


class Unfit(Exception):
    """What a module was called with, or gives, has no Jacobian of one example."""


@dataclass(frozen=True)
class Call:
    """A module's call on a batch, to be made again on copies of the batch's first example.

    Attributes:
        module: which.
        args: as it was called, the batch's axis cut to the first example; keyword arguments as a `Named` at the end.
        place: which of `args` is the input.
        shape: of one example's output.
        batch: `args` of all examples, where the module's batch normalisation needs them.
    """

    module: nn.Module
    args: tuple[Any, ...]
    place: int
    shape: torch.Size
    batch: tuple[Any, ...] | None

    @staticmethod
    def of(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Call:
        """Take a copy of what is needed.

        Raises:
            Unfit: without exactly one floating-point input whose axis 0, like the output's, is that of examples.
        """
        flat = [*args[:-1], *args[-1].values()] if args and isinstance(args[-1], Named) else list(args)
        if any(isinstance(each, list | tuple | dict) for each in flat):
            raise Unfit("an argument is a list, tuple or dict")
        numbers = [
            each for each in flat if isinstance(each, Tensor) and (each.is_floating_point() or each.is_complex())
        ]
        place = [i for i, each in enumerate(args) if numbers and each is numbers[0]]
        if len(numbers) != 1 or len(place) != 1 or numbers[0].is_complex() or numbers[0].ndim < 2:
            raise Unfit("not exactly one floating-point tensor [examples, …] is given, by position")
        size = numbers[0].shape[0]
        if output.ndim < 2 or output.shape[0] != size or getattr(module, "batch_first", True) is False:
            raise Unfit("axis 0 of its input and output is not that of examples")
        coupled = any(True for _ in _coupling(module))
        batch = _mapped(args, lambda t: t.detach().clone()) if coupled else None
        return Call(module, _mapped(args, lambda t: _one(t, size)), place[0], output.shape[1:], batch)

    @cached_property
    def input(self) -> Tensor:
        """[1, …], in the type of the module's parameters: a training step may compute in a narrower one."""
        x: Tensor = self.args[self.place]
        kinds = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return x.to(next(kinds, x.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """The output [R, …] for inputs [R, …]; inside `rerunning`."""
        copies = len(x)
        args = list(_mapped(self.args, lambda t: t.expand(copies, *t.shape[1:]) if t.ndim and len(t) == 1 else t))
        args[self.place] = x * 1  # not a leaf: the module may work in place
        output = _first_tensor(_call(self.module, args))
        if output is None or output.shape != (copies, *self.shape):
            raise Unfit("its output for one example has another shape than for a batch")
        return output


def rows(call: Call) -> Tensor:
    """The Jacobian [N, M]: N copies of the example, each of which is asked for one number of its output.

    `is_grads_batched` would need one copy, but falls back to a loop for derivatives as common as tanh's.
    """
    count = call.shape.numel()
    x = call.input.expand(count, *call.input.shape[1:]).detach().clone().requires_grad_()
    y = call(x)
    seeds = torch.eye(count, dtype=y.dtype, device=y.device).view_as(y)
    return _gradient(y, x, seeds).flatten(1)


def gram_product(call: Call, vectors: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """(v ↦ J Jᵀ v or Jᵀ J v for vectors [p, size], size): whichever of the two is smaller.

    Jᵀu is backpropagation; since it is linear in u, its own backpropagation gives J w.
    """
    x = call.input.expand(vectors, *call.input.shape[1:]).detach().clone().requires_grad_()
    y = call(x)
    u = torch.zeros_like(y).requires_grad_()
    back = _gradient(y, x, u, create_graph=True)

    def transposed(v: Tensor) -> Tensor:
        return _gradient(y, x, v.to(y.dtype).view_as(y), retain_graph=True).flatten(1).to(v.dtype)

    def forward(w: Tensor) -> Tensor:
        return _gradient(back, u, w.to(x.dtype).view_as(x), retain_graph=True).flatten(1).to(w.dtype)

    if y[0].numel() <= x[0].numel():
        return lambda v: forward(transposed(v)), y[0].numel()
    return lambda v: transposed(forward(v)), x[0].numel()


@contextmanager
def rerunning(calls: Iterable[Call]) -> Iterator[None]:
    """Inside, the calls may be made and differentiated; afterwards everything is as it was.

    No hook of the modules fires, nothing random happens (evaluation mode, but for normalisations), autocast is off, and
    operations are those that can be differentiated twice.
    """
    modules = {id(module): module for call in calls for module in call.module.modules()}.values()
    devices = {call.args[call.place].device for call in calls}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device for device in devices if device.type == "cuda"]))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        for kind in {device.type for device in devices}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if any(isinstance(m, nn.RNNBase) for m in modules):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its kernels differentiate while training
        stack.callback(_restore, [(m.__dict__, dict(m.__dict__)) for m in modules])
        for module in modules:
            attributes = module.__dict__
            attributes["training"] = module.training and isinstance(module, _NormBase)
            attributes.update((name, OrderedDict()) for name in HOOKS if attributes.get(name))
            if module._buffers:
                attributes["_buffers"] = {k: None if b is None else b.clone() for k, b in module._buffers.items()}
        yield


def hold_statistics(call: Call) -> None:
    """Let batch normalisations keep the statistics of the batch, until the end of `rerunning`, inside which this is."""
    if call.batch is None:
        return
    norms, counts = list(_coupling(call.module)), dict[int, float]()
    for norm in norms:
        like = next((t for t in (norm.running_mean, norm.weight) if t is not None), call.input)
        mean = like.new_zeros(norm.num_features)
        count = torch.zeros((), dtype=torch.long, device=mean.device)
        buffers = {"running_mean": mean, "running_var": mean.clone(), "num_batches_tracked": count}
        norm.__dict__["_buffers"] = {**norm._buffers, **buffers}
        norm.training, norm.momentum, norm.track_running_stats = True, 1.0, True
        norm.__dict__["_forward_pre_hooks"] = OrderedDict({0: lambda m, a: counts.__setitem__(id(m), a[0].numel())})
    batch = list(call.batch)
    batch[call.place] = batch[call.place].to(call.input.dtype)
    with torch.no_grad():
        _call(call.module, batch)
    for norm in norms:
        spread = ranks.world() if isinstance(norm, SyncBatchNorm) or getattr(norm, "sync", False) else 1
        rows = spread * counts.get(id(norm), 0.0) / norm.num_features
        assert norm.running_var is not None
        norm.running_var *= (rows - 1) / rows if rows else 1.0  # running variances are unbiased, a batch's is not
        norm.training = False
        norm.__dict__["_forward_pre_hooks"] = OrderedDict()


def _coupling(module: nn.Module) -> Iterator[_BatchNorm]:
    """Batch normalisations that use the statistics of the batch."""
    for each in module.modules():
        if isinstance(each, _BatchNorm) and (each.training or each.running_mean is None):
            yield each


def _restore(kept: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for attributes, before in kept:
        for name in CHANGED:
            if name in before:
                attributes[name] = before[name]


def _call(module: nn.Module, args: list[Any]) -> Any:
    named = args[-1] if args and isinstance(args[-1], Named) else {}
    return module(*(args[:-1] if named else args), **named)


def _mapped(args: tuple[Any, ...], change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    def one(value: Any) -> Any:
        if isinstance(value, Named):
            return Named((name, one(each)) for name, each in value.items())
        return change(value) if isinstance(value, Tensor) else value

    return tuple(map(one, args))


def _one(tensor: Tensor, batch: int) -> Tensor:
    """The first example of what has as many as the batch: the input, or a mask."""
    cut = tensor[:1] if tensor.ndim and tensor.shape[0] == batch else tensor
    return cut.detach().clone()


def _first_tensor(output: Any) -> Tensor | None:
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def _gradient(y: Tensor, x: Tensor, seeds: Tensor, **options: Any) -> Tensor:
    (found,) = torch.autograd.grad(y, x, seeds, allow_unused=True, materialize_grads=True, **options)
    return found
