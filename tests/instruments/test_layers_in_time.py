"""Which layers are found, under which names, and that looking at them changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from through_time import Driven, make_cell, noise, torch_layer
from torch import nn

from gradflow.instruments.layers_in_time import find_time_layers, observing
from gradflow.models import activations, norms, skips
from gradflow.models.parts import Parts
from gradflow.models.recurrent import recurrent


def model(**options):
    parts = Parts(2, 4, activations.tanh, norms.none, skips.none, cell=lambda f, w, _: make_cell("rnn", f, w))
    return recurrent((5, 3), 2, parts, **options)


def test_names_and_blocks():
    found = find_time_layers(model())
    assert [(each.index, each.name, each.block) for each in found] == [(0, "blocks.00", 0), (1, "blocks.01", 1)]
    names = [each.name for each in find_time_layers(model(bidirectional=True))]
    assert names == ["blocks.00.forward", "blocks.00.backward", "blocks.01.forward", "blocks.01.backward"]
    stranger = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 4, 2, bidirectional=True), nn.ReLU())
    found = find_time_layers(stranger)
    assert [each.name for each in found] == ["1_l0", "1_l0_reverse", "1_l1", "1_l1_reverse"]
    assert [(each.part, each.reverse) for each in found] == [(0, False), (1, True), (2, False), (3, True)]
    assert found[0].state_names == ("h", "c")


def test_a_torch_layer_inside_a_block_keeps_its_suffix():
    net = nn.Module()
    net.stem, net.head = nn.Linear(3, 3), nn.Linear(4, 1)
    net.blocks = nn.ModuleList([nn.GRU(3, 4), nn.GRU(4, 4, 2)])
    assert [e.name for e in find_time_layers(net)] == ["blocks.00", "blocks.01.blocks.1_l0", "blocks.01.blocks.1_l1"]


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match=r"Sequential has no recurrent layer: nn\.RNN"):
        find_time_layers(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="proj_size=2"):
        find_time_layers(nn.LSTM(3, 4, proj_size=2))
    with pytest.raises(ValueError, match="every=0"), observing(find_time_layers(nn.GRU(3, 4)), 0, lambda *_: None):
        pass
    module = nn.GRU(3, 4)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 2, 3), torch.tensor([5, 4]))
    with observing(find_time_layers(module), 2, lambda *_: None), pytest.raises(ValueError, match="padded tensor"):
        module(packed)
    module(packed)


@pytest.mark.parametrize("every", [1, 3, 50])
@pytest.mark.parametrize("options", [{"batch_first": True}, {"batch_first": False, "num_layers": 2}], ids=str)
@pytest.mark.parametrize(
    ("kind", "extra"),
    [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.LSTM, {"bidirectional": True}), (nn.GRU, {"bias": False})],
    ids=str,
)
def test_observed_layers_compute_the_same(kind, extra, options, every):
    """Batched or not, with and without a first state, with dropout between layers: outputs and final states."""
    dropout = 0.5 if options.get("num_layers") else 0.0
    module, x = torch_layer(kind, dropout=dropout, **options, **extra), noise(7, 4, 3)
    layers = module.num_layers * (2 if module.bidirectional else 1)
    start = noise(layers, 4 if not module.batch_first else 7, 5)
    single = noise(layers, 5)
    starts = [None, (start, start / 2) if kind is nn.LSTM else start]
    calls = [(x, hx) for hx in starts] + [(x[:, 0], (single, single) if kind is nn.LSTM else single), (x[:, 0], None)]
    for args in calls:
        torch.manual_seed(3)
        out, state = module(*args)
        torch.manual_seed(3)
        with observing(find_time_layers(module), every, lambda *_: None):
            seen_out, seen_state = module(*args)
            torch.manual_seed(3)
            named_out, _ = module(input=args[0], hx=args[1])
        assert torch.equal(named_out, seen_out)
        torch.testing.assert_close(seen_out, out, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(seen_state, state, rtol=1e-11, atol=1e-13)
    assert "forward" not in vars(module)


def test_times_and_states_are_those_of_the_output():
    module, x = torch_layer(nn.LSTM, bidirectional=True), noise(4, 7, 3)
    layers, seen = find_time_layers(module), []
    out = module(x)[0]
    with observing(layers, 3, lambda layer, time, state: seen.append((layer.name, time, state))):
        module(x)
    assert [(name, time) for name, time, _ in seen] == [
        *(("rnn_l0", time) for time in (2, 5, 6)),
        *(("rnn_l0_reverse", time) for time in (4, 1, 0)),
    ]
    for name, time, (h, c) in seen:
        half = slice(5, 10) if "reverse" in name else slice(0, 5)
        torch.testing.assert_close(h, out[:, time, half])
        assert c.shape == h.shape


@pytest.mark.parametrize("every", [1, 2])
def test_a_state_that_is_put_in_place_is_used_from_there_on(every):
    module, x = torch_layer(nn.GRU), noise(4, 6, 3)
    with observing(find_time_layers(module), every, lambda _, t, s: (torch.zeros_like(s[0]),) if t == 3 else None):
        out = module(x)[0]
    assert (out[:, 3] == 0).all()
    torch.testing.assert_close(out[:, :3], module(x[:, :3])[0])
    torch.testing.assert_close(out[:, 4:], module(x[:, 4:])[0])


def test_an_observer_that_was_there_before_is_put_back():
    module = Driven(torch.add, torch.zeros(2))
    before = module.observer = SimpleNamespace(every=1)
    with observing(find_time_layers(module), 1, lambda *_: None):
        assert module.observer is not before
    assert module.observer is before
