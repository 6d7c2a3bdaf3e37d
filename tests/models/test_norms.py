"""Normalisations against torch.nn, torch.nn.utils.parametrizations, their papers' equations, and one another."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes_of_batch_norm as processes
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from gradflow.models import norms
from gradflow.models.layers import Conv2d, Linear, Map, acts_on_activations, attach, effective_weight
from gradflow.rng import stream

WIDTH = 6
SHAPES = {"vectors": (7, WIDTH), "tokens": (4, 5, WIDTH), "images": (4, WIDTH, 3, 5)}


def inputs(layout: str, seed: int = 0) -> Tensor:
    """Features of very different means, none of them 0."""
    x = 3 * torch.randn(SHAPES[layout], generator=stream(seed, layout), dtype=torch.float64)
    shift = torch.arange(1.0, WIDTH + 1)
    return (x + (shift[:, None, None] if layout == "images" else shift)).requires_grad_()


def features_second(x: Tensor) -> Tensor:
    """As torch.nn's normalisations of one kind want it: tokens [B, T, F] as [B, F, T]."""
    return x.transpose(1, 2) if x.ndim == 3 else x


def drawn(norm: nn.Module, seed: int = 1) -> nn.Module:
    """In float64, its scale and shift not at their starting values."""
    for p in norm.double().parameters():
        nn.init.normal_(p, 1, 0.5, generator=stream(seed, "affine"))
    return norm


def test_none_is_the_identity():
    x = inputs("vectors")
    assert norms.none(WIDTH)(x) is x


# --- against torch.nn -----------------------------------------------------------------------------------------


def by_layer(x: Tensor, norm: nn.Module) -> Tensor:
    if x.ndim == 4:  # one mean for all features and positions, scale and shift per feature
        flat = functional.layer_norm(x, x.shape[1:], eps=norm.eps)
        return flat * norm.weight[:, None, None] + norm.bias[:, None, None]
    return functional.layer_norm(x, (WIDTH,), norm.weight, norm.bias, norm.eps)


def by_group(x: Tensor, norm: nn.Module) -> Tensor:
    flat = x.reshape(-1, WIDTH) if x.ndim == 3 else x  # each token for itself
    return functional.group_norm(flat, 3, norm.weight, norm.bias, norm.eps).view_as(x)


def by_instance(x: Tensor, norm: nn.Module) -> Tensor:
    normalized = functional.instance_norm(features_second(x), weight=norm.weight, bias=norm.bias, eps=norm.eps)
    return features_second(normalized)


def by_rms(x: Tensor, norm: nn.Module) -> Tensor:
    if x.ndim == 4:
        return functional.rms_norm(x, x.shape[1:], eps=norm.eps) * norm.weight[:, None, None]
    return functional.rms_norm(x, (WIDTH,), norm.weight, norm.eps)


def by_batch(x: Tensor, norm: nn.Module) -> Tensor:
    normalized = functional.batch_norm(
        features_second(x), None, None, norm.weight, norm.bias, training=True, eps=norm.eps
    )
    return features_second(normalized)


OURS: dict[str, Callable[..., nn.Module]] = {
    "batch": norms.batch,
    "layer": norms.layer,
    "group": lambda width, **keys: norms.group(width, groups=3, **keys),
    "instance": norms.instance,
    "rms": norms.rms,
}
THEIRS = {"batch": by_batch, "layer": by_layer, "group": by_group, "instance": by_instance, "rms": by_rms}


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("name", OURS)
def test_is_torch_s_with_its_gradients(name, layout):
    if (name, layout) == ("instance", "vectors"):
        pytest.skip("refused: see below")
    norm, x = drawn(OURS[name](WIDTH, eps=1e-2)), inputs(layout)
    found, expected = norm(x), THEIRS[name](x, norm)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    probe = torch.randn(found.shape, generator=stream(2), dtype=torch.float64)
    wrt = [x, *norm.parameters()]
    pairs = zip(torch.autograd.grad(found, wrt, probe), torch.autograd.grad(expected, wrt, probe), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["layer", "group", "instance", "rms"])
def test_what_looks_at_one_example_is_the_same_at_evaluation(name):
    norm, x = drawn(OURS[name](WIDTH)), inputs("images")
    assert torch.equal(norm.train()(x), norm.eval()(x))
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["layer", "group", "rms"])
def test_each_token_is_normalised_for_itself(name):
    """Changing the last token leaves what becomes of the others as it was."""
    norm, x = drawn(OURS[name](WIDTH)), inputs("tokens").detach()
    other = x.clone()
    other[:, -1] *= -5
    assert torch.equal(norm(x)[:, :-1], norm(other)[:, :-1])
    assert not torch.allclose(norm(x)[:, -1], norm(other)[:, -1])


def test_defaults_are_torch_s():
    """float32 has no room to hide another eps in: small inputs show it."""
    x = 1e-3 * inputs("vectors").detach().float()
    assert torch.equal(norms.layer(WIDTH)(x), functional.group_norm(x, 1))
    assert torch.equal(norms.group(8)(x[:, :1].expand(7, 8) * torch.arange(8)), torch.zeros(0)) is False
    assert torch.equal(norms.batch(WIDTH)(x), functional.batch_norm(x, None, None, training=True))
    norm = norms.batch(WIDTH)
    norm(x)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean(0))
