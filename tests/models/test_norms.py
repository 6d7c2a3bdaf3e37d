"""Normalisations against their papers' equations and torch.nn.functional."""

from __future__ import annotations

import torch
from torch.nn.functional import batch_norm, layer_norm

from gradflow.models import norms

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 2


def test_none_is_the_identity():
    assert norms.none(5)(X) is X


def test_batch_norm_in_training_and_evaluation():
    """Batch statistics in training (Ioffe & Szegedy, algorithm 1); at evaluation the running ones."""
    norm = norms.batch(5, eps=1e-3, momentum=0.25).double()
    expected = (X - X.mean(0)) / (X.var(0, unbiased=False) + 1e-3).sqrt()
    torch.testing.assert_close(norm(X).detach(), expected, rtol=1e-12, atol=1e-12)
    mean, var = 0.25 * X.mean(0), 0.75 + 0.25 * X.var(0)
    torch.testing.assert_close(norm.eval()(X).detach(), (X - mean) / (var + 1e-3).sqrt(), rtol=1e-12, atol=1e-12)


def test_layer_norm():
    """Each example by its own mean and variance (Ba et al., eq. 4), in training as at evaluation."""
    norm = norms.layer(5, eps=1e-3).double()
    mean, var = X.mean(1, keepdim=True), X.var(1, unbiased=False, keepdim=True)
    torch.testing.assert_close(norm(X).detach(), (X - mean) / (var + 1e-3).sqrt(), rtol=1e-12, atol=1e-12)
    assert torch.equal(norm.eval()(X), norm.train()(X))


def test_defaults_are_torch_s():
    """float32 has no room to hide another eps in: a constant batch shows it alone."""
    x = 1e-3 * X.float()
    assert torch.equal(norms.layer(5)(x), layer_norm(x, (5,)))
    assert torch.equal(norms.batch(5)(x), batch_norm(x, None, None, training=True))
    norm = norms.batch(5)
    norm(x)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean(0))
