"""The laws against gradflow's own perceptrons: orders of map, norm and activation, scales and gates are the same.

Five networks of width 256 and depth 8 each, 16 random inputs. ln‖g‖² of one network scatters by about √(5·8/256) = 0.4,
or 0.08 in log₁₀ of the norm's mean over five: the tolerance is twice that. `test_laws` is exact; this is about the
order of things.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from gradflow.models import activations, initializers, norms, skips
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.parts import Parts
from gradflow.theory.laws import DeepNorm, Highway, Linear, Plain, PreactResidual, Residual, ReZero, stem
from gradflow.theory.norms import BatchNorm, LayerNorm
from gradflow.theory.profile import propagate

WIDTH, DEPTH, BATCH, FEATURES, NETWORKS = 256, 8, 16, 64, 5
relu, tanh = torch.relu, torch.tanh
batch, layer, standardized = BatchNorm(BATCH), LayerNorm(), norms.GAIN_RELU**2
field = partial(initializers.mean_field, sigma_w2=2.0, sigma_b2=0.05)
he = Plain(relu, 2.0)

# name: norm, skip, the law of the stem, that of the blocks; all with ReLU and He's initialisation
CASES = {
    "plain": (norms.none, skips.none, he, he),
    "batch norm": (norms.batch, skips.none, Plain(relu, 2.0, norm=batch), Plain(relu, 2.0, norm=batch)),
    "layer norm": (norms.layer, skips.none, Plain(relu, 2.0, norm=layer), Plain(relu, 2.0, norm=layer)),
    "rms norm": (norms.rms, skips.none, Plain(relu, 2.0, norm=layer), Plain(relu, 2.0, norm=layer)),
    "weight standardisation": (
        norms.scaled_weight_standardization,
        skips.none,
        Plain(relu, standardized, centred=True),
        Plain(relu, standardized, centred=True),
    ),
    "residual": (norms.none, skips.residual, he, Residual(relu, 2.0)),
    "residual, batch norm": (
        norms.batch,
        skips.residual,
        Plain(relu, 2.0, norm=batch),
        Residual(relu, 2.0, norm=batch),
    ),
    "scaled shortcut": (
        norms.none,
        partial(skips.scaled_shortcut, shortcut_scale=0.9, branch_scale=0.7),
        he,
        Residual(relu, 2.0, branch_scale=0.7, shortcut_scale=0.9),
    ),
    "fixup's scalars": (norms.none, skips.fixup_scalar, he, Residual(relu, 2.0)),
    "pre-activated": (norms.none, skips.preact_residual, Linear(2.0), PreactResidual(relu, 2.0)),
    "pre-activated, batch norm": (
        norms.batch,
        skips.preact_residual,
        Linear(2.0),
        PreactResidual(relu, 2.0, norm=batch),
    ),
    "scaled": (
        norms.none,
        partial(skips.scaled_residual, shortcut_scale=0.9),
        Linear(2.0),
        PreactResidual(relu, 2.0, branch_scale=DEPTH**-0.5, shortcut_scale=0.9),
    ),
    "skipinit": (
        norms.none,
        partial(skips.skipinit, alpha=0.5),
        Linear(2.0),
        PreactResidual(relu, 2.0, branch_scale=0.5),
    ),
    "rezero": (norms.none, partial(skips.rezero, alpha=0.5), he, ReZero(relu, 2.0, alpha=0.5)),
    "highway": (norms.none, skips.highway, he, Highway(relu, 2.0, gate_bias=-2.0)),
    "deepnorm": (
        norms.layer,
        skips.deepnorm,
        Plain(relu, 2.0, norm=layer),
        DeepNorm(relu, 2.0, alpha=DEPTH**0.25),
    ),
}


def measured(norm, skip, activation, init):
    """(E x² per unit, E‖g‖²) at the stem and after each block, [DEPTH + 1] each."""
    squares, gradients = [], []
    for seed in range(NETWORKS):
        generator = torch.Generator().manual_seed(seed)
        network = mlp((FEATURES,), 10, Parts(DEPTH, WIDTH, activation, norm, skip)).double().train()
        initialize(network, init, generator, activation)
        x = network.stem(torch.randn(BATCH, FEATURES, dtype=torch.float64, generator=generator))
        boundaries = [x]
        for block in network.blocks:
            boundaries.append(block(boundaries[-1]))
        for each in boundaries:
            each.retain_grad()
        (torch.randn(BATCH, WIDTH, dtype=torch.float64, generator=generator) * boundaries[-1]).sum().backward()
        squares.append([each.detach().square().mean().item() for each in boundaries])
        gradients.append([each.grad.square().sum().item() for each in boundaries])
    return np.mean(squares, axis=0), np.mean(gradients, axis=0)


def check(norm, skip, activation, init, first, law):
    squares, gradients = measured(norm, skip, activation, init)
    profile = propagate([law] * DEPTH, stem(first), WIDTH)
    assert stem(first).p == pytest.approx(squares[0], rel=0.1)
    assert profile.log10_p == pytest.approx(np.log10(squares[1:]), abs=0.12)
    predicted = np.array([profile.log10_delta_stem, *profile.log10_delta])
    assert predicted == pytest.approx(np.log10(gradients / gradients[-1]) / 2, abs=0.16)


@pytest.mark.parametrize("name", CASES)
def test_relu(name):
    norm, skip, first, law = CASES[name]
    check(norm, skip, activations.relu, initializers.he_normal, first, law)


@pytest.mark.parametrize(
    ("skip", "law"), [(skips.none, Plain(tanh, 2.0, 0.05)), (skips.residual, Residual(tanh, 2.0, 0.05))]
)
def test_tanh_with_random_biases(skip, law):
    check(norms.none, skip, activations.tanh, field, Plain(tanh, 2.0, 0.05), law)
