"""Ranks of outputs and of gradients against singular values."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched import Checkpointed, batches, network, numbers, of, train, under

from gradflow.instruments.blocks import Block, find_blocks
from gradflow.instruments.effective_rank import EffectiveRank, effective_rank, participation_ratio
from gradflow.instruments.flow import watch
from gradflow.instruments.grams import Grams, gram, mean_cosine
from gradflow.instruments.instrument import ABSENT, Part, Update
from gradflow.rng import stream


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=stream(0, "noise"), dtype=torch.float64).to(dtype)


def entropy_rank(matrix: Tensor) -> float:
    p = torch.linalg.svdvals(matrix.double())
    p = p[p > 0] / p.sum()
    return math.exp(-(p * p.log()).sum().item())


def pairwise(matrix: Tensor) -> float:
    """Pair by pair, in words of torch."""
    n = len(matrix)
    found = [functional.cosine_similarity(matrix[i], matrix[j], dim=0) for i in range(n) for j in range(n) if i != j]
    return torch.stack(found).mean().item()


def ranks_of(gradient: Tensor, **options: int) -> list[float]:
    parameter = nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient
    reading = EffectiveRank(**options).before_clipping(Update(0, Part([Block("a", 0, (parameter,))])))
    return [] if reading is None else reading.values.tolist()


# --- the formulas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1), (8, 3), (8, 8), (32, 256)])
def test_effective_rank_against_singular_values(shape):
    x = noise(*shape)
    assert effective_rank(gram(x, 64)[None]).item() == pytest.approx(entropy_rank(x), rel=1e-6)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_equal_singular_values_count_alike(m):
    """m of them make a rank of m, whatever the scale; so does the participation ratio."""
    q = torch.linalg.qr(noise(6, 6))[0]
    x = 1e-9 * q[:, :m] @ torch.linalg.qr(noise(9, 9))[0][:m]
    assert effective_rank(gram(x, 64)[None]).item() == pytest.approx(m, rel=1e-6)
    assert participation_ratio([x]).item() == pytest.approx(m, rel=1e-12)


def test_the_closed_form_of_two_singular_values():
    x = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(gram(x, 2)[None]).item() == pytest.approx(math.exp(entropy), rel=1e-12)
    assert participation_ratio([x]).item() == pytest.approx((9 + 1) ** 2 / (81 + 1), rel=1e-12)


def test_zeros_are_absent_and_infinities_are_nan():
    grams = torch.stack([torch.zeros(3, 3), torch.full((3, 3), torch.inf)]).double()
    found = effective_rank(grams)
    assert found[0] == ABSENT
    assert found[1].isnan()
    assert mean_cosine(grams)[0] == ABSENT
    found = participation_ratio([torch.zeros(2, 2), torch.full((2, 2), torch.inf)])
    assert found[0] == ABSENT
    assert found[1].isnan()


def test_mean_cosine_pair_by_pair():
    x = noise(7, 5)
    assert mean_cosine(gram(x, 64)[None]).item() == pytest.approx(pairwise(x), rel=1e-12)


def test_examples_that_are_zero_form_no_pair():
    x = noise(5, 4)
    with_zeros = torch.cat([x, torch.zeros(3, 4)])
    assert mean_cosine(gram(with_zeros, 64)[None]).item() == pytest.approx(pairwise(x), rel=1e-12)
    assert mean_cosine(gram(torch.cat([x[:1], torch.zeros(3, 4)]), 64)[None]).item() == ABSENT


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (8, 3, 2, 2)])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-43, 1e30])
def test_the_gradient_s_rank_has_no_scale(shape, size):
    """1e-43 is subnormal, a hundred of the smallest float32: the matrix itself is rounded by a percent."""
    matrix = noise(*shape).flatten(1)
    s2 = torch.linalg.svdvals(matrix).square()
    expected = (s2.sum().square() / s2.square().sum()).item()
    (found,) = ranks_of((noise(*shape) * size).float())
    assert found == pytest.approx(expected, rel=1e-5 if size != 1e-43 else 0.02)


def test_a_gradient_in_bfloat16_is_squared_in_float32():
    assert ranks_of(torch.eye(4, dtype=torch.bfloat16))[0] == pytest.approx(4, rel=1e-6)


def test_a_vector_has_no_rank():
    assert ranks_of(torch.ones(5)) == []


def test_the_largest_matrix_of_a_block_counts():
    small, large = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(3, 4))
    small.grad, large.grad = torch.eye(2), torch.ones(3, 4)
    reading = EffectiveRank().before_clipping(Update(0, Part([Block("a", 0, (small, large))])))
    assert reading.values.tolist() == pytest.approx([1])


def test_blocks_are_spread_evenly():
    blocks = []
    for i in range(10):
        parameter = nn.Parameter(torch.zeros(2, 2))
        parameter.grad = torch.eye(2)
        blocks.append(Block(str(i), i, (parameter,)))
    rows = EffectiveRank(most_gradients=4).before_clipping(Update(0, Part(blocks))).rows
    assert [row.block for row in rows] == [0, 3, 6, 9]


# --- parts of a batch -----------------------------------------------------------------------------------------


def test_tensors_of_one_name_are_averaged_and_names_without_any_absent():
    grams = Grams()
    a, b, c = noise(4, 3), noise(6, 3) + 1, noise(4, 9)
    for name, tensor in (("x", a), ("x", b), ("y", c), ("one example", a[:1])):
        grams.add(name, tensor, 32)
    found = grams.take(["y", "x", "z", "one example"], mean_cosine, 1).flatten().tolist()
    assert found[:2] == pytest.approx([pairwise(c), (pairwise(a) + pairwise(b)) / 2], rel=1e-12)
    assert found[2:] == [ABSENT, ABSENT]
    assert not grams


# --- in a training loop ---------------------------------------------------------------------------------------


def expected_of(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[name] = output.detach()

    handles = [model[int(b.name)].register_forward_hook(partial(keep, b.name)) for b in find_blocks(model)]
    functional.cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    s2 = {b.name: torch.linalg.svdvals(model[int(b.name)].weight.grad).square() for b in find_blocks(model)}
    return {
        "effective_rank": {name: entropy_rank(h) for name, h in outputs.items()},
        "output_cosine": {name: pairwise(h) for name, h in outputs.items()},
        "gradient_rank": {name: (s.sum().square() / s.square().sum()).item() for name, s in s2.items()},
    }


def test_every_block_of_a_network():
    found = numbers(train(network(), ["effective_rank"], batches(2)))
    for quantity, expected in expected_of(network(), *batches(1)[0]).items():
        assert of(found, quantity) == pytest.approx(expected, rel=1e-6)


def test_only_the_first_examples():
    instrument = EffectiveRank()
    instrument.examples = 5
    found = numbers(train(network(), [instrument], batches(1)))
    ((x, y),) = batches(1)
    assert of(found, "output_cosine") == pytest.approx(expected_of(network(), x[:5], y[:5])["output_cosine"], rel=1e-10)


def test_accumulated_batches_are_averaged():
    found = numbers(train(network(), ["effective_rank"], batches(2), accumulate=2))
    parts = [expected_of(network(), *batch)["effective_rank"] for batch in batches(2)]
    assert of(found, "effective_rank") == pytest.approx(
        {k: (parts[0][k] + parts[1][k]) / 2 for k in parts[0]}, rel=1e-6
    )


def test_a_scaler_s_factor_changes_nothing():
    def once(scaler: torch.amp.GradScaler | None) -> dict:
        return numbers(
            train(network(torch.float32), ["effective_rank"], batches(3, dtype=torch.float32), scaler=scaler)
        )

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13)
    assert once(scaler) == pytest.approx(once(None), rel=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_network(reentrant):
    found = numbers(train(Checkpointed(reentrant), ["effective_rank"], batches(2)))
    expected = numbers(train(network(), ["effective_rank"], batches(2)))
    assert found == pytest.approx(under("net", expected), rel=1e-10)


def test_a_compiled_network():
    expected = numbers(train(network(), ["effective_rank"], batches(2)))
    found = numbers(train(torch.compile(network(), backend="aot_eager"), ["effective_rank"], batches(2)))
    assert found == pytest.approx(under("_orig_mod", expected), rel=1e-10)


def test_training_is_the_same_bit_for_bit():
    models, after = (network(dropout=0.5), network(dropout=0.5)), []
    for model, instruments in zip(models, ([], ["effective_rank"]), strict=True):
        torch.manual_seed(0)
        train(model, instruments, batches(4))
        after.append(torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    assert torch.equal(*after)


def test_an_embedding_and_integers():
    """Its output has a rank; what it is given has none to be asked for."""
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, instruments=["effective_rank"]) as flow:
        model(torch.arange(15).view(5, 3) % 10).square().mean().backward()
        optimizer.step()
    found = numbers(flow)
    assert set(of(found, "effective_rank")) == {"0", "2"}
    assert set(of(found, "gradient_rank")) == {"0", "2"}
