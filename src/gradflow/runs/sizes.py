"""What one pass through a network costs, found by passing a few examples through it: on the CPU or on the meta device.

Operations are those of matrix products and convolutions, a multiplication and an addition being two, as
`torch.utils.flop_counter` has them; element-wise functions and normalisations are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gradflow.models.network import Network
from gradflow.tasks.task import Task

EXAMPLES = 13  # a prime number, so that what grows with the batch can be told from what does not
FEW = 3  # of large examples
LARGE = 4096  # numbers in one
REHEARSED = (2, 4)  # steps of a sequence that a network of any length is passed: what it costs grows along a line
# torch's functions in which matrices are multiplied; those of models of ours are among them. Of the first few it is
# known without a look inside how many operations they are.
MAPS = ("linear", "conv1d", "conv2d", "conv3d")
PRODUCTS = (
    *("bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "inner", "addmm", "addmv", "addbmm"),
    *("baddbmm", "einsum", "tensordot", "multi_dot", "chain_matmul", "matrix_exp", "matrix_power", "conv_transpose1d"),
    *("conv_transpose2d", "conv_transpose3d", "scaled_dot_product_attention", "multi_head_attention_forward"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
)


@dataclass(frozen=True)
class Sizes:
    """In float32, for examples of the task's full length.

    Attributes:
        parameters: numbers that are trained.
        operations: floating-point operations of one example's way forward.
        activations: bytes kept for the way back for each example.
        fixed: bytes kept whatever the batch, such as normalised weights; not the weights themselves.
    """

    parameters: int
    operations: float
    activations: float
    fixed: float


@dataclass(frozen=True)
class _Pass:
    out: Tensor
    operations: float
    activations: float
    fixed: float


def measure(network: Network, task: Task) -> tuple[Tensor, Sizes]:
    """Pass a batch of zeros through an uninitialised network; torch's global generator stays as it is.

    Args:
        network: on the current device; on the CPU its parameters become zero.

    Returns:
        The output for the batch, of `steps(network, task)` steps, and what it cost.

    Raises:
        ValueError, TypeError, RuntimeError: whatever the network says of a batch that does not fit.
    """
    parameters = list(network.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    examples = min(EXAMPLES if _numbers(task) <= LARGE else FEW, task.batch_size)
    with torch.random.fork_rng(devices=[]):
        for parameter in parameters:
            if not parameter.is_meta:
                parameter.detach().zero_()
        if not network.any_length:
            whole = _passed(network, torch.zeros(examples, *task.input_shape))
            return whole.out, Sizes(trained, whole.operations, whole.activations, whole.fixed)
        length, *features = task.input_shape
        steps = [min(step, length) for step in REHEARSED]
        with _step_by_step():
            short, longer = (_passed(network, torch.zeros(examples, step, *features)) for step in steps)
    share = (length - steps[1]) / max(1, steps[1] - steps[0])

    def at_length(of: Callable[[_Pass], float]) -> float:
        return of(longer) + share * (of(longer) - of(short))

    return longer.out, Sizes(
        trained,
        at_length(lambda p: p.operations),
        at_length(lambda p: p.activations),
        at_length(lambda p: p.fixed),
    )


def _passed(network: Network, x: Tensor) -> _Pass:
    counter, kept = _Operations(), dict[int, Tensor]()
    counting = counter if x.is_meta else _OfProducts(counter)
    of_parameters = {p.untyped_storage()._cdata for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()._cdata
        if place not in of_parameters:
            kept[place] = tensor
        return tensor

    with counting, torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        out: Tensor = network(x)
    sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
    of_batch = sum(size for size, t in zip(sizes, kept.values(), strict=True) if t.numel() % len(x) == 0)
    return _Pass(out, counter.total / len(x), of_batch / len(x), float(sum(sizes) - of_batch))


@contextmanager
def _step_by_step() -> Iterator[None]:
    """Without oneDNN, whose one kernel for a whole LSTM shows nothing of what it does. torch's own context manager sets
    switches of Intel's GPUs beside it, and warns of them."""
    was = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(was)


class _Operations(TorchDispatchMode):
    """Counts without torch's own counter's books on modules, which cost more than a small network does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


class _OfProducts(TorchFunctionMode):
    """Lets a counter see products alone: to see every operator costs several times what the operator does."""

    def __init__(self, counter: _Operations) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in PRODUCTS:
            with self._counter:
                return func(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if name in MAPS:
            weight = args[1] if len(args) > 1 else (kwargs or {})["weight"]
            self._counter.total += 2 * out.numel() * weight[0].numel()  # for each number one unit's weights
        return out


def _numbers(task: Task) -> int:
    count = 1
    for size in task.input_shape:
        count *= size
    return count
