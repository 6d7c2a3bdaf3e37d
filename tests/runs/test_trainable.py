"""The depth to which a plain network trains, between the values that were run."""

import math

import pytest

from gradflow.runs.prediction import predict
from gradflow.runs.trainable import trainable_depths

TANH = "activation=tanh", "init=mean_field", "init.sigma_b2=0.05"


def test_it_is_what_a_run_s_own_prediction_says(compose):
    asked = [0.7, 1.3, 2.6]
    found = trainable_depths(compose.config([*TANH, "init.sigma_w2=9"]), asked)
    own = [predict(compose.config([*TANH, f"init.sigma_w2={value}"]))["trainable_depth"] for value in asked]
    assert found.tolist() == pytest.approx(own, rel=1e-9)


def test_it_has_no_limit_on_the_critical_line(compose):
    config = compose.config(["activation=relu", "init=he_normal"])
    below, at = trainable_depths(config, [1.0, 2.0])
    assert below == pytest.approx(6 / math.log(2))
    assert at == math.inf


def test_an_activation_of_several_numbers_is_refused(compose):
    with pytest.raises(ValueError, match="swiglu"):
        trainable_depths(compose.config(["activation=swiglu"]), [1.0])
