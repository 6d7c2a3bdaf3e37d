"""Linear recurrences h_t = a_t ⊙ h_{t−1} + b_t over a whole sequence, with exact derivatives of every order.

Shapes: … any leading axes, T time, N states; real or complex.

Nine ways were measured in float32 on two CPU cores (T = 100 and 784, 128 sequences of 128 states, one and two threads):
one multiply-add per step into memory laid out beforehand, which reads and writes every number once, was the fastest,
ahead of blocks of √T steps (1–3.5 times its time), odd-even reduction (2–5), torch's `associative_scan` (5–13), a
Toeplitz matrix per block (4–6), the FFT (8–20) and doubling (5–40). What makes a step-by-step loop slow is not its
length but autograd's book-keeping at every step; here the scan is one node of the graph, and its backward pass another
scan, from the last step to the first. Blocks, which start 2√T kernels instead of T, are the way where a step is too
small to be worth a kernel (break-even at about 2,000 numbers), on accelerators and for compilers.

Nothing is divided and no logarithm is taken: a may be 0, negative or larger than 1, and its products may underflow.
Batched gradients come from `torch.func`; the older `torch.autograd.grad(..., is_grads_batched=True)` does not know how.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

SERIAL_STATES = 2048  # numbers per step from which on a CPU goes step by step


def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """All states [..., T, N] of h_t = a_t ⊙ h_{t−1} + b_t, of which the last is [..., −1, :].

    In float32 at least, whatever the types of the arguments.

    Args:
        a: [..., T, N] like b; or constant over time: one axis less, and what broadcasts to the shape of `start`.
        b: [..., T, N], T ≥ 1.
        start: h_{−1}, [..., N].
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.promote_types(start.dtype, torch.float32))
    if a.ndim < b.ndim:
        a = a.reshape((1,) * (start.ndim - a.ndim) + a.shape)
    else:
        assert a.shape == b.shape, (a.shape, b.shape)
    a, b, start = a.to(dtype), b.to(dtype), start.to(dtype)
    if torch.compiler.is_compiling():
        return _blocked(a, b, start)
    h: Tensor = _Scan.apply(a, b, start)
    return h


class _Scan(Function):
    """(a, b, start) → h."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        return _run(a, b, start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        a, _, start = inputs
        ctx.save_for_backward(a, start, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, start, h = ctx.saved_tensors
        if _serially(start) and not torch.is_grad_enabled():  # nobody will differentiate this once more
            return _serial_back(a, start, h, grad)
        g = _Adjoint.apply(a, grad)
        grad_a = _like(a, g * _before(start, h).conj()) if ctx.needs_input_grad[0] else None
        return grad_a, g, g.select(-2, 0) * _first(a, start).conj()

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        return _Scan.apply(*_batched(info.batch_size, dims, tensors)), 0


class _Adjoint(Function):
    """(a, grad) → g with g_t = grad_t + conj(a_{t+1}) ⊙ g_{t+1}: a scan's derivative with respect to b."""

    @staticmethod
    def forward(a: Tensor, grad: Tensor) -> Tensor:
        return _run_back(a.conj().resolve_conj(), grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, g = ctx.saved_tensors
        nothing = torch.zeros_like(g.select(-2, 0))
        u = _Scan.apply(a, grad, nothing)
        grad_a = _like(a, _before(nothing, u).conj() * g) if ctx.needs_input_grad[0] else None
        return grad_a, u

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        return _Adjoint.apply(*_batched(info.batch_size, dims, tensors)), 0


# --- the two ways, without derivatives ----------------------------------------------------------------------------


def _run(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    return _serial(a, b, start) if _serially(start) else _blocked(a, b, start)


def _run_back(a: Tensor, grad: Tensor) -> Tensor:
    """g_t = grad_t + a_{t+1} ⊙ g_{t+1}."""
    steps, last = grad.shape[-2], grad.select(-2, -1)
    if _serially(last):
        g = torch.empty_like(grad)
        pieces, grads, now = g.unbind(-2), grad.unbind(-2), last
        factors = a.unbind(-2) if a.ndim == grad.ndim else (a,) * steps
        pieces[-1].copy_(last)
        for time in range(steps - 2, -1, -1):
            now = torch.addcmul(grads[time], factors[time + 1], now, out=pieces[time])
        return g
    if a.ndim == grad.ndim:
        a = torch.cat([torch.zeros_like(last).unsqueeze(-2), a.narrow(-2, 1, steps - 1).flip(-2)], -2)
    return _blocked(a, grad.flip(-2), torch.zeros_like(last)).flip(-2)


def _serially(state: Tensor) -> bool:
    return state.device.type == "cpu" and state.numel() >= SERIAL_STATES


def _serial(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    h = torch.empty_like(b)
    now, factors = start, a.unbind(-2) if a.ndim == b.ndim else (a,) * b.shape[-2]
    for factor, drive, piece in zip(factors, b.unbind(-2), h.unbind(-2), strict=True):
        now = torch.addcmul(drive, factor, now, out=piece)
    return h


def _serial_back(a: Tensor, start: Tensor, h: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives with respect to a, b and start in one way back: each number is used while it is in the cache."""
    varying, conjugate = a.ndim == h.ndim, a.conj().resolve_conj()
    g, grad_a = torch.empty_like(h), torch.empty_like(h) if varying else torch.zeros_like(start)
    factors = conjugate.unbind(-2) if varying else (conjugate,) * h.shape[-2]
    into = grad_a.unbind(-2) if varying else (grad_a,) * h.shape[-2]
    grads, pieces, before = grad.unbind(-2), g.unbind(-2), (start, *h.unbind(-2)[:-1])
    now, later = torch.zeros_like(start), factors[0]
    for time in range(h.shape[-2] - 1, -1, -1):
        now = torch.addcmul(grads[time], later, now, out=pieces[time])
        later = factors[time]
        if varying:
            torch.mul(now, before[time].conj(), out=into[time])
        else:
            grad_a.addcmul_(now, before[time].conj())
    return grad_a if varying else grad_a.sum_to_size(a.shape), g, later * now


def _blocked(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """Every block of √T steps from 0, all blocks at once; then what each is handed by the one before it."""
    steps = b.shape[-2]
    length = max(1, math.isqrt(steps))
    count = -(-steps // length)
    varying = a.ndim == b.ndim
    h = _split(b, count, length)
    factors = _split(a, count, length) if varying else a.unsqueeze(-2).unsqueeze(-2)
    rows = [h.select(-2, 0)]
    kept = [factors.select(-2, 0)]
    for place in range(1, length):
        factor = factors.select(-2, place if varying else 0)
        rows.append(torch.addcmul(h.select(-2, place), factor, rows[-1]))
        kept.append(factor * kept[-1])
    ends, spans = rows[-1].unbind(-2), kept[-1].unbind(-2)
    carried = [start]
    for block in range(count - 1):
        carried.append(torch.addcmul(ends[block], spans[block if varying else 0], carried[-1]))
    whole = torch.addcmul(torch.stack(rows, -2), torch.stack(kept, -2), torch.stack(carried, -2).unsqueeze(-2))
    return whole.flatten(-3, -2).narrow(-2, 0, steps)


def _split(x: Tensor, count: int, length: int) -> Tensor:
    """[..., T, N] to [..., count, length, N], with zeros at the end."""
    missing = count * length - x.shape[-2]
    if missing:
        x = torch.cat([x, x.new_zeros((*x.shape[:-2], missing, x.shape[-1]))], -2)
    return x.reshape(*x.shape[:-2], count, length, x.shape[-1])


# --- derivatives ----------------------------------------------------------------------------------------------------


def _first(a: Tensor, state: Tensor) -> Tensor:
    """a_0."""
    return a.select(-2, 0) if a.ndim > state.ndim else a


def _before(start: Tensor, h: Tensor) -> Tensor:
    """h_{t−1} for every t."""
    return torch.cat([start.unsqueeze(-2), h.narrow(-2, 0, h.shape[-2] - 1)], -2)


def _like(a: Tensor, grad: Tensor) -> Tensor:
    """The sum of a gradient [..., T, N] over what `a` does not tell apart."""
    return grad if a.ndim == grad.ndim else grad.sum(-2).sum_to_size(a.shape)


def _batched(size: int, dims: tuple[int | None, ...], tensors: tuple[Tensor, ...]) -> list[Tensor]:
    return [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0) for x, dim in zip(tensors, dims, strict=True)
    ]
