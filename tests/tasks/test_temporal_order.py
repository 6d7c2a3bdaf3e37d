"""The temporal order problem: alphabet, places and classes of each convention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.temporal_order import temporal_order

CPU = torch.device("cpu")

# (convention, symbols) → (first, last) place of each at T = 100
PLACES = {
    ("hochreiter1997", 2): [(10, 20), (50, 60)],
    ("hochreiter1997", 3): [(10, 20), (33, 43), (66, 76)],
    ("pascanu2013", 2): [(10, 19), (50, 59)],
    ("pascanu2013", 3): [(10, 19), (30, 39), (60, 69)],
}


@pytest.mark.parametrize(("convention", "symbols"), PLACES)
def test_sequences(convention, symbols):
    task = temporal_order(convention=convention, symbols=symbols, length=100, batch_size=5_000)
    framed = convention == "hochreiter1997"
    x, y = task.load(Path(), 0, CPU).train(0)
    assert task.outputs == 2**symbols
    assert task.input_shape == (110 if framed else 100, 8 if framed else 6)
    assert (x.sum(2) == 1).all()
    symbol = x.argmax(2)
    matters = symbol < 2
    assert (matters.sum(1) == symbols).all()
    place = matters.nonzero()[:, 1].view(-1, symbols)
    assert [(int(p.min()), int(p.max())) for p in place.T] == PLACES[convention, symbols]
    if framed:
        assert 100 <= x.shape[1] <= 110
        assert (symbol[:, 0] == 6).all()
        assert (symbol[:, -1] == 7).all()
        assert ((symbol == 6).sum(), (symbol == 7).sum()) == (5_000, 5_000)
        symbol, matters = symbol[:, 1:-1], matters[:, 1:-1]
    assert sorted(symbol[~matters].unique().tolist()) == [2, 3, 4, 5]
    kinds = symbol[matters].view(-1, symbols)
    as_text = ["".join(map(str, row.tolist())) for row in kinds]
    assert y.tolist() == [int(text, 2) for text in as_text]
    counts = y.bincount(minlength=2**symbols).double()
    expected = 5_000 / 2**symbols
    assert ((counts - expected) ** 2 / expected).sum() < 2**symbols + 5 * (2 * 2**symbols) ** 0.5


def test_no_place_for_the_symbols_is_refused():
    assert temporal_order(length=10, symbols=3).load(Path(), 0, CPU).train(0)[0].shape == (20, 10, 6)
    with pytest.raises(ValueError, match=r"task\.length=9 .* 10 or more"):
        temporal_order(length=9)
