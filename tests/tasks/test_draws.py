"""Drawing on the device: by name, in blocks, within bounds."""

from __future__ import annotations

import pytest
import torch

from gradflow.rng import stream
from gradflow.tasks.draws import blocks, generator_on, integers, uniform

CPU = torch.device("cpu")


def test_a_generator_depends_on_seed_and_name_alone_and_is_the_stream_on_a_cpu():
    state = torch.get_rng_state()
    a, b = (torch.rand(5, generator=generator_on(CPU, 3, "x", 1)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(a, torch.rand(5, generator=stream(3, "x", 1)))
    for other in ((4, "x", 1), (3, "y", 1), (3, "x", 2)):
        assert not torch.equal(a, torch.rand(5, generator=generator_on(CPU, *other)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("start", [0, 1, 6, 7, 13])
@pytest.mark.parametrize("stop", [14, 15, 20, 21])
def test_blocks_cover_a_range_once_and_in_order(start, stop):
    covered = [7 * block + k for block, part in blocks(start, stop, 7) for k in range(7)[part]]
    assert covered == list(range(start, stop))


def test_numbers_fill_their_range():
    generator = generator_on(CPU, 0, "range")
    x = uniform(-2, 3, (100_000,), generator)
    assert x.dtype == torch.float32
    assert -2 <= x.min() < -1.99 < 2.99 < x.max() < 3
    counts = integers(4, 7, (30_000,), generator).bincount(minlength=8)
    assert counts[[0, 1, 2, 3, 7]].sum() == 0
    assert (counts[4:7] - 10_000).abs().max() < 5 * (30_000 * 2 / 9) ** 0.5
