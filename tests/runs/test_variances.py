"""σ_w² and σ_b² of every initialiser are those of the weights it draws."""

import math
from functools import partial

import pytest
import torch

from gradflow.models import initializers
from gradflow.models.layers import Linear
from gradflow.models.norms import SpectralNorm
from gradflow.models.weights import Weight
from gradflow.runs.variances import spectral, variances

UNITS, INPUTS = 384, 512
DRAWN = {
    "fan_in_uniform": initializers.fan_in_uniform,
    "gaussian": partial(initializers.gaussian, std=0.02),
    "lecun_normal": initializers.lecun_normal,
    "glorot_uniform": initializers.glorot_uniform,
    "glorot_normal": initializers.glorot_normal,
    "he_uniform": initializers.he_uniform,
    "he_normal of the other fan": partial(initializers.he_normal, fan="out", gain=1.3),
    "mean_field": partial(initializers.mean_field, sigma_w2=1.7, sigma_b2=0.3),
    "orthogonal": partial(initializers.orthogonal, gain=1.2),
    "sparse": partial(initializers.sparse, connections=9, std=0.4),
    "spectral_radius": None,
    "fixup": initializers.fixup,
    "deepnorm": initializers.deepnorm,
    "zero_last": initializers.zero_last,
}


def weight(units: int = UNITS, inputs: int = INPUTS, device: str = "cpu", **more: object) -> Weight:
    return Weight(torch.zeros(units, inputs, device=device), torch.zeros(units, device=device), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, init in DRAWN.items() if init is not None])
def test_they_are_those_of_the_weights(name):
    init, place = DRAWN[name], {"branches": 4, "layers": 2}
    drawn = weight(**place)
    init(drawn, torch.Generator().manual_seed(0))
    found = variances(init, weight(device="meta", **place))
    assert not found.measured
    assert found.sigma_w2 == pytest.approx(float(drawn.tensor.square().sum(1).mean()), rel=0.02)
    assert found.sigma_b2 == pytest.approx(float(drawn.bias.square().mean()), rel=0.25)


def test_orthogonal_rows_are_counted_where_there_are_more_of_them_than_inputs():
    tall = weight(units=64, inputs=16)
    initializers.orthogonal(tall, torch.Generator().manual_seed(0))
    found = variances(initializers.orthogonal, weight(64, 16, "meta"))
    assert found.sigma_w2 == pytest.approx(float(tall.tensor.square().sum(1).mean())) == pytest.approx(0.25)


def test_a_delta_orthogonal_kernel_counts_its_centre_alone():
    kernel = Weight(torch.zeros(32, 16, 3, 3))
    initializers.delta_orthogonal(kernel, torch.Generator().manual_seed(0))
    found = variances(initializers.delta_orthogonal, Weight(torch.zeros(32, 16, 3, 3, device="meta")))
    assert found.sigma_w2 == pytest.approx(float(kernel.tensor.flatten(1).square().sum(1).mean()))


@pytest.mark.parametrize(("init", "last"), [(initializers.fixup, True), (initializers.zero_last, True)])
def test_what_begins_as_zero_is_zero(init, last):
    assert variances(init, weight(device="meta", last=last)).sigma_w2 == 0


def test_a_random_matrix_of_a_given_spectral_radius():
    square = weight(600, 600)
    init = partial(initializers.spectral_radius, radius=1.3)
    init(square, torch.Generator().manual_seed(0))
    found = variances(init, weight(600, 600, "meta"))
    assert found.sigma_w2 == pytest.approx(float(square.tensor.square().sum(1).mean()), rel=0.1)


def of_torch(weight, generator):
    torch.nn.init.kaiming_uniform_(weight.tensor, a=math.sqrt(5), generator=generator)


def in_steps(weight, generator):
    weight.tensor.normal_(0, 3, generator=generator)
    weight.tensor.div_(2).mul_(0.1)
    weight.bias.uniform_(-1, 1, generator=generator)


def shifted(weight, generator):
    weight.tensor.normal_(0, 0.1, generator=generator).add_(0.0)


def half(weight, generator):
    weight.tensor.normal_(0, 0.1, generator=generator)
    weight.tensor[:, ::2].zero_()


@pytest.mark.parametrize(
    ("init", "sigma_w2", "sigma_b2", "measured"),
    [
        (of_torch, 1 / 3, 0, True),
        (in_steps, INPUTS * 0.15**2, 1 / 3, False),
        (shifted, INPUTS * 0.01, 0, True),
        (half, INPUTS * 0.005, 0, True),
    ],
)
def test_an_initialiser_from_elsewhere_is_read_or_else_measured(init, sigma_w2, sigma_b2, measured):
    found = variances(init, weight(device="meta"))
    assert found.measured == measured
    assert (found.sigma_w2, found.sigma_b2) == (pytest.approx(sigma_w2, rel=0.02), pytest.approx(sigma_b2))


def biased(weight, generator):
    weight.tensor.uniform_(0, 1, generator=generator)


@pytest.mark.parametrize("init", [initializers.identity, biased])
def test_what_is_not_random_around_zero_is_refused(init):
    with pytest.raises(ValueError):
        variances(init, weight(64, 64, "meta"))


@pytest.mark.parametrize(("units", "inputs"), [(400, 400), (200, 400), (400, 200)])
def test_a_spectral_norm_leaves_the_variance_that_is_told(units, inputs):
    measured = []
    for seed in range(10):
        linear = Linear(inputs, units)
        torch.nn.init.normal_(linear.weight, 0, 0.3, generator=torch.Generator().manual_seed(seed))
        norm = SpectralNorm(1, 1e-12)
        norm.attach(linear.weight)
        norm.reset(linear.weight)
        measured.append(float(norm.train()(linear.weight).detach().square().sum(1).mean()))
    told = spectral(initializers.he_normal, units, inputs, 1)
    assert told == pytest.approx(sum(measured) / len(measured), rel=0.03)
