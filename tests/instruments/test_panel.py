"""Instruments by name, their intervals, and the presets that config files repeat."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gradflow.errors import ConfigError
from gradflow.instruments.instrument import Instrument
from gradflow.instruments.names import NAMES, PRESETS
from gradflow.instruments.panel import make_instruments
from gradflow.resources import conf_dir


class Mine(Instrument):
    """A person's own."""


def intervals(choice: Any, every: int = 7) -> dict[str, int]:
    return {instrument.name: instrument.every for instrument in make_instruments(choice, every)}


def test_every_name_is_an_instrument():
    assert list(intervals("full")) == list(NAMES)
    assert set(intervals("full").values()) == {7}


@pytest.mark.parametrize("preset", ["cheap", "full"])
def test_config_files_hold_the_presets(preset):
    file = yaml.safe_load((conf_dir() / "instruments" / f"{preset}.yaml").read_text())
    assert set(file["measure"]) == set(PRESETS[preset])
    for name, every in file["measure"].items():
        if name not in ("grad_norm", "loss_curve"):  # which cost little enough to look more often
            assert (every or 50) == 50 * PRESETS[preset][name]


def test_a_preset_looks_at_weights_less_often():
    assert intervals("cheap", every=10) == {
        **dict.fromkeys(PRESETS["cheap"], 10),
        "update_ratio": 20,
        "weight_norm": 40,
    }


def test_lists_intervals_and_one_s_own():
    assert intervals("none") == {}
    assert intervals(["grad_norm", "delta_norm"]) == {"grad_norm": 7, "delta_norm": 7}
    assert intervals({"grad_norm": 3, "delta_norm": None}) == {"grad_norm": 3, "delta_norm": 7}
    mine = Mine()
    mine.every = 11
    (same,) = make_instruments([mine], 7)
    assert same is mine
    assert mine.every == 11
    (made,) = make_instruments([f"{__name__}.Mine"], 7)
    assert type(made).__name__ == "Mine"
    assert made.every == 7


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("chap", "did you mean 'cheap'"),
        (["grad_nrm"], "did you mean 'grad_norm'"),
        ({"grad_norm": 0}, "at least 1"),
        (["json.JSONDecoder"], "not a class derived from"),
        (["no.such.thing"], "no such Python definition"),
    ],
)
def test_what_is_wrong_is_said(choice, said):
    with pytest.raises((ConfigError, ValueError), match=said):
        make_instruments(choice, 1)


def test_only_grad_norm_is_told_that_something_clips():
    first, second = make_instruments(["grad_norm", "delta_norm"], 1, clipped=True)
    assert first.clipped
    assert not hasattr(second, "clipped")
