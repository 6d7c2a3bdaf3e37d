"""Activations. Each is a function that makes a module acting on every element of any shape."""

from __future__ import annotations

from torch import nn


def linear() -> nn.Module:
    """φ(z) = z. What is left of a network without non-linearity: a product of matrices (Saxe et al. 2014)."""
    return nn.Identity()


def sigmoid() -> nn.Module:
    """φ(z) = 1 / (1 + e⁻ᶻ); φ′ ≤ 1/4, so that each block costs the gradient a factor of four or more."""
    return nn.Sigmoid()


def tanh() -> nn.Module:
    """φ(z) = tanh z; φ′ ≤ 1, reached only at 0."""
    return nn.Tanh()


def relu() -> nn.Module:
    """φ(z) = max(z, 0); φ′ is 0 or 1 (Nair & Hinton 2010; Glorot, Bordes & Bengio 2011)."""
    return nn.ReLU()
