"""The scan against the loop that it stands for, in both of its ways, with derivatives of first and second order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradflow.models import scan as module
from gradflow.models.scan import scan
from gradflow.rng import stream

SHAPES = {"varying": "btn", "constant": "n", "constant per sequence": "bn", "broadcast": "1n"}  # of a
TYPES = (torch.float64, torch.complex128)


@pytest.fixture(params=["step by step", "blocks"])
def _way(request, monkeypatch):
    """Both ways, whatever the size."""
    monkeypatch.setattr(module, "SERIAL_STATES", 0 if request.param == "step by step" else 10**9)


both = pytest.mark.usefixtures("_way")


def drawn(shape: str, steps: int, dtype: torch.dtype, batch: int = 3, width: int = 4) -> list[Tensor]:
    """a, b and start, to be differentiated."""
    letters = {"b": batch, "t": steps, "n": width, "1": 1}
    sizes = [tuple(letters[each] for each in axes) for axes in (SHAPES[shape], "btn", "bn")]
    draw = lambda i, size: torch.randn(size, generator=stream(i, "scan"), dtype=dtype)  # noqa: E731
    return [draw(i, size).requires_grad_() for i, size in enumerate(sizes)]


def loop(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    h, out = start, []
    for t in range(b.shape[-2]):
        h = (a[..., t, :] if a.ndim == b.ndim else a) * h + b[..., t, :]
        out.append(h)
    return torch.stack(out, -2)


@both
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 17])
def test_states_and_gradients(steps, shape, dtype):
    inputs = drawn(shape, steps, dtype)
    got, right = scan(*inputs), loop(*inputs)
    torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)
    weight = torch.randn(got.shape, generator=stream(9, "w"), dtype=dtype)
    for mine, theirs in zip(
        torch.autograd.grad(got, inputs, weight), torch.autograd.grad(right, inputs, weight), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@both
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_second_derivatives(shape, dtype):
    inputs = drawn(shape, 4, dtype, batch=2, width=2)  # every entry is moved by itself, twice
    assert torch.autograd.gradcheck(scan, inputs)
    assert torch.autograd.gradgradcheck(scan, inputs)


@both
def test_only_what_is_asked_for_is_differentiated():
    a, b, start = (x.detach() for x in drawn("varying", 5, torch.float64))
    b.requires_grad_()
    (grad,) = torch.autograd.grad(scan(a, b, start).sum(), b)
    (right,) = torch.autograd.grad(loop(a, b, start).sum(), b)
    torch.testing.assert_close(grad, right)


@both
@pytest.mark.parametrize("dtype", TYPES)
def test_factors_of_0_lose_nothing(dtype):
    """No logarithm, no division."""
    a, b, start = drawn("varying", 9, dtype)
    with torch.no_grad():
        a[:, 2::3] = 0
    torch.testing.assert_close(scan(a, b, start), loop(a, b, start), rtol=1e-13, atol=1e-13)
    for x in torch.autograd.grad(scan(a, b, start).abs().sum(), (a, b, start)):
        assert torch.isfinite(torch.view_as_real(x) if x.is_complex() else x).all()


@both
def test_products_that_underflow_do_no_harm_in_float32():
    """0.5^1000 = 0 in float32, and Σ 0.5^k b stays what it is; blocks multiply factors, but only to add what is 0."""
    a, b = torch.full((1, 1000, 4), 0.5), torch.ones(1, 1000, 4)
    h = scan(a, b.requires_grad_(), torch.zeros(1, 4))
    torch.testing.assert_close(h[:, -1], torch.full((1, 4), 2.0))
    h[:, -1].sum().backward()
    assert torch.equal(b.grad[0, :, 0], 0.5 ** torch.arange(999, -1, -1.0))


@both
def test_rounding_in_float32_is_that_of_the_loop():
    """T = 1000 with |a| up to 0.999: within 1e-6 of float64, relative to the largest state."""
    a = torch.rand(2, 1000, 4, generator=stream(0, "a"), dtype=torch.float64) * 0.999
    b = torch.randn(2, 1000, 4, generator=stream(0, "b"), dtype=torch.float64)
    exact = loop(a, b, torch.zeros(2, 4, dtype=torch.float64))
    got = scan(a.float(), b.float(), torch.zeros(2, 4))
    assert (got.double() - exact).abs().max() <= 1e-6 * exact.abs().max()


@both
def test_halves_make_the_whole():
    a, b, start = (x.detach() for x in drawn("varying", 11, torch.float64))
    first = scan(a[:, :5], b[:, :5], start)
    second = scan(a[:, 5:], b[:, 5:], first[:, -1])
    torch.testing.assert_close(torch.cat([first, second], 1), scan(a, b, start), rtol=1e-12, atol=1e-12)


def test_sizes_choose_the_way(monkeypatch):
    """Both are taken: large states go step by step, small ones in blocks; they agree."""
    taken = []
    for name in ("_serial", "_blocked"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, name=name: taken.append(name) or real(*args))
    for batch in (1, 200):
        scan(torch.rand(16), torch.rand(batch, 5, 16), torch.rand(batch, 16))
    assert taken == ["_blocked", "_serial"]


def test_half_precision_is_scanned_in_float32():
    b = torch.ones(1, 300, 2, dtype=torch.bfloat16)
    h = scan(torch.ones(2, dtype=torch.bfloat16), b, torch.zeros(1, 2))
    assert h.dtype == torch.float32
    assert float(h[0, -1, 0]) == 300  # in bfloat16 it would stop at 256


def test_torch_func_maps_over_it():
    a, b, start = (x.detach() for x in drawn("constant", 6, torch.float64))
    many = torch.randn(5, 4, generator=stream(7, "a"), dtype=torch.float64)
    mapped = torch.func.vmap(scan, (0, None, None))(many, b, start)
    torch.testing.assert_close(mapped, torch.stack([loop(one, b, start) for one in many]))
    jacobian = torch.func.jacrev(scan, argnums=2)(a, b, start)
    powers = torch.stack([a ** (t + 1) for t in range(6)])
    for row in range(3):
        got = jacobian[row, :, :, row].diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(got, powers)


def test_shapes_without_memory():
    for shape in SHAPES:
        inputs = [x.detach().to("meta").requires_grad_() for x in drawn(shape, 7, torch.complex128)]
        h = scan(*inputs)
        assert h.shape == (3, 7, 4)
        grads = torch.autograd.grad(h, inputs, torch.empty_like(h))
        assert [g.shape for g in grads] == [x.shape for x in inputs]


def test_a_compiler_takes_the_blocks_with_the_same_derivatives():
    inputs = drawn("varying", 10, torch.float64)
    compiled = torch.compile(lambda *x: scan(*x).square().sum(), backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(
        torch.autograd.grad(compiled(*inputs), inputs),
        torch.autograd.grad(loop(*inputs).square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
