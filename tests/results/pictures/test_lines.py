"""Which runs share a line and a panel."""

import pytest

from gradflow.errors import ConfigError
from gradflow.results.pictures.lines import MOST_LINES, arrange
from gradflow.results.pictures.nothing import SaysNothing
from gradflow.runs.planfile import collect

ALL = {"has": lambda _: True}


def test_a_recipe_of_too_many_values_is_told_by_its_largest_part_and_panels_by_the_others(records):
    for activation in ("relu", "tanh", "sigmoid", "elu", "gelu"):
        for init in ("he_normal", "glorot_normal"):
            for norm in ("none", "batch"):
                records.add(activation=activation, init=init, norm=norm)
    found = arrange(collect(records.sweep()), **ALL)
    assert found.names == [f"activation {word}" for word in ("relu", "tanh", "sigmoid", "elu", "gelu")]
    assert [panel.title for panel in found.panels] == [
        "init he_normal · norm none",
        "init he_normal · norm batch",
        "init glorot_normal · norm none",
        "init glorot_normal · norm batch",
    ]
    assert {len(runs) for panel in found.panels for runs in panel.lines.values()} == {1}


def test_lines_can_be_asked_for(records):
    for activation in ("relu", "tanh"):
        for norm in ("none", "batch"):
            records.add(activation=activation, norm=norm)
    collection = collect(records.sweep())
    assert arrange(collection, **ALL).names == [
        *("relu · he_normal", "relu · he_normal · batch"),
        *("tanh · he_normal", "tanh · he_normal · batch"),
    ]
    asked = arrange(collection, **ALL, by="norm")
    assert (asked.names, [panel.title for panel in asked.panels]) == (
        ["norm none", "norm batch"],
        ["activation relu", "activation tanh"],
    )
    with pytest.raises(ConfigError, match="did you mean 'norm'"):
        arrange(collection, **ALL, by="nrom")


def test_each_task_chooses_its_lines_for_itself(records, recurrent):
    for activation in ("relu", "tanh"):
        records.add(activation=activation)
    for cell in ("lstm", "gru"):
        recurrent(cell=cell)
    found = arrange(collect(records.sweep()), **ALL)
    assert [(panel.title, list(panel.lines)) for panel in found.panels] == [
        ("digits", ["activation relu", "activation tanh"]),
        ("adding", ["lstm", "gru"]),
    ]


def test_more_seeds_than_are_read_are_told(records):
    for seed in range(5):
        records.add(seed=seed)
    found = arrange(collect(records.sweep()), **ALL, seeds=3)
    assert [len(runs) for runs in found.panels[0].lines.values()] == [3]
    assert found.notes == ["the first 3 of 5 seeds of a line"]


def test_nothing_and_too_much_are_said(records):
    records.add(state="missing")
    with pytest.raises(SaysNothing, match="no run"):
        arrange(collect(records.sweep()), **ALL)
    for i in range(MOST_LINES + 1):
        records.add(**{"optimizer.lr": i})
    with pytest.raises(SaysNothing, match=r"'optimizer\.lr'"):
        arrange(collect(records.sweep()), **ALL)
