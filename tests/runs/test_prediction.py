"""A prediction is what theory says, is what a real network shows, and never stands in the way of a run."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gradflow.runs import prediction
from gradflow.runs.build import build
from gradflow.runs.compose import Composer
from gradflow.runs.config import Config
from gradflow.runs.execute import execute
from gradflow.runs.identity import run_id
from gradflow.runs.prediction import predict
from gradflow.runs.stop import Stop
from gradflow.theory.fixed_point import fixed_point

TANH = "activation=tanh", "init=mean_field", "init.sigma_w2=1.5", "init.sigma_b2=0.05"
DEEP = "task=digits", "task.batch_size=64", "depth=20", "width=256"
KEYS = {
    *("applies", "why_not", "chi", "q", "c", "xi_c", "xi_q", "xi_gradient", "trainable_depth", "phase"),
    *("sigma_w2", "sigma_b2", "critical_sigma_w2", "delta", "grad", "log10_delta", "log10_grad", "band"),
    *("through_time", "assumptions", "cures"),
}


def measured(config: Config, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """log10 of ‖∂L/∂x_l‖ and of ‖∂L/∂θ_l‖ of every block relative to the last one's, by plain autograd in float64 on
    white noise: the geometric mean over seeds, [L] each."""
    rows = []
    for seed in range(seeds):
        pieces = build(config.model_copy(update={"seed": seed}))
        network = pieces.network.double().train()
        torch.manual_seed(seed)
        x = torch.randn(64, *pieces.task.input_shape, dtype=torch.float64)
        out, outputs = network.stem(x), []
        for block in network.blocks:
            out = block(out)
            out.retain_grad()
            outputs.append(out)
        torch.nn.functional.cross_entropy(network.head(out), torch.randint(0, 10, (64,))).backward()
        deltas = [float(each.grad.norm()) for each in outputs]
        own = [[p.grad.square().sum() for p in block.parameters()] for block in network.blocks]
        rows.append([deltas, [math.sqrt(float(sum(each))) for each in own]])
    delta, grad = np.log10(np.array(rows)).mean(0)
    return delta - delta[-1], grad - grad[-1]


# Largest deviation of ‖∂L/∂x‖ from the line, as a factor, with 6 seeds of width 256 and 20 blocks: that of one draw is
# e^{±½ √(5·20/256)} = 1.37 for ReLU.
REAL = {
    TANH: 1.12,
    ("activation=tanh", "init=mean_field", "init.sigma_w2=2.5", "init.sigma_b2=0.05"): 1.12,
    ("activation=relu", "init=he_normal"): 1.2,
    ("activation=relu", "init=glorot_uniform"): 1.2,
    ("activation=sigmoid", "init=lecun_normal"): 1.12,
    ("norm=batch",): 1.12,
    ("skip=preact_residual",): 1.2,
    ("skip=preact_residual", "norm=layer"): 1.06,
    ("skip=residual", "norm=batch"): 1.08,
    ("skip=scaled_residual", "norm=rms"): 1.04,
    ("skip=highway", "activation=tanh", "init=glorot_normal"): 1.05,
    ("skip=deepnorm", "init=deepnorm", "norm=layer"): 1.05,
    ("skip=rezero", "skip.alpha=0.5", "activation=sigmoid"): 1.05,
    ("skip=preact_residual", "init=zero_last"): 1.001,
    ("activation=gelu", "init=orthogonal"): 1.03,
    ("activation=tanh", "init=lsuv"): 1.08,
    ("activation=maxout",): 1.2,
    ("activation=crelu",): 1.2,
    ("activation=rrelu",): 1.2,
    ("norm=spectral",): 1.25,
    ("norm=scaled_weight_standardization",): 1.15,
    ("dropout=0.2",): 1.25,
    ("activation=tanh", "init=sparse", "init.std=0.3"): 1.15,
}


@pytest.mark.parametrize("overrides", REAL, ids=" ".join)
def test_a_real_network_has_the_gradient_that_is_predicted(compose: Composer, overrides):
    config = compose.config([*DEEP, *overrides])
    found = predict(config)
    assert (found["applies"], found["why_not"], set(found)) == (True, None, KEYS)
    delta, _ = measured(config, seeds=6)
    apart = np.abs(delta - np.array(found["log10_delta"])).max()
    assert 10**apart < REAL[overrides]


@pytest.mark.parametrize(
    "overrides", [TANH, ("activation=sigmoid", "init=lecun_normal"), ("norm=batch",)], ids=" ".join
)
def test_the_parameters_gradient_over_a_batch_is_that_of_examples_that_are_alike(compose: Composer, overrides):
    config = compose.config([*DEEP, *overrides])
    _, grad = measured(config, seeds=6)
    assert 10 ** np.abs(grad - np.array(predict(config)["log10_grad"])).max() < 1.2


def test_where_the_width_is_too_small_for_theory_it_says_by_how_much(compose: Composer):
    config = compose.config([*DEEP, "skip=rezero", "skip.alpha=0.5"])
    found = predict(config)
    (told,) = (sentence for sentence in found["assumptions"] if "at this width" in sentence)
    delta, _ = measured(config, seeds=6)
    factor = 10 ** (delta[0] - found["log10_delta"][0])
    assert factor / 2 < float(told.rpartition("×")[2]) < 2 * factor
    for overrides in (["init=he_normal"], ["skip=preact_residual"], [*TANH]):
        assert not [s for s in predict(compose.config([*DEEP, *overrides]))["assumptions"] if "at this width" in s]


def test_the_numbers_are_those_of_the_fixed_point(compose: Composer):
    found = predict(compose.config(["depth=50", *TANH]))
    point = fixed_point(torch.tanh, 1.5, 0.05)
    assert found["q"] == pytest.approx(0.4180, abs=1e-4) == pytest.approx(point.q, abs=1e-4)
    assert found["chi"] == pytest.approx(0.9386, abs=1e-4)
    assert found["xi_c"] == pytest.approx(15.8, abs=0.05)
    assert found["trainable_depth"] == pytest.approx(95, abs=0.5)
    assert found["critical_sigma_w2"] == pytest.approx(1.7610, abs=1e-4)
    assert (found["phase"], found["sigma_w2"], found["sigma_b2"]) == ("ordered", 1.5, 0.05)
    assert len(found["delta"]) == len(found["band"]) == 50
    np.testing.assert_allclose(np.log10(found["delta"]), found["log10_delta"], atol=1e-12)
    slope = np.diff(found["log10_delta"])[-1]
    assert slope == pytest.approx(-0.5 * math.log10(point.chi), rel=1e-6)


def test_nothing_underflows(compose: Composer):
    found = predict(compose.config(["depth=2000", "width=8", "activation=sigmoid", "init=fan_in_uniform"]))
    assert found["delta"][0] == 0.0
    assert found["log10_delta"][0] == pytest.approx(1999 * math.log10(0.1414), rel=1e-3)
    json.dumps(found, allow_nan=False)


def test_the_cure_of_the_issue(compose: Composer):
    cure = predict(compose.config(["depth=30", "init=glorot_uniform"]))["cures"][0]
    expected = {"key": "init", "value": "he_normal", "instead": "glorot_uniform", "chi": 1.0, "chi_instead": 0.5}
    assert cure == {key: pytest.approx(value) if isinstance(value, float) else value for key, value in expected.items()}


@pytest.mark.parametrize(
    "overrides", [["activation=sigmoid", "init=lecun_normal"], ["norm=batch"], ["skip=preact_residual"], TANH], ids=str
)
def test_a_cure_keeps_what_it_promises(compose: Composer, overrides):
    shared = ["depth=40", "width=128", *overrides]
    config = compose.config(shared)
    found = predict(config)
    assert found["cures"]
    for cure in found["cures"]:
        cured = predict(compose.config([*shared, f"{cure['key']}={cure['value']}"]))
        assert abs(math.log(cured["chi"])) < abs(math.log(found["chi"]))
        assert cured["chi"] == pytest.approx(cure["chi"], abs=0.05)
        assert cure["chi_instead"] == found["chi"]


def test_where_nothing_is_wrong_nothing_is_to_be_cured(compose: Composer):
    assert predict(compose.config(["depth=30", "init=he_normal"]))["cures"] == []


NOT_COVERED = {
    "attention": ("model=transformer_encoder", "task.view=sequence", "skip=residual", "norm=layer"),
    "padded with zeros": ("model=resnet", "task.view=image", "depth=3"),
    "zero padding": ("model=convnet", "task.view=image", "model.padding=zero"),
    "no random matrix": ("init=identity",),
    "skip=dense": ("skip=dense",),
    "left out at random": ("skip=stochastic_depth",),
    "skip.dropout": ("skip=scaled_shortcut", "skip.dropout=0.5"),
    "skip=gated_shortcut": ("skip=gated_shortcut",),
    "linear map on a shortcut": ("skip=residual", "skip.shortcut=projection_everywhere"),
    "begins as zero": ("skip=fixup_scalar", "init=fixup"),
    "norm_position=post": ("norm=layer", "model.norm_position=post"),
    "fluctuates": ("norm=group", "norm.groups=4"),
    "2 pieces": ("activation=maxout", "activation.pieces=3"),
    "alpha_dropout": ("activation=selu", "alpha_dropout=0.1"),
    "unlike shapes": ("skip=residual", "width=[16,16,32]", "depth=3"),
    "cell=lstm": ("model=recurrent", "task=adding", "cell=lstm"),
}


@pytest.mark.parametrize("word", NOT_COVERED)
def test_where_theory_does_not_apply_a_sentence_says_why(compose: Composer, word):
    found = predict(compose.config(["width=16", *NOT_COVERED[word]]))
    assert (found["applies"], set(found), found["log10_delta"]) == (False, KEYS, None)
    assert word in found["why_not"]


def test_circular_convolutions_have_the_gradient_of_layers(compose: Composer):
    shared = "model=convnet", "task=digits", "task.view=image", "task.batch_size=64", "depth=12", "width=128"
    for overrides in (["activation=tanh", "init=delta_orthogonal"], ["init=he_normal"]):
        config = compose.config([*shared, *overrides])
        found = predict(config)
        delta, _ = measured(config, seeds=3)
        assert 10 ** np.abs(delta - np.array(found["log10_delta"])).max() < 1.2
        assert found["log10_grad"] is None


def test_a_recurrent_network_has_an_exponent_per_step(compose: Composer):
    config = compose.config(["model=recurrent", "task=adding", "cell=rnn", "recurrent_init=gaussian", "width=400",
                             "recurrent_init.std=0.025", "init=gaussian", "init.std=1e-6"])  # fmt: skip
    found = predict(config)["through_time"]
    assert found["sigma_w2"] == pytest.approx(0.25)
    assert found["exponent"] == pytest.approx(math.log(0.5), abs=1e-6)
    assert found["horizon_1%"] == pytest.approx(math.log(0.01) / math.log(0.5))


def test_the_same_network_with_another_seed_is_computed_once(compose: Composer):
    first = predict(compose.config(["depth=31", *TANH, "seed=0"]))
    assert predict(compose.config(["depth=31", *TANH, "seed=1", "optimizer.lr=0.5"])) is first
    assert predict(compose.config(["depth=32", *TANH])) is not first


def test_predicting_draws_no_random_numbers(compose: Composer):
    before = torch.get_rng_state()
    predict(compose.config(["depth=7", "skip=residual", "norm=batch"]))
    assert torch.equal(torch.get_rng_state(), before)


SMALL = "depth=2", "width=8", "trainer.max_steps=20", "hardware.device=cpu", "logger.mode=disabled"


@pytest.fixture
def configure(compose: Composer, tmp_path: Path):
    """The config of a small run below `tmp_path`, by the module's own composer."""
    return lambda *overrides: compose.config([*SMALL, f"paths.runs={tmp_path}", *overrides])


def test_a_run_keeps_its_prediction(configure):
    config = configure("instruments.every_n_steps=10")
    assert execute(config, [], Stop()).state == "completed"
    path = Path(config.paths.runs) / run_id(config)
    kept = json.loads((path / "prediction.json").read_text())
    assert kept == {"format": 1, **predict(config)}


def test_a_run_without_instruments_predicts_nothing(configure, monkeypatch):
    monkeypatch.setattr(prediction, "predict", lambda *_: pytest.fail("predicted"))
    config = configure("instruments=none")
    assert execute(config, [], Stop()).state == "completed"
    assert not (Path(config.paths.runs) / run_id(config) / "prediction.json").exists()


def test_a_theory_that_fails_is_no_fault_of_the_run(configure, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(prediction, "predict", fail)
    config = configure("seed=77")
    assert execute(config, [], Stop()).state == "completed"
    kept = json.loads((Path(config.paths.runs) / run_id(config) / "prediction.json").read_text())
    assert not kept["applies"]
    assert "by nothing" in kept["why_not"]


def test_it_is_quick(compose: Composer):
    """A guard against something that takes minutes; no claim about speed."""
    began = time.process_time()
    predict(compose.config(["depth=50", "width=64", "activation=mish"]))
    assert time.process_time() - began < 30
