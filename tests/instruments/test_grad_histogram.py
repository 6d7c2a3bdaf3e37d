"""Octaves through exponent bits against log2 and Python's own integers."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from watched import batches, network, numbers, of, train

from gradflow.instruments import grad_histogram
from gradflow.instruments.blocks import Block
from gradflow.instruments.grad_histogram import GradHistogram
from gradflow.instruments.instrument import ABSENT, Part, Update
from gradflow.rng import stream


def read(*gradients: Tensor | None, scale: float | Tensor = 1.0) -> list[dict[str, int]]:
    """What it reads of parameters with these gradients, one block each."""
    parameters = [nn.Parameter(torch.zeros(2) if g is None else torch.zeros_like(g.to_dense())) for g in gradients]
    own = {id(p): g for p, g in zip(parameters, gradients, strict=True) if g is not None}
    blocks = [Block(str(i), i, (p,)) for i, p in enumerate(parameters)]
    reading = GradHistogram().before_clipping(Update(0, Part(blocks), scale, own))
    found: list[dict[str, int]] = [{} for _ in gradients]
    for row, value in zip(reading.rows, reading.values.tolist(), strict=True):
        if value != ABSENT:
            found[row.block][row.quantity.removeprefix("grad_histogram/")] = int(value)
    return found


def label(element: float, exponent: int = 0) -> str:
    """The bin of a number · 2^−exponent, by Python's `frexp`, which is exact for subnormal numbers too."""
    if element == 0 or not math.isfinite(element):
        return "zero" if element == 0 else "nonfinite"
    octave = math.frexp(element)[1] - 1 - exponent
    return "subnormal" if octave < -126 else str(min(octave, 127))


def by_hand(gradient: Tensor, scale: float = 1.0) -> dict[str, int]:
    return dict(Counter(label(element / scale) for element in gradient.double().flatten().tolist()))


def magnitudes(dtype: torch.dtype, count: int = 3000) -> Tensor:
    """All over the range of a type, and beyond its upper end; some zeros."""
    generator, widest = stream(0, "g"), math.log2(torch.finfo(dtype).max)
    octaves = (torch.rand(count, generator=generator, dtype=torch.float64) * 2.2 - 1.15) * widest
    numbers = (torch.rand(count, generator=generator) - 0.5).sign() * torch.exp2(octaves)
    numbers[::50] = 0
    return numbers.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_against_frexp(dtype):
    gradient = magnitudes(dtype)
    (found,) = read(gradient)
    assert found == by_hand(gradient)
    assert {"zero", "nonfinite"} <= set(found) or dtype == torch.float64
    assert sum(found.values()) == gradient.numel()


@pytest.mark.parametrize(
    ("element", "bin"),
    [
        (1.0, "0"),
        (math.nextafter(2.0, 0.0), "0"),
        (-2.0, "1"),
        (2.0**-126, "-126"),
        (math.nextafter(2.0**-126, 0.0), "subnormal"),
        (2.0**-149, "subnormal"),
        (5e-324, "subnormal"),
        (-0.0, "zero"),
        (3e38, "127"),
        (1e300, "127"),
        (-math.inf, "nonfinite"),
        (math.nan, "nonfinite"),
    ],
)
def test_where_bins_begin_and_end(element, bin):
    """In float64; in float32 too, where it is the same number."""
    for dtype in (torch.float32, torch.float64):
        gradient = torch.tensor([element], dtype=dtype)
        if math.isnan(element) or gradient.item() == element:
            assert read(gradient) == [{bin: 1}]


def test_blocks_are_kept_apart_whatever_their_type():
    one, two = magnitudes(torch.float32, 500), magnitudes(torch.float64, 300)
    three = magnitudes(torch.bfloat16, 200)
    assert read(one, two, None, three) == [by_hand(one), by_hand(two), {}, by_hand(three)]


@pytest.mark.parametrize("size", [1, 7, 1000, 2**20])
def test_counting_in_pieces(monkeypatch, size):
    monkeypatch.setattr(grad_histogram, "CHUNKS", {"cpu": size})
    gradients = [magnitudes(torch.float32, 300), torch.zeros(0), magnitudes(torch.float64, 40)]
    assert read(*gradients) == [by_hand(gradient) for gradient in gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [2.0**100, 2.0, 0.5, 2.0**-30, 3.0])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_scale_still_on_the_gradients(dtype, scale, as_tensor):
    """Powers of two exactly, even where a float64 would underflow; any other number is divided by in float64."""
    gradient = magnitudes(dtype)
    (found,) = read(gradient, scale=torch.tensor(scale) if as_tensor else scale)
    if scale > 1 and scale != 3 and not as_tensor:
        exponent = int(math.log2(scale))
        assert found == Counter(label(element, exponent) for element in gradient.double().tolist())
    else:
        assert found == by_hand(gradient, scale)


def test_the_scale_brings_back_what_float32_loses():
    """A gradient of 2^-160 differentiated with the loss times 2^100 is no zero."""
    scaled = torch.full((4,), 2.0**-60)
    assert read(scaled, scale=2.0**100) == [{"subnormal": 4}]
    assert read(scaled * 2.0**-100) == [{"zero": 4}]


def test_sparse_and_complex_gradients():
    sparse = torch.sparse_coo_tensor(torch.tensor([[1, 1, 3]]), torch.tensor([1.0, 2.0, 0.25]), (6,))
    assert read(sparse, torch.tensor([3 + 4j, 0j])) == [{"1": 1, "-2": 1}, {"1": 1, "2": 1, "zero": 2}]


def test_in_training_against_autograd():
    data = batches(2)
    found = numbers(train(network(), ["grad_histogram"], data))
    model = network()
    gradients = torch.autograd.grad(functional.cross_entropy(model(data[0][0]), data[0][1]), list(model.parameters()))
    for name, pair in zip(("0", "3", "5"), (gradients[:2], gradients[2:4], gradients[4:]), strict=True):
        wanted = by_hand(torch.cat([g.flatten() for g in pair]))
        assert {
            what.removeprefix("grad_histogram/"): value
            for (step, block, what), value in found.items()
            if (step, block) == (0, name)
        } == wanted
    assert of(found, "grad_histogram/zero", 1).keys() <= {"0", "3", "5"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nothing_waits_for_the_device(dtype):
    """On a pretended GPU, where reading a value is an error."""
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.empty(3, 4, device="cuda", dtype=dtype)) for _ in range(2)]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        part = Part([Block(str(i), i, (p,)) for i, p in enumerate(parameters)])
        reading = GradHistogram().before_clipping(Update(0, part, 4.0))
    assert reading.values.device.type == "cuda"
    assert len(reading.values) == len(reading.rows)
