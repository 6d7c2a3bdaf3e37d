"""Which parameters belong to which block, in gradflow's networks and in a stranger's."""

from __future__ import annotations

import pytest
from torch import nn

from gradflow.instruments.blocks import find_blocks
from gradflow.models import activations, norms, skips
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts


def tower(depth: int = 3) -> nn.Module:
    """A stranger's module: a stack of layers with children of their own, and a head."""
    model = nn.Module()
    model.layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU()) for _ in range(depth))
    model.out = nn.Linear(2, 1)
    return model


def described(model: nn.Module, names: list[str] | None = None) -> list[tuple[str, int | None, int]]:
    return [(block.name, block.index, len(block.parameters)) for block in find_blocks(model, names)]


def test_a_network_is_stem_blocks_head():
    """Also inside another module, such as a LightningModule; only blocks have an index."""
    network = mlp((4,), 2, Parts(3, 5, activations.relu, norms.layer, skips.residual))
    expected = [("stem", None, 4), ("blocks.00", 0, 4), ("blocks.01", 1, 4), ("blocks.02", 2, 4), ("head", None, 2)]
    assert described(network) == described(nn.ModuleDict({"net": network})) == expected


@pytest.mark.parametrize("depth", [2, 100, 101, 1001])
def test_names_sort_in_the_order_of_the_blocks(depth):
    network = mlp((1,), 1, Parts(depth, 1, activations.linear, norms.none, skips.none), bias=False)
    names = [block.name for block in find_blocks(network) if block.index is not None]
    assert names == sorted(names)
    assert len(set(names)) == depth


def test_a_stranger_s_module_is_every_owner_of_parameters():
    expected = [
        *[(f"layers.{i}.{child}", 2 * i + child, 2) for i in range(3) for child in (0, 1)],
        ("out", 6, 2),
    ]
    assert described(tower()) == expected


def test_names_in_the_order_given():
    assert described(tower(), ["out", "layers.0"]) == [("out", 0, 2), ("layers.0", 1, 4)]


def test_a_pattern_counts_whole_blocks():
    """'layers.*' also matches the layers' children, which have nothing left: the index counts blocks, not matches."""
    assert described(tower(), ["layers.*"]) == [("layers.0", 0, 4), ("layers.1", 1, 4), ("layers.2", 2, 4)]


def test_a_shared_parameter_is_counted_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert described(model) == [("0", 0, 2), ("1", 1, 1)]


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    model[1].bias.requires_grad_(False)
    assert [(name, count) for name, _, count in described(model)] == [("1", 1), ("2", 2)]


def test_parameters_of_the_module_itself():
    model = nn.Linear(2, 2)
    assert described(model) == [("model", 0, 2)]


def test_no_such_name():
    with pytest.raises(ValueError, match=r"no module is called 'encoder'; there are: .*layers\.0"):
        find_blocks(tower(), ["encoder"])


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)], ids=["none", "frozen"])
def test_nothing_to_watch(model):
    with pytest.raises(ValueError, match="no parameters that require a gradient"):
        find_blocks(model)
