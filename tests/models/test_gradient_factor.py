"""What one block of a wide network does to the gradient, by gradflow's own instrument, against theory.

For one example the gradient of a block's bias is δ = ∂L/∂z, and |δ_l|² = |δ_{l+1}|² · n·Var(w) · E[φ′(z)²]
(Glorot & Bengio 2010, eq. 6; He et al. 2015, eq. 13), with z ~ N(0, q), q = n·Var(w) · E[φ(z)²] + σ_b² (Poole et al.
2016, eq. 3; Schoenholz et al. 2017, section 2). Inputs are scaled so that the stem begins at that fixed point. The
factor measured is the geometric mean over 7 steps between 8 blocks and 5 seeds. At width 1024 its standard error is
0.6 % and the tolerance 2.5 %; both grow as 1/√width. Nothing here uses `gradflow.theory`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradflow.instruments.blocks import find_blocks
from gradflow.instruments.grad_norm import Norms
from gradflow.models import activations, initializers, norms, skips
from gradflow.models.convnet import convnet
from gradflow.models.initialize import initialize
from gradflow.models.mlp import mlp
from gradflow.models.network import Network
from gradflow.models.parts import Parts
from gradflow.rng import stream
from gradflow.training.optimizers import parameter_groups

WIDTH, DEPTH, SEEDS, TOLERANCE = 1024, 8, 5, 0.025
ORTHOGONAL = 256  # where a QR decomposition takes no time
LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017

# φ and φ′ by hand
PHI: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.3 * z), lambda z: np.where(z > 0, 1, 0.3)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.where(z > 0, 1, np.exp(z))),
    "selu": (
        lambda z: LAMBDA * np.where(z > 0, z, ALPHA * np.expm1(z)),
        lambda z: LAMBDA * np.where(z > 0, 1, ALPHA * np.exp(z)),
    ),
}
MAKE = {name: getattr(activations, name) for name in PHI} | {"leaky_relu": partial(activations.leaky_relu, slope=0.3)}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


def expect(f: Callable[[np.ndarray], np.ndarray], q: float = 1.0) -> float:
    """E f(z), z ~ N(0, q): Gauss-Legendre on both sides of 0 apart, where φ may have a kink."""
    half = 6 * (NODES + 1)
    sides = (f(math.sqrt(q) * half) + f(-math.sqrt(q) * half)) * np.exp(-(half**2) / 2) / math.sqrt(2 * math.pi)
    return float(6 * WEIGHTS @ sides)


@dataclass
class Case:
    """An initialisation, and what theory says: σ_w² = n·Var(w), σ_b², and the factor's published value if any."""

    init: str
    activation: str
    sigma_w2: float
    published: float | None = None
    sigma_b2: float = 0.0
    keys: dict[str, Any] = field(default_factory=dict)
    width: int = WIDTH

    def __str__(self) -> str:
        return " ".join([self.init, self.activation, *(f"{key}={value}" for key, value in self.keys.items())])

    def fixed_point(self) -> float:
        """q = σ_w² E[φ(√q z)²] + σ_b²; 1 where every q, or q = 1 by construction of the gain, is one."""
        phi, _ = PHI[self.activation]
        if self.activation in ("linear", "relu", "leaky_relu") or self.keys.get("gain") == "activation":
            return 1.0
        q = 1.0
        for _ in range(500):
            q = self.sigma_w2 * expect(lambda z: phi(z) ** 2, q) + self.sigma_b2
        return q

    def factor(self) -> float:
        """√χ₁ = √(σ_w² E[φ′(√q z)²])."""
        _, slope = PHI[self.activation]
        return math.sqrt(self.sigma_w2 * expect(lambda z: slope(z) ** 2, self.fixed_point()))


def own(init: str, activation: str, published: float | None = None) -> Case:
    """With gain=activation: σ_w² = 1/E φ(z)²."""
    phi, _ = PHI[activation]
    return Case(
        init,
        activation,
        1 / expect(lambda z: phi(z) ** 2),
        published,
        keys={"gain": "activation"},
        width=ORTHOGONAL if init == "orthogonal" else WIDTH,
    )


def field_theory(activation: str, sigma_w2: float, sigma_b2: float, published: float) -> Case:
    keys = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    return Case("mean_field", activation, sigma_w2, published, sigma_b2, keys)


CASES = [
    Case("he_normal", "relu", 2, 1.0),
    Case("he_uniform", "relu", 2, 1.0),
    Case("glorot_uniform", "relu", 1, math.sqrt(1 / 2)),
    Case("glorot_normal", "relu", 1, math.sqrt(1 / 2)),
    Case("glorot_normal", "linear", 1, 1.0),
    Case("fan_in_uniform", "linear", 1 / 3, math.sqrt(1 / 3)),
    Case("fan_in_uniform", "sigmoid", 1 / 3, 0.1414),
    Case("gaussian", "relu", 1e-4 * WIDTH, 0.01 * math.sqrt(WIDTH / 2)),
    Case("lecun_normal", "selu", 1, math.sqrt(1.0716)),
    Case("orthogonal", "relu", 2, 1.0, keys={"gain": math.sqrt(2)}, width=ORTHOGONAL),
    Case("sparse", "linear", 15, math.sqrt(15), width=512),
    own("he_normal", "relu", 1.0),
    own("he_normal", "leaky_relu", 1.0),
    own("he_uniform", "tanh"),
    own("he_normal", "elu", math.sqrt(0.668 * 1.5505)),
    own("he_normal", "softsign"),
    own("orthogonal", "leaky_relu", 1.0),
    field_theory("sigmoid", 1.0, 0.0, 0.2360),
    field_theory("tanh", 1.7610, 0.05, 1.0),  # critical
    field_theory("tanh", 1.0, 0.05, math.sqrt(0.7590)),
    field_theory("tanh", 4.0, 0.05, math.sqrt(1.3424)),
]


def plain(case: Case, widths: Sequence[int] = ()) -> Network:
    widths = tuple(widths) or (case.width,) * DEPTH
    return mlp((case.width,), 10, Parts(len(widths), widths, MAKE[case.activation], norms.none, skips.none))


def measured(network: Network, case: Case, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """Norms [seed, block] of the weights' and of the vectors' gradients, for one example and a random linear loss."""
    seen: dict[str, list[list[float]]] = {"weights": [], "vectors": []}
    norm = Norms(find_blocks(network), parameter_groups(network))
    scale = math.sqrt((case.fixed_point() - case.sigma_b2) / case.sigma_w2)
    for seed in range(seeds):
        init = partial(getattr(initializers, case.init), **case.keys)
        initialize(network, init, stream(seed, "init"), MAKE[case.activation])
        network.zero_grad()
        network(scale * torch.randn(1, case.width, generator=stream(seed, "x"))).sum().backward()
        values = norm().tolist()
        for kind in seen:
            wanted = f"grad_norm/{kind}"
            rows = zip(norm.rows, values, strict=True)
            seen[kind].append([v for row, v in rows if row.block is not None and row.quantity == wanted])
    return {kind: np.array(values) for kind, values in seen.items()}


def per_step(norms_SL: np.ndarray) -> float:
    """First block's ÷ last block's, geometric mean over seeds and steps."""
    steps = norms_SL.shape[1] - 1
    return float(np.exp(np.mean(np.log(norms_SL[:, 0] / norms_SL[:, -1])) / steps))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_factor_per_block(case):
    norms_SL = measured(plain(case), case)
    assert norms_SL["vectors"].shape == (SEEDS, DEPTH)
    assert per_step(norms_SL["vectors"]) == pytest.approx(case.factor(), rel=TOLERANCE * math.sqrt(WIDTH / case.width))
    if case.init.startswith("he_") and case.activation == "relu":
        # the activations' norm is constant too, so that ‖∂L/∂W‖ = |δ||h| shows the same
        assert per_step(norms_SL["weights"]) == pytest.approx(1, rel=TOLERANCE)


@pytest.mark.parametrize("case", [case for case in CASES if case.published is not None], ids=str)
def test_theory_s_factor_is_the_published_one(case):
    assert case.factor() == pytest.approx(case.published, rel=5e-4)


def test_tanh_is_critical_at_the_docstring_s_variances():
    """`mean_field`: σ_b² = 0.05 and σ_w² = 1.7610 (Schoenholz et al. 2017), q* = 0.5700."""
    case = field_theory("tanh", 1.7610, 0.05, 1.0)
    assert case.factor() == pytest.approx(1, abs=2e-5)
    assert case.fixed_point() == pytest.approx(0.5700, abs=1e-4)


@pytest.mark.parametrize(("fan", "expected"), [("in", math.sqrt(2)), ("out", 1.0)])
def test_fan_out_keeps_the_gradient_where_blocks_double_in_width(fan, expected):
    """He et al. 2015, eqs. 10 and 14 and the end of section 2.2: fan_out keeps the gradient's variance, that of one
    element; fan_in multiplies it by n_{l+1}/n_l and keeps its norm. Standard error 1.1 %, tolerance 4 %."""
    case, widths = Case("he_normal", "relu", 2, keys={"fan": fan}), (256, 512, 1024, 2048)
    norms_SL = measured(plain(case, widths), case, seeds=8)["vectors"]
    assert per_step(norms_SL / np.sqrt(widths)) == pytest.approx(expected, rel=0.04)


# exactly


def gradients(network: Network, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of the stem and of every block, and the gradients of a loss with respect to them."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _input: Any, out: Tensor) -> None:
        out.retain_grad()
        outputs.append(out)

    for module in (network.stem, *network.blocks):
        module.register_forward_hook(keep)
    network(x).square().sum().backward()
    return outputs, [out.grad for out in outputs]


@pytest.mark.parametrize("gain", [1.0, 0.9])
@pytest.mark.parametrize("init", ["orthogonal", "delta_orthogonal", "identity"])
def test_orthogonal_blocks_multiply_a_linear_gradient_s_norm_by_the_gain_exactly(init, gain):
    """Saxe et al. 2014: every singular value is the gain, whatever the depth."""
    network = mlp((8,), 10, Parts(50, 8, activations.linear, norms.none, skips.none)).double()
    initialize(network, partial(getattr(initializers, init), gain=gain), stream(0, "init"))
    norm = Norms(find_blocks(network), parameter_groups(network))
    network(torch.ones(1, 8, dtype=torch.float64)).square().sum().backward()
    rows = zip(norm.rows, norm().tolist(), strict=True)
    deltas = [v for row, v in rows if row.block is not None and row.quantity == "grad_norm/vectors"]
    assert deltas == pytest.approx([deltas[-1] * gain ** (49 - index) for index in range(50)], rel=1e-12)


def test_delta_orthogonal_circular_convolutions_keep_signal_and_gradient_exactly():
    """Xiao et al. 2018, section 3.1: of 100 linear blocks, at every position. Orthogonal matrices [units, fan_in]
    do not."""
    network = convnet((3, 8, 8), 10, Parts(100, 6, activations.linear, norms.none, skips.none)).double()
    x = torch.randn(2, 3, 8, 8, generator=stream(0, "x"), dtype=torch.float64)
    initialize(network, initializers.delta_orthogonal, stream(0, "init"))
    outputs, grads = gradients(network, x)
    for each in (outputs, grads):
        norms_LBHW = torch.stack([tensor.detach().norm(dim=1) for tensor in each])
        torch.testing.assert_close(norms_LBHW, norms_LBHW[:1].expand_as(norms_LBHW), rtol=1e-12, atol=0)
    initialize(network, initializers.orthogonal, stream(0, "init"))
    outputs, _ = gradients(network, x)
    assert abs(outputs[-1].norm() / outputs[0].norm() - 1) > 0.05


@pytest.mark.parametrize("skip", [skips.skipinit, skips.rezero], ids=["skipinit", "rezero"])
def test_a_branch_times_zero_leaves_signal_and_gradient_exactly(skip):
    """α = 0 (De & Smith 2020, section 3; Bachlechner et al. 2021, eq. 1): factor 1, and the branches'
    own gradient 0."""
    network = mlp((8,), 10, Parts(30, 16, activations.relu, norms.none, skip))
    initialize(network, initializers.he_normal, stream(0, "init"))
    outputs, grads = gradients(network, torch.randn(4, 8, generator=stream(0, "x")))
    assert all(torch.equal(out, outputs[0]) for out in outputs)
    assert all(torch.equal(grad, grads[0]) for grad in grads)
    assert (grads[0] != 0).any()
    assert all((p.grad == 0).all() for block in network.blocks for p in block.branch.parameters())
    assert all(block.alpha.grad != 0 for block in network.blocks)


# residual networks


def growth(skip: Callable[..., skips.Block], depth: int, width: int, seeds: int = SEEDS) -> tuple[float, float]:
    """|x_L|² ÷ |x_0|² forwards and |∂L/∂x_1|² ÷ |∂L/∂x_L|² backwards, by `Norms`, geometric means over seeds.

    Without norm the bias of a pre-activated block is added to x_l + β F(x_l), so that its gradient is β ∂L/∂x_{l+1}.
    """
    network = mlp((width,), 10, Parts(depth, width, activations.relu, norms.none, skip))
    norm = Norms(find_blocks(network), parameter_groups(network))
    forwards, backwards = [], []
    for seed in range(seeds):
        initialize(network, initializers.he_normal, stream(seed, "init"))
        network.zero_grad()
        x = network.stem(torch.randn(1, width, generator=stream(seed, "x")))
        first = x
        for block in network.blocks:
            x = block(x)
        forwards.append(math.log(x.detach().square().sum() / first.detach().square().sum()))
        (x * torch.randn(width, generator=stream(seed, "loss"))).sum().backward()
        rows = zip(norm.rows, norm().tolist(), strict=True)
        deltas = [v for row, v in rows if row.block is not None and row.quantity == "grad_norm/vectors"]
        backwards.append(2 * math.log(deltas[0] / deltas[-1]))
    return math.exp(np.mean(forwards)), math.exp(np.mean(backwards))


def test_an_unnormalised_residual_block_doubles_the_variance():
    """×2 per block, forwards and backwards (De & Smith 2020, section 2): 2⁸ after 8, 2⁷ between the first and the
    last. Tolerance 5 % per block of the square."""
    forwards, backwards = growth(skips.preact_residual, DEPTH, WIDTH)
    assert forwards ** (1 / DEPTH) == pytest.approx(2, rel=2 * TOLERANCE)
    assert backwards ** (1 / (DEPTH - 1)) == pytest.approx(2, rel=2 * TOLERANCE)


@pytest.mark.parametrize("depth", [4, 16, 64])
def test_branches_scaled_by_the_root_of_depth_stay_bounded(depth):
    """(1 + 1/L)^L < e, whatever the depth (Hayou et al. 2021, section 3). Tolerance 15 %: width 256, 10 seeds."""
    forwards, backwards = growth(skips.scaled_residual, depth, 256, seeds=10)
    assert forwards == pytest.approx((1 + 1 / depth) ** depth, rel=0.15)
    assert backwards == pytest.approx((1 + 1 / depth) ** (depth - 1), rel=0.15)


def test_skipinit_of_one_over_the_root_of_depth_begins_as_the_scaled_residual():
    """De & Smith 2020, section 3: α = 1/√L."""
    seen = []
    for skip in (partial(skips.skipinit, alpha="1/sqrt(depth)"), skips.scaled_residual):
        network = mlp((8,), 10, Parts(16, 16, activations.relu, norms.none, skip)).double()
        initialize(network, initializers.he_normal, stream(0, "init"))
        outputs, grads = gradients(network, torch.randn(4, 8, generator=stream(0, "x"), dtype=torch.float64))
        seen.append(torch.stack([*outputs, *grads]).detach())
    torch.testing.assert_close(*seen, rtol=1e-12, atol=1e-12)  # 1/4 has no rounding


@pytest.mark.parametrize("shortcut_scale", [0.5, 1.0, 1.1])
def test_a_scaled_shortcut_multiplies_the_gradient_by_its_power(shortcut_scale):
    """λ^L (He et al. 2016b, eq. 7), exactly where the branches are zero."""
    skip = partial(skips.scaled_residual, shortcut_scale=shortcut_scale)
    network = mlp((8,), 10, Parts(20, 16, activations.relu, norms.none, skip)).double()
    initialize(network, initializers.zero_last, stream(0, "init"))
    _, grads = gradients(network, torch.randn(4, 8, generator=stream(0, "x"), dtype=torch.float64))
    torch.testing.assert_close(grads[0], shortcut_scale**20 * grads[-1], rtol=1e-12, atol=0)
