"""Every cell × norm × skip, × layout and × init: refused in a line that says what to change, or trained for a step.

And every task of sequences with every model that takes sequences; and every remedy of the time axis with every cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gradflow.errors import ConfigError
from gradflow.resources import conf_dir
from gradflow.runs import pairs
from gradflow.runs.build import build
from gradflow.runs.config import Config, validate
from gradflow.runs.preflight import preflight
from gradflow.training.optimizers import parameter_groups

WAYS_OUT = ("use ", "choose ", "set ", "needs ", "must ", "give ")
ERRORS = (ConfigError, ValueError, TypeError, RuntimeError, NotImplementedError)
PATHS = ("paths.runs=runs", "paths.sweeps=sweeps")  # whatever the environment says
SMALL = ("depth=2", "width=8", "hardware=cpu", "logger.mode=disabled", "task.batch_size=3", *PATHS)
TASK = ("task=adding", "task.length=12", "task.val_size=10", "task.test_size=10")
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "mean of an encoder's": {"readout": "mean", "encoder": True},
    "skip in time": {"skip_time": 3},
    "zoneout": {"zoneout": 0.2},
}


def words(group: str) -> list[str]:
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def recurrent(compose, node) -> Callable[..., Config]:
    """From a cell, words of other groups and keys of the model to a config."""
    base = compose.config([*SMALL, *TASK, "model=recurrent"]).model_dump()

    def make(cell: str, layout: dict[str, Any] | None = None, remedy: str | None = None, **chosen: str) -> Config:
        nodes: dict[str, Any] = {group: node(group, word) for group, word in {"cell": cell, **chosen}.items()}
        nodes |= {"remedy": {remedy: node("remedy", remedy)}} if remedy else {}
        return validate({**base, **nodes, "model": base["model"] | (layout or {})})

    return make


def attempt(config: Config) -> str | dict[str, torch.Tensor | None]:
    """The gradients of one step of an admitted config; of another the line that refuses it."""
    lines = pairs.refused(config)
    if lines:
        return lines[0]
    try:
        pieces = build(config)
        x, y = pieces.task.load(None, 0, torch.device("cpu")).train(0)
        loss = pieces.task.loss(pieces.network(x), y)
        optimizer = pieces.make_optimizer(parameter_groups(pieces.network))
    except ERRORS as error:
        return str(error.lines[0] if isinstance(error, ConfigError) else error)
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    return {name: p.grad for name, p in pieces.network.named_parameters() if p.requires_grad}


def checked(made: str | dict[str, torch.Tensor | None]) -> bool:
    """Whether it trained; if it did not, the line must say what to change."""
    if isinstance(made, str):
        assert "\n" not in made, made
        assert any(way in made for way in WAYS_OUT), made
        return False
    missing = [name for name, gradient in made.items() if gradient is None or not gradient.isfinite().all()]
    assert not missing, missing
    return True


@pytest.mark.parametrize("cell", words("cell"))
def test_what_is_put_together_is_what_hydra_composes(compose, recurrent, cell):
    typed = ["norm=layer", "skip=residual", "init=he_normal", "recurrent_init=gaussian", "remedy=tbptt"]
    layout = ["model.readout=mean", "model.encoder=true", "model.zoneout=0.2"]
    composed = compose.config([*SMALL, *TASK, "model=recurrent", f"cell={cell}", *typed, *layout])
    words = dict(word.split("=") for word in typed)
    assert recurrent(cell, {"readout": "mean", "encoder": True, "zoneout": 0.2}, **words) == composed


@pytest.mark.usefixtures("_definitions_once")
@pytest.mark.parametrize("cell", words("cell"))
def test_every_cell_trains_with_every_norm_and_skip_or_is_refused(recurrent, cell):
    pairs_of_words = list(itertools.product(words("norm"), words("skip")))
    trained = [(norm, skip) for norm, skip in pairs_of_words if checked(attempt(recurrent(cell, norm=norm, skip=skip)))]
    assert {("none", "none"), ("layer", "residual"), ("layer", "rezero"), ("none", "highway")} <= set(trained)


@pytest.mark.usefixtures("_definitions_once")
@pytest.mark.parametrize("cell", words("cell"))
def test_every_cell_trains_in_every_layout_or_is_refused(recurrent, cell):
    for norm, skip in (("none", "none"), ("layer", "residual"), ("batch", "highway")):
        layouts = [
            name for name, layout in LAYOUTS.items() if checked(attempt(recurrent(cell, layout, norm=norm, skip=skip)))
        ]
        assert {"plain", "bidirectional", "mean of an encoder's", "zoneout"} <= set(layouts)


@pytest.mark.usefixtures("_definitions_once")
@pytest.mark.parametrize("cell", words("cell"))
def test_every_init_fills_every_cell(recurrent, cell):
    inits = [init for init in words("init") if checked(attempt(recurrent(cell, init=init)))]
    assert len(inits) >= 10
    assert all(checked(attempt(recurrent(cell, recurrent_init=init))) for init in words("recurrent_init"))


@pytest.mark.parametrize("task", [t for t in words("task") if t not in ("gaussian_teacher",)])
def test_every_task_of_sequences_goes_with_every_model_that_takes_them(compose, task):
    """On the meta device: some have hundreds of steps."""
    images = task in ("digits", "mnist", "binary_mnist", "fashion_mnist", "cifar10", "cifar100")
    view = ["task.view=sequence"] if images else []
    models = (["model=recurrent", "cell=lstm"], ["model=esn"], ["model=recurrent", "model.bidirectional=true"])
    for model in (*models, ["model=tcn"]):
        config = compose.config([*SMALL, f"task={task}", *view, *model])
        assert preflight(config) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["cell=lstm"], "cell=lstm has no effect in model=mlp"),
        (["recurrent_init=identity"], "recurrent_init has no effect in model=mlp"),
        (["model=recurrent"], "model=recurrent needs sequences"),
        (["model=recurrent", *TASK, "cell=null"], "needs a cell"),
        (["model=recurrent", *TASK, "init=lsuv"], "init=lsuv"),
        (["model=recurrent", *TASK, "norm=weight_norm"], "norm=weight_norm"),
        (["model=recurrent", *TASK, "cell=lstm", "activation=relu"], "cell=lstm has its own non-linearities"),
        (["model=recurrent", *TASK, "cell=lru", "model.skip_time=2"], "model.skip_time=2"),
        (["model=recurrent", *TASK, "trainer.max_epochs=2"], "trainer.max_epochs=2"),
        (["model=recurrent", *TASK, "cell=irnn", "recurrent_init=spectral_radius"], "reaches no weight of this cell"),
        (["model=recurrent", *TASK, "remedy=tbptt", "instruments=time"], "time_segments=16 would see one window"),
        (
            ["model=recurrent", *TASK, "model.skip_time=2", "instruments.time_quantities=[lyapunov]"],
            "model.skip_time=2 has not",
        ),
        (["model=mlp", "task=parity", "task.variable=true"], "has sequences of 10 to 20 steps"),
        (["model=mlp", "task=copying"], "at every step of a sequence: use model=recurrent"),
        (["model=esn", *TASK, "norm=layer"], "norm"),
        (["model=esn", *TASK, "cell=lstm"], "cell=lstm has no effect in model=esn"),
        (["model=esn", *TASK, "remedy=clip_norm"], "remedy=clip_norm acts on gradients"),
        (["remedy=tbptt"], "tbptt"),
        (["remedy=omega", "model=recurrent", *TASK, "cell=lstm"], "omega"),
        (["remedy=[tbptt,omega]", "model=recurrent", *TASK], "tbptt"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_in_one_line(compose, overrides, said):
    (line,) = preflight(compose.config(["hardware=cpu", *overrides]))
    assert said in line
    assert any(way in line for way in (*WAYS_OUT, "leave it out", "leave recurrent_init", "leave out"))


@pytest.mark.parametrize("cell", words("cell"))
@pytest.mark.parametrize("remedy", ["tbptt", "horizon", "recurrent_l1", "recurrent_l2", "spectral_clipping"])
def test_every_remedy_of_the_time_axis_goes_with_every_cell_or_is_refused(recurrent, cell, remedy):
    lines = preflight(recurrent(cell, remedy=remedy))
    assert len(lines) <= 1
    assert all(any(way in line for way in WAYS_OUT) for line in lines), lines


@pytest.mark.parametrize(("radius", "leak", "asked"), [(0.99, 1.0, False), (1.5, 0.2, True)])
def test_a_reservoir_that_need_not_forget_its_start_is_questioned(compose, radius, leak, asked):
    config = compose.config(["model=esn", *TASK, f"model.spectral_radius={radius}", f"model.leak={leak}"])
    notes = [note for note in pairs.questioned(config) if "spectral_radius" in note]
    assert len(notes) == asked
    assert not asked or "can reach 1.1;" in notes[0]
