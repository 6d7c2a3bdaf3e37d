"""Every model × activation × init × norm × skip: refused in a line that says what to change, or trained for a step.

An initialiser changes numbers, never shapes, so that the cells are covered in three ways: half of model × activation ×
norm × skip, in which every three of the four words come together, trains a step, small but for real; every init fills
half of model × norm × skip that admits it; and 75 cells of the whole product, drawn with a seed, pass preflight on the
meta device and train a step.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gradflow.errors import ConfigError
from gradflow.resources import conf_dir
from gradflow.runs import pairs
from gradflow.runs.build import Pieces, build
from gradflow.runs.config import Config, validate
from gradflow.runs.preflight import preflight
from gradflow.runs.rehearse import rehearse
from gradflow.tasks.digits import digits
from gradflow.training.optimizers import parameter_groups

PATHS = ("paths.runs=runs", "paths.sweeps=sweeps")  # whatever the environment says
SMALL = ("width=16", "hardware=cpu", "task.batch_size=8", "logger.mode=disabled", *PATHS)
GROUPS = ("model", "activation", "init", "norm", "skip")
WORDS = {group: sorted(file.stem for file in (conf_dir() / group).glob("*.yaml")) for group in GROUPS}
WORDS["model"] = list(pairs.FEED_FORWARD)  # those of sequences: test_combinations_of_time
DEPTH = {"mlp": 2, "convnet": 2, "resnet": 3, "transformer_encoder": 1}  # the smallest that has all there is to see
WAYS_OUT = ("use ", "choose ", "set ", "needs ", "must ")
ERRORS = (ConfigError, ValueError, TypeError, RuntimeError, NotImplementedError)
RANDOM_CELLS = 75
QUADRATIC = ("squared_relu", "swiglu")  # a signal of size s becomes one of s²: without a norm six layers overflow


@pytest.fixture(scope="module")
def cell(compose, node):
    """From five words to a config: small, on the CPU, with a model that fits the task's 8×8 images."""
    base = compose.config(SMALL).model_dump()

    def make(*words: str) -> Config:
        chosen = {group: node(group, word) for group, word in zip(GROUPS, words, strict=True)}
        return validate(base | chosen | {"depth": DEPTH[words[0]]})

    return make


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of digits and their labels."""
    return digits(batch_size=8).load(Path(), 0, torch.device("cpu")).train(0)


@pytest.fixture(scope="module")
def forward(images) -> Callable[[Config], tuple[Pieces, torch.Tensor]]:
    """Builds a run and passes the batch through its network."""

    def pass_through(config: Config) -> tuple[Pieces, torch.Tensor]:
        pieces = build(config)
        return pieces, pieces.network(images[0])

    return pass_through


def attempt(config: Config, make: Callable[[Config], Any]) -> Any:
    """What `make` makes of an admitted config; of another, the line that refuses it."""
    lines = pairs.refused(config)
    if lines:
        return lines[0]
    try:
        return make(config)
    except ERRORS as error:
        return str(error.lines[0] if isinstance(error, ConfigError) else error)


def says_what_to_change(line: str) -> bool:
    return "\n" not in line and any(way in line for way in WAYS_OUT)


def structures() -> Iterator[tuple[str, str]]:
    return itertools.product(WORDS["model"], WORDS["skip"])


@pytest.mark.parametrize("model", WORDS["model"])
def test_a_cell_is_the_config_that_hydra_composes(compose, cell, model):
    words = (model, "elu", "orthogonal", "layer", "residual")
    typed = [f"{group}={word}" for group, word in zip(GROUPS, words, strict=True)]
    assert cell(*words) == compose.config([*SMALL, *typed, f"depth={DEPTH[model]}"])


@pytest.mark.usefixtures("_definitions_once")
@pytest.mark.parametrize(("model", "skip"), structures(), ids=lambda word: word)
def test_every_structure_trains_or_is_refused(cell, images, forward, model, skip):
    """Loss and gradients are finite; every parameter gets a gradient. Of activation × norm every other pair, as on a
    chessboard, whose colours change from structure to structure."""
    refused = trained = 0
    colour = sum(WORDS[group].index(word) for group, word in (("model", model), ("skip", skip)))
    for (i, activation), (j, norm) in itertools.product(*(enumerate(WORDS[g]) for g in ("activation", "norm"))):
        if (i + j + colour) % 2:
            continue
        config = cell(model, activation, "he_normal", norm, skip)
        made = attempt(config, forward)
        if isinstance(made, str):
            assert says_what_to_change(made), made
            refused += 1
            continue
        pieces, out = made
        loss = pieces.task.loss(out, images[1])
        optimizer = pieces.make_optimizer(parameter_groups(pieces.network))
        loss.backward()
        optimizer.step()
        may_explode = activation in QUADRATIC
        assert may_explode or loss.isfinite(), (activation, norm)
        gradients = {name: p.grad for name, p in pieces.network.named_parameters()}
        missing = [n for n, g in gradients.items() if g is None or not (may_explode or g.isfinite().all())]
        assert not missing, (activation, norm, missing[:3])
        trained += 1
    assert refused + trained >= len(WORDS["activation"]) * len(WORDS["norm"]) // 2
    never = {("transformer_encoder", word) for word in ("preact_residual", "dense", "fixup_scalar")}
    if (model, skip) not in {*never, ("resnet", "highway")}:
        assert trained >= 19 * 2, "most activations go with most norms"


@pytest.mark.usefixtures("_definitions_once")
@pytest.mark.parametrize("init", WORDS["init"])
def test_every_init_fills_every_structure_that_admits_it(cell, forward, init):
    """With finite numbers, from which the output is finite; what is refused says what to change. Every other structure,
    of each init others."""
    filled = 0
    for i, model, norm, skip in (
        (sum(WORDS[g].index(word) for g, word in zip(("model", "norm", "skip"), words, strict=True)), *words)
        for words in itertools.product(WORDS["model"], WORDS["norm"], WORDS["skip"])
    ):
        if (i + WORDS["init"].index(init)) % 2:
            continue
        config = cell(model, "tanh", init, norm, skip)
        made = attempt(config, forward)
        if isinstance(made, str):
            assert says_what_to_change(made), made
            continue
        pieces, out = made
        assert all(p.isfinite().all() for p in pieces.network.parameters()), (model, norm, skip)
        assert out.isfinite().all(), (model, norm, skip)
        filled += 1
    assert filled > (5 if init == "fixup" else 45), "fixup goes with six skips and no norm"


def test_random_cells_train_a_step_for_real(cell):
    """Loss and gradients are finite, the update moves the weights."""
    draw, done, seen = random.Random(0), 0, 0
    while done < RANDOM_CELLS:
        words = [draw.choice(WORDS[group]) for group in GROUPS]
        config = cell(*words)
        seen += 1
        assert seen < 5 * RANDOM_CELLS, "most cells are admitted"
        if isinstance(attempt(config, rehearse), str):
            assert preflight(config), words
            continue
        pieces = build(config)
        torch.manual_seed(0)
        data = pieces.task.load(None, 0, torch.device("cpu"))
        optimizer = pieces.make_optimizer([{"name": "weights", "params": list(pieces.network.parameters())}])
        before = [p.detach().clone() for p in pieces.network.parameters()]
        loss = pieces.task.loss(pieces.network(data.train(0)[0]), data.train(0)[1])
        loss.backward()
        assert loss.isfinite(), words
        assert all(p.grad.isfinite().all() for p in pieces.network.parameters()), words
        optimizer.step()
        assert any(not torch.equal(p, q) for p, q in zip(pieces.network.parameters(), before, strict=True)), words
        done += 1
