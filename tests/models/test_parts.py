"""Widths, dropout, and how many units go into an activation and come out of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradflow.models import activations, norms, skips
from gradflow.models.parts import Parts, units_in, units_out


def parts(depth: int = 3, width: int | tuple[int, ...] = 8, **drop: float) -> Parts:
    return Parts(depth, width, activations.relu, norms.none, skips.none, **drop)


def test_widths():
    assert parts().widths() == [8, 8, 8]
    assert parts(width=(3, 4, 5)).widths() == [3, 4, 5]


@pytest.mark.parametrize("width", [(8, 8), (8,) * 4, ()])
def test_wrong_number_of_widths(width):
    message = rf"width lists {len(width)} numbers for depth=3 blocks: give one per block, or one number"
    with pytest.raises(ValueError, match=message):
        parts(width=width).widths()


def test_nothing_is_dropped_unless_asked():
    assert parts().drop() is None


@pytest.mark.parametrize(("key", "kind"), [("dropout", nn.Dropout), ("alpha_dropout", nn.AlphaDropout)])
def test_drop(key, kind):
    drop = parts(**{key: 0.3}).drop()
    assert type(drop) is kind
    assert drop.p == 0.3


COUNTS = {
    "relu": (activations.relu, 12, 12, 12),
    "crelu": (activations.crelu, 12, 6, 24),
    "maxout 2": (activations.maxout, 12, 24, 6),
    "maxout 3": (lambda: activations.maxout(pieces=3), 12, 36, 4),
    "swiglu": (activations.swiglu, 12, 24, 6),
    "torch's own": (nn.ReLU, 12, 12, 12),
}


@pytest.mark.parametrize("name", COUNTS)
def test_units_into_and_out_of_an_activation(name):
    """For a layer of 12 outputs, and from 12 pre-activations, as the activation itself has it."""
    make, units, into, out = COUNTS[name]
    activation = make()
    assert (units_in(activation, units), units_out(activation, units)) == (into, out)
    assert activation(torch.ones(2, into)).shape == (2, units)
    assert activation(torch.ones(2, units)).shape == (2, out)


@pytest.mark.parametrize(
    ("make", "divisor"), [(activations.maxout, 2), (lambda: activations.maxout(pieces=3), 3), (activations.swiglu, 2)]
)
def test_units_that_do_not_divide(make, divisor):
    with pytest.raises(ValueError, match=rf"cannot act on 7 units: the width must divide by {divisor}"):
        units_out(make(), 7)
