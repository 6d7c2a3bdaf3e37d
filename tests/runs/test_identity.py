"""What makes two configs the same run, and the words for one."""

import hashlib
import json
import re

import pytest

from gradflow.runs.config import validate
from gradflow.runs.identity import labels, run_id, science, title

DEFAULT = "7a0895a513d1"  # of conf/train.yaml: a change means that every record made so far is trained again


@pytest.fixture
def identify(compose):
    return lambda *overrides: run_id(compose.config(list(overrides)))


@pytest.fixture
def default(compose):
    return compose.config([])


def test_the_default_config_keeps_its_id(identify):
    assert identify() == DEFAULT


def test_the_id_is_the_sha256_of_the_canonical_json_of_what_is_science(default):
    text = json.dumps(science(default), sort_keys=True, separators=(",", ":"))
    text = re.sub(r":(\d+)\.0\b", r":\1", text)  # whole floats are written as integers
    assert run_id(default) == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    "overrides",
    [
        ["logger.mode=disabled", "logger.project=other", "logger.group=g", "logger.tags=[a]", "logger.entity=me"],
        ["instruments=none"],
        ["instruments.every_n_steps=3", "instruments.loss_scale=1024.0"],
        ["paths.runs=a", "paths.sweeps=b", "paths.data=c"],
        ["trainer.log_every_n_steps=1", "trainer.val_every_n_steps=7", "trainer.checkpoint_every_n_steps=9"],
    ],
    ids=" ".join,
)
def test_what_is_not_science_leaves_the_id_alone(identify, overrides):
    assert identify(*overrides) == DEFAULT


CHANGES = [
    *("depth=11", "width=65", "width=[64,64]", "seed=1"),
    *("task=mnist", "task.batch_size=32", "task.split_seed=5"),
    *("activation=tanh", "init=he_uniform", "norm=batch", "skip=residual", "model.bias=false"),
    *("optimizer=adam", "optimizer.lr=0.02", "optimizer.momentum=0.8", "optimizer.nesterov=true"),
    *("optimizer.weight_decay=0.1", "scheduler=cosine", "task.view=flat", "task.standardize=false"),
    *("dropout=0.1", "alpha_dropout=0.1", "input_noise=0.1", "label_smoothing=0.1", "hardware.compile=true"),
    *("hardware.device=cpu", "hardware.threads=4", "hardware.precision=64", "trainer=ddp"),
    *("remedy=warmup", "remedy=clip_norm", "remedy=[clip_norm,warmup]", "remedy=[warmup,clip_norm]"),
    *("model=recurrent", "model=recurrent cell=lstm", "model=recurrent cell=lstm cell.forget_bias=2"),
    *("model=recurrent recurrent_init=identity", "model=recurrent recurrent_init.gain=0.5", "model=esn"),
    *("trainer.max_steps=501", "trainer.max_epochs=3", "trainer.max_time=00:00:10:00", "trainer.stop_when_solved=true"),
]


def test_every_scientific_field_changes_the_id(identify):
    ids = {change: identify(*change.split()) for change in CHANGES}
    assert DEFAULT not in ids.values()
    assert len(set(ids.values())) == len(CHANGES)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["optimizer.lr=1"], ["optimizer.lr=1.0"]),
        (["optimizer.lr=0.1"], ["optimizer.lr=1e-1"]),
        (["remedy=clip_norm", "remedy.clip_norm.max_norm=2"], ["remedy=[clip_norm]", "remedy.clip_norm.max_norm=2.0"]),
        (["hardware.precision=32"], []),
        (["remedy=none"], ["remedy=[]"]),
        (["depth=4", "seed=3"], ["seed=3", "depth=4"]),
        (["norm=none"], []),
        (["trainer.stop_when_solved=false"], []),
        (["trainer.devices=2", "trainer.num_nodes=2"], ["trainer=ddp", "trainer.devices=4"]),
        (["trainer=ddp", "trainer.devices=1"], []),
        (["experiment=vanishing_sigmoid"], ["activation=sigmoid", "init=fan_in_uniform", "depth=30"]),
    ],
    ids=str,
)
def test_two_ways_to_say_the_same_are_the_same_run(identify, one, other):
    assert identify(*one) == identify(*other)


def test_the_order_of_keys_is_of_no_account(default):
    def backwards(value):
        if isinstance(value, dict):
            return {key: backwards(inner) for key, inner in reversed(value.items())}
        return value

    values = default.model_dump()
    assert list(backwards(values)["optimizer"]) != list(values["optimizer"])
    assert run_id(validate(backwards(values))) == DEFAULT


def test_a_list_of_widths_keeps_its_order(identify):
    assert identify("width=[64,32]") != identify("width=[32,64]")


def test_labels_are_one_flat_word_or_number_per_choice(default):
    assert labels(default) == {
        **{"task": "digits", "task.batch_size": 64, "task.split_seed": 0, "task.augment": False},
        **{"task.view": "image", "task.standardize": True},
        **{"model": "mlp", "model.bias": True, "model.norm_position": None},
        **{"activation": "relu", "init": "he_normal", "init.fan": "in", "init.gain": 2**0.5},
        **{"norm": "none", "skip": "none", "remedy": "none"},
        **{"optimizer": "sgd", "optimizer.lr": 0.01, "optimizer.momentum": 0.9, "optimizer.nesterov": False},
        **{"optimizer.weight_decay": 0.0, "scheduler": "constant"},
        **{"depth": 10, "width": 64, "seed": 0, "trainer.max_steps": 500, "trainer.max_epochs": None},
        **{"dropout": 0.0, "alpha_dropout": 0.0, "input_noise": 0.0, "label_smoothing": 0.0},
        **{"hardware": "auto 32", "hardware.device": "auto", "hardware.devices": 1, "hardware.precision": "32"},
        **{"hardware.compile": False, "hardware.threads": 1},
        **{"trainer.max_time": None, "recipe": "relu · he_normal"},
    }
    assert title(labels(default)) == "digits mlp relu · he_normal depth 10 seed 0"


def test_labels_tell_every_part_of_the_recipe_and_lists_in_one_word(compose):
    told = labels(compose.config(["norm=batch", "skip=residual", "width=[8,4]", "optimizer=adam", "depth=2"]))
    assert told["recipe"] == "relu · he_normal · batch · residual"
    assert (told["width"], told["optimizer.betas"]) == ("8,4", "0.9,0.999")


def test_several_processes_are_told(compose):
    told = labels(compose.config(["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "hardware=cpu"]))
    assert (told["hardware"], told["hardware.devices"]) == ("8 × cpu 32", 8)


def test_a_choice_without_effect_leaves_the_id_alone(compose):
    """The number of steps where epochs count, the place of a norm that is none."""
    same = [["model.norm_position=post"], []]
    assert len({run_id(compose.config(words)) for words in same}) == 1
    other = [["norm=layer", "model.norm_position=post"], ["norm=layer"]]
    assert len({run_id(compose.config(words)) for words in other}) == 2
    same = [["trainer.max_epochs=3", "trainer.max_steps=7"], ["trainer.max_epochs=3"]]
    assert len({run_id(compose.config(words)) for words in same}) == 1


def test_definitions_from_elsewhere_never_share_a_word(compose):
    told = [labels(compose.config([f"activation._target_={t}"])) for t in ("a.swish", "b.swish")]
    assert [each["activation"] for each in told] == ["a.swish", "b.swish"]
    assert len({each["recipe"] for each in told}) == 2


@pytest.mark.parametrize(
    "word",
    ["optimizer=adam", "init=orthogonal", "scheduler=cosine", "model.window=5", "activation=tanh"],
)
def test_what_a_closed_form_does_not_use_tells_no_runs_apart(identify, word):
    assert identify("model=esn", word) == identify("model=esn")
    if not word.startswith(("model", "activation")):
        assert identify("model=esn", "model.readout=sgd", word) != identify("model=esn", "model.readout=sgd")


def test_a_recurrent_run_is_called_by_its_cell(compose):
    words = labels(compose.config(["task=adding", "model=recurrent", "cell=irnn"]))
    assert title(words) == "adding irnn length 100 depth 1 seed 0"
    assert title(labels(compose.config(["task=adding", "model=esn"]))) == "adding esn length 100 depth 1 seed 0"
