"""Named random streams: functions of (seed, name) alone, independent of each other and of torch's own generator."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch

from gradflow.rng import stream


def draw(*name: object, count: int = 1000) -> torch.Tensor:
    return torch.randn(count, generator=stream(*name), dtype=torch.float64)


def test_the_same_seed_and_name_give_the_same_numbers():
    assert torch.equal(draw(3, "batches", 7), draw(3, "batches", 7))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "init"), (1, "init")),
        ((0, "init"), (0, "batches")),
        ((0, "batches", 1), (0, "batches", 2)),
        ((0, "batches", 1, 2), (0, "batches", 12)),
        ((0, "batches", 1), (0, "batches", "1")),
        ((1, 2), (12,)),
    ],
)
def test_another_seed_or_name_gives_uncorrelated_numbers(one, other):
    """The correlation of 1,000 pairs of independent numbers has standard error 1/√1000."""
    a, b = draw(*one), draw(*other)
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 5 / math.sqrt(1000)


def test_the_numbers_are_fixed_for_ever():
    """Records of earlier runs hold only if a seed keeps its meaning: sha256 and torch's Mersenne twister."""
    seed = int.from_bytes(hashlib.sha256(b"(0, 'init')").digest()[:7], "big")
    assert stream(0, "init").initial_seed() == seed
    own = torch.Generator().manual_seed(seed)
    assert torch.equal(draw(0, "init"), torch.randn(1000, generator=own, dtype=torch.float64))


def test_the_global_generator_is_neither_read_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(0, "init")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draw(0, "init"), first)


def test_first_numbers_of_successive_seeds_are_independent_and_uniform():
    """A seed is one unit of a statistic over runs: the first draws of 2,000 have mean 1/2 and variance 1/12, and
    neighbours no correlation; standard errors √(1/12n), √(1/180n) and 1/√n."""
    first = torch.tensor([torch.rand((), generator=stream(seed, "init"), dtype=torch.float64) for seed in range(2000)])
    n = len(first)
    assert abs(first.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(first.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    assert abs(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]) < 5 / math.sqrt(n)


def test_every_call_starts_a_stream_anew_and_shares_nothing():
    one, other = stream(0, "init"), stream(0, "init")
    torch.rand(7, generator=one)
    assert torch.equal(torch.rand(3, generator=other), torch.rand(3, generator=stream(0, "init")))


def test_streams_are_on_the_cpu_whatever_the_default_device():
    """So that a seed means the same numbers on every machine."""
    with torch.device("meta"):
        generator = stream(0, "init")
    assert generator.device.type == "cpu"
    expected = torch.randn(1000, generator=generator, dtype=torch.float64, device="cpu")
    assert torch.equal(draw(0, "init"), expected)


def test_seeds_that_differ_only_in_high_bits_differ():
    """All 64 bits count, as do negative seeds."""
    seeds = [0, 1, -1, 2**32, 2**32 + 1, 2**63]
    assert len({stream(seed, "init").initial_seed() for seed in seeds}) == len(seeds)
