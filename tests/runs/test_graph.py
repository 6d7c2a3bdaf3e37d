"""Which runs can be trained as one."""

import pytest

from gradflow.runs.graph import graph_key, why_alone
from gradflow.runs.identity import labels


def key(config):
    return graph_key(labels(config), config.model_dump())


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1"],
        ["init=glorot_normal"],
        ["init.gain=2.0"],
        ["optimizer.lr=0.3", "optimizer.weight_decay=0.1"],
        ["scheduler=cosine"],
    ],
    ids=str,
)
def test_runs_that_differ_in_numbers_share_a_key(configure, words):
    assert key(configure(*words)) == key(configure()) is not None


@pytest.mark.parametrize(
    "word",
    [
        *("depth=3", "width=9", "activation=tanh", "norm=layer", "skip=residual", "model=convnet", "task=mnist"),
        *(
            "optimizer=adam",
            "optimizer.momentum=0",
            "remedy=clip_norm",
            "trainer.max_steps=21",
            "trainer.val_every_n_steps=7",
        ),
        *("instruments=none", "label_smoothing=0.1", "task.batch_size=32", "hardware.precision=64"),
    ],
)
def test_runs_of_other_graphs_do_not(configure, word):
    assert key(configure(word)) not in (None, key(configure()))


def test_switches_of_an_optimiser_tell_graphs_apart(configure):
    words = "optimizer.momentum=0.9", "optimizer.nesterov=true"
    assert key(configure(*words)) != key(configure("optimizer.momentum=0.9", "optimizer.nesterov=false"))
    assert key(configure("optimizer=adam", "optimizer.betas=[0.5,0.9]")) == key(configure("optimizer=adam"))


def test_a_remedys_number_is_free_and_which_remedies_act_is_not(configure):
    assert key(configure("remedy=clip_norm")) == key(configure("remedy=clip_norm", "remedy.clip_norm.max_norm=3.0"))
    assert key(configure("remedy=[clip_norm,warmup]")) != key(configure("remedy=clip_norm"))


@pytest.mark.parametrize(
    "word",
    [
        *("dropout=0.1", "input_noise=0.1", "activation=rrelu", "hardware.compile=true"),
        *("hardware.precision=bf16-mixed", "trainer.max_time=00:00:01:00"),
    ],
)
def test_runs_that_draw_numbers_while_they_train_or_end_by_the_clock_are_made_alone(configure, word):
    config = configure(word)
    assert key(config) is None
    assert word.partition("=")[2] in why_alone(labels(config), config.model_dump())


def test_runs_whose_training_steps_are_looked_into_are_made_alone(configure):
    config = configure("task=adding", "model=recurrent", "instruments.time_segments=4")
    assert key(config) is None
    assert "time_segments=4" in why_alone(labels(config), config.model_dump())
    assert key(configure("task=adding", "model=recurrent")) is not None
