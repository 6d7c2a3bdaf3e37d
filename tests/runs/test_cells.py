"""Composed in bulk, a cell's config is the one that it has alone, and so is what is wrong with it."""

import itertools
import random

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.cells import Cells, Validated
from gradflow.runs.compose import composer
from gradflow.runs.config import validate

# What may be typed together in one cell; None: nothing of the kind. Some of it is wrong, alone or beside other words.
WORDS = [
    ["activation=relu", "activation=leaky_relu", "activation=rleu", None],
    ["model=recurrent", None, None],
    ["cell=lstm", "cell=null", None, None],
    ["experiment=mnist_mlp", None, None, None],
    ["init=orthogonal", "init={gain: 2}", None],
    ["optimizer.lr=0.1", "optimizer.lr=1", "optimizer.lr=1.0", "optimizer.lr=-1", "optimizer.lrr=3", None],
    ["~optimizer.momentum", None, None],
    ["+optimizer.extra=1", None, None],
    ["remedy=[agc,warmup]", "remedy=none", "remedy=[]", None],
    ["remedy.warmup.steps=3", None, None],
    ["width=[8,4]", "width=8", "width=${depth}", None],
    ["depth=3", "depth=true", "depth=3.5", None],
    ["dropout=0.0", "dropout=-0.0", None],
    ["instruments.measure=[grad_norm]", "instruments.measure.grad_norm=3", "instruments=none", None],
    ["trainer={max_steps: 5}", "trainer.max_steps=7", "++trainer.max_steps=8", None],
    ["logger.tags=[a,b]", "logger.group='x y'", None],
    ["paths.runs=${paths.data}/x", None, None],
]


def outcome(config, words):
    """The config's values, in order, or what is wrong."""
    try:
        return repr(config(words).model_dump())
    except ConfigError as error:
        return error.lines


def test_cells_of_every_kind_compose_in_bulk_as_they_do_alone(compose):
    draw, cells, right = random.Random(0), Cells(compose), 0
    for _ in range(15):
        typed = [word for choices in WORDS if (word := draw.choice(choices)) is not None]
        for words in (typed, draw.sample(typed, 3)):
            alone = outcome(compose.config, words)
            assert outcome(cells.config, words) == alone, words
            right += isinstance(alone, str)
    assert 5 < right < 25, "some can be composed and some cannot"


def test_a_grid_of_files_is_composed_once_for_each_that_does_more_than_fill_its_key(compose, monkeypatch):
    composed = []
    untyped = compose.untyped
    monkeypatch.setattr(compose, "untyped", lambda words: composed.append(words) or untyped(words))
    cells = Cells(compose)
    axes = [
        ["activation=relu", "activation=tanh", "activation=gelu"],
        ["init=he_normal", "init=orthogonal"],
        ["norm=none", "norm=batch"],
        ["model=mlp", "model=convnet"],  # the second sets a width beside the model
    ]
    configs = {words: cells.config(words) for words in itertools.product(*axes)}
    assert len(composed) == 2
    monkeypatch.undo()
    for words, config in configs.items():
        assert config == compose.config(words)


FILES = {
    "experiment/slope.yaml": "# @package _global_\nactivation:\n  slope: 0.5\n",
    "activation/mine.yaml": "defaults: [leaky_relu]\nslope: 0.25\n",
    "activation/theirs.yaml": "# @package _global_\nactivation: {_target_: torch.nn.GELU}\ndepth: 7\n",
    "activation/tied.yaml": "_target_: gradflow.models.activations.leaky_relu\nslope: ${dropout}\n",
    "init/mine.yaml": "_target_: gradflow.models.initializers.gaussian\nstd: 0.5\n",
}


def test_files_that_do_more_than_fill_their_own_key_are_composed_by_hydra(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    axes = [
        ["activation=leaky_relu", "activation=mine", "activation=theirs", "activation=tied"],
        ["experiment=slope", "experiment=null"],
        ["init=mine", "init=orthogonal"],
        ["dropout=0.5", "depth=3"],
    ]
    with composer(str(tmp_path)) as compose:
        cells = Cells(compose)
        found = {words: outcome(cells.config, words) for words in itertools.product(*axes)}
        assert found == {words: outcome(compose.config, words) for words in found}
        slope = cells.config(["experiment=slope", "activation=leaky_relu"]).activation["slope"]
    assert slope == 0.5


def test_values_that_were_right_once_are_not_looked_at_again_and_wrong_ones_always_are(compose, monkeypatch):
    values = compose.config([]).model_dump()
    looked = []
    monkeypatch.setattr("gradflow.runs.cells.validate", lambda values: looked.append(1) or validate(values))
    validated = Validated()
    assert validated(values) == validated({**values}) == validate(values)
    assert validated({**values, "depth": 11}).depth == 11
    assert validated({**values, "depth": 11, "seed": 0}).seed == 0
    assert len(looked) == 2
    for _ in range(2):
        with pytest.raises(ConfigError, match="depth=true: should be a valid integer"):
            validated({**values, "depth": True})
        with pytest.raises(ConfigError, match="optimizer: missing"):
            validated({key: value for key, value in values.items() if key != "optimizer"})
