"""What a pass through a network costs, against closed forms."""

import pytest

from gradflow.runs.preflight import Preflight


@pytest.fixture
def sizes(compose):
    return lambda words: Preflight().sizes(compose.config(words.split())).sizes


def test_an_mlp_multiplies_each_weight_once_and_keeps_one_number_per_unit(sizes):
    found = sizes("model=mlp activation=relu depth=5 width=20 task=digits")
    weights = 64 * 20 + 5 * 20 * 20 + 20 * 10
    assert found.operations == 2 * weights
    assert found.parameters == weights + 6 * 20 + 10
    assert found.activations == 4 * (64 + 6 * 20)  # the input, and what each ReLU gives: the next layer's input
    assert found.fixed == 0


def test_a_convolution_multiplies_each_weight_once_at_each_place(sizes):
    words = "model=convnet depth=2 width=6 task=digits model.stem_stride=1 model.stages=1 model.padding=zero"
    found = sizes(words)
    assert found.operations == 2 * (64 * 9 * (1 * 6 + 2 * 6 * 6) + 6 * 10)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_a_recurrent_layer_costs_its_step_times_the_length(sizes, cell, gates):
    for length in (7, 300):
        found = sizes(f"model=recurrent cell={cell} width=12 depth=1 task=adding task.length={length}")
        assert found.operations == length * 2 * gates * (2 * 12 + 12 * 12) + 2 * 12
    shorter = sizes(f"model=recurrent cell={cell} width=12 depth=1 task=adding task.length=150")
    assert found.activations == pytest.approx(2 * shorter.activations, rel=0.01)


def test_the_output_at_every_step_counts_at_every_step(sizes):
    once = sizes("model=recurrent cell=rnn width=12 depth=1 task=adding task.length=50").operations
    every = sizes("model=recurrent cell=rnn width=12 depth=1 task=copying task.length=50").operations
    assert every > 50 * 2 * 12 * 9 > once - 50 * 2 * (2 * 12 + 12 * 12)


def test_weights_that_are_normalised_are_kept_once_and_not_for_each_example(sizes):
    plain = sizes("depth=3 width=40 task=digits")
    normed = sizes("depth=3 width=40 task=digits norm=weight_norm")
    assert plain.fixed == 0
    blocks = 4 * 3 * 40 * 40  # the stem's are not needed: no gradient goes back to the input
    assert blocks <= normed.fixed < 1.2 * blocks
    assert normed.activations == plain.activations
