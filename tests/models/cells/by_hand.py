"""What the tests of cells share: a cell in float64, nothing at its starting value, against a loop written by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from gradflow.models import activations
from gradflow.models.cell import Cell, State
from gradflow.models.recurrence import Carry, Recurrence
from gradflow.rng import stream

FEATURES, WIDTH, BATCH = 3, 4, 2
Loop = Callable[[Cell, Tensor, State], Tensor]  # (cell, x_BTF, state) → output [B, T, H]


def begun(factory: Callable[..., Cell], activation: Callable = activations.tanh, width: int = WIDTH, **keys) -> Cell:
    """As at the start of training, with weights of variance 1/4."""
    cell = factory(FEATURES, width, activation, **keys)
    generator = stream(1, "weights")
    with torch.no_grad():
        for matrix in cell.matrices():
            matrix.tensor.normal_(0, 0.5, generator=generator)
    cell.reset(generator)
    return cell


def moved(factory: Callable[..., Cell], activation: Callable = activations.tanh, **keys) -> Cell:
    """Begun, in float64, and every number moved from where it began."""
    cell = begun(factory, activation, **keys).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=stream(parameter.numel(), "p")).double())
    return cell


def drawn(*shape: int, name: str = "x") -> Tensor:
    """Numbers that depend on shape and name alone."""
    return torch.randn(*shape, generator=stream(0, name, *shape), dtype=torch.float64)


def filled(cell: Cell) -> Cell:
    """Every parameter drawn, those that begin at 0 too."""
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            parameter.copy_(0.7 * drawn(*parameter.shape, name=name))
    return cell


def gradients(out: Tensor, *of: Tensor) -> list[Tensor]:
    """Of a weighted sum of the output, so that no two numbers of it count alike."""
    return list(torch.autograd.grad((out * drawn(*out.shape, name="weights of the loss")).sum(), of))


class Looking:
    """An observer that changes nothing."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[int] = []

    def __call__(self, time: int, state: State) -> State:
        self.seen.append(time)
        return state


def sequence(steps: int, dtype: torch.dtype = torch.float64, batch: int = BATCH) -> Tensor:
    x = torch.randn(batch, steps, FEATURES, generator=stream(2, "x"), dtype=torch.float64)
    return x.to(dtype).requires_grad_()


def state_for(cell: Cell, x: Tensor) -> State:
    """Somewhere in the middle of a sequence."""
    return tuple(
        torch.randn(part.shape, generator=stream(3, i), dtype=part.dtype).mul_(0.5).requires_grad_()
        for i, part in enumerate(cell.start(x))
    )


def run(cell: Cell, x: Tensor, state: State, every: int | None) -> Tensor:
    layer = Recurrence(cell)
    layer.carry = Carry(state)
    if every is not None:
        layer.observer = Looking(every)
    return layer(x)


def agrees_with(loop: Loop, cell: Cell, steps: int = 16, tolerance: float = 1e-10) -> None:
    """Outputs and all gradients, of the state before the first step too: in one call, in segments, step by step."""
    x = sequence(steps)
    state = state_for(cell, x)
    leaves = [x, *state, *cell.parameters()]
    weight = torch.randn(BATCH, steps, cell.width, generator=stream(4, "w"), dtype=torch.float64)

    def all_of(out: Tensor) -> list[Tensor]:
        return [out, *torch.autograd.grad(out, leaves, weight, allow_unused=True, materialize_grads=True)]

    expected = all_of(loop(cell, x, state))
    for every in (None, 7, 1):
        for got, right in zip(all_of(run(cell, x, state, every)), expected, strict=True):
            torch.testing.assert_close(got, right, rtol=tolerance, atol=tolerance)


def is_a_cell(factory: Callable[..., Cell], **keys) -> None:
    """What every cell owes, whatever its equations."""
    made = partial(begun, factory, **keys)
    _a_yaml_with_every_key(factory)
    _shapes_without_memory(factory(FEATURES, WIDTH, activations.tanh, **keys))
    before = torch.get_rng_state()
    first, second = made(), made()
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    _fast_in_float32(made())
    _long_sequences(made())


def _a_yaml_with_every_key(factory: Callable[..., Cell]) -> None:
    found = OmegaConf.load(Path(__file__).parents[3] / "conf" / "cell" / f"{factory.__name__}.yaml")
    assert found.pop("_target_") == f"{factory.__module__}.{factory.__name__}"
    keywords = inspect.signature(factory).parameters.values()
    assert dict(found) == {p.name: p.default for p in keywords if p.kind is p.KEYWORD_ONLY}


def _shapes_without_memory(cell: Cell) -> None:
    layer = Recurrence(cell.to("meta"))
    x = torch.zeros(BATCH, 9, FEATURES, device="meta", requires_grad=True)
    for every in (None, 4, 1):
        layer.observer = None if every is None else Looking(every)
        out = layer(x)
        assert out.shape == (BATCH, 9, WIDTH)
        out.sum().backward()
    z, _ = cell.begin(x)
    assert z.shape[:2] == (BATCH, 9)
    assert z.shape[2] * (2 if z.is_complex() else 1) == cell.inputs
    assert len(cell.start(x)) == len(cell.state_names)


def _fast_in_float32(cell: Cell) -> None:
    x = sequence(100, torch.float32)
    state = tuple(part.detach().to(part.dtype) for part in cell.start(x))
    results = []
    for every in (None, 30, 1):
        out = run(cell, x, state, every)
        assert out.dtype == torch.float32
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *cell.parameters()])])
    for other in results[1:]:
        for got, right in zip(other, results[0], strict=True):
            assert (got - right).abs().max() <= 2e-5 * max(1.0, float(right.detach().abs().max()))


def _long_sequences(cell: Cell) -> None:
    x = sequence(1000, torch.float32)
    out = Recurrence(cell)(x)
    out[:, -1].square().sum().backward()
    for name, parameter in cell.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    assert torch.isfinite(x.grad).all()
