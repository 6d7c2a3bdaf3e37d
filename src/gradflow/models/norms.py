"""Normalisations. Each is a function of the width that makes a module acting on [batch, width]."""

from __future__ import annotations

from torch import nn

from gradflow.checked import Positive, Share


def none(width: int, /) -> nn.Module:
    """No normalisation."""
    return nn.Identity()


def batch(width: int, /, *, eps: Positive = 1e-5, momentum: Share = 0.1) -> nn.Module:
    """Batch normalisation over the batch axis (Ioffe & Szegedy 2015, algorithm 1); scale 1 and shift 0 at first.

    Args:
        eps: added to the variance; torch's default.
        momentum: weight of the newest batch in the running statistics used at evaluation; torch's default.
    """
    return nn.BatchNorm1d(width, eps=eps, momentum=momentum)


def layer(width: int, /, *, eps: Positive = 1e-5) -> nn.Module:
    """Layer normalisation over the features of each example (Ba, Kiros & Hinton 2016, eq. 4).

    Args:
        eps: added to the variance; torch's default.
    """
    return nn.LayerNorm(width, eps=eps)
