"""Two real processes under Lightning's DDP (gloo) see what one process sees with the same global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import two_processes

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return two_processes.everything(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, in_two_processes: Callable[..., list[Results]]) -> list[Results]:
    """The results of rank 0 and of rank 1."""
    return in_two_processes(two_processes.__file__, tmp_path_factory.mktemp("pair"), 150)


@pytest.mark.parametrize(
    ("what", "rel"), [("stranger", 1e-10), ("faint", 1e-4), ("learner", 1e-10), ("pretrained", 1e-8)]
)
def test_gradient_norms(alone, pair, what, rel):
    """Block by block, step by step, before and after clipping, the same on both ranks; float32 only for 'faint'."""
    expected = alone[what]["rows"]
    assert pair[0][what]["rows"] == pair[1][what]["rows"]
    assert pair[0][what]["rows"] == pytest.approx(expected, rel=rel, abs=0)
    quantities = {quantity for _, _, quantity in expected}
    assert ("grad_norm_clipped" in quantities) == (what != "faint")
    assert min(expected.values()) > 0


def test_the_faint_gradients_need_their_scale(alone):
    assert alone["faint"]["rows"][0, "blocks.00", "grad_norm"] < 1e-50


@pytest.mark.parametrize("what", ["stranger", "learner", "pretrained"])
def test_weights(alone, pair, what):
    for rank in range(2):
        torch.testing.assert_close(pair[rank][what]["weights"], alone[what]["weights"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("what", "pretrained"), [("learner", 0), ("pretrained", 10)])
def test_training_losses_and_scores(alone, pair, what, pretrained):
    """20 losses, each the mean over both processes, and the validations, which every process makes in full."""
    expected = alone[what]["figures"]
    splits = [figure[1:3] for figure in expected]
    assert (splits.count(("pretrain", "loss")), splits.count(("train", "loss"))) == (pretrained, 20 - pretrained)
    for rank in range(2):
        found = pair[rank][what]["figures"]
        assert [figure[:3] for figure in found] == [figure[:3] for figure in expected]
        assert [figure[3] for figure in found] == pytest.approx([figure[3] for figure in expected], rel=1e-10)


def test_each_process_drops_units_of_its_own_and_goes_on_with_its_own_after_a_restart(pair):
    """Both reach the same weights, since gradients are averaged; from a checkpoint, bit for bit those without it."""
    assert not torch.equal(pair[0]["dropped"]["drawn"], pair[1]["dropped"]["drawn"])
    for rank in range(2):
        assert torch.equal(pair[rank]["dropped"]["weights"], pair[0]["dropped"]["weights"])
        assert torch.equal(pair[rank]["dropped"]["resumed"], pair[0]["dropped"]["weights"])
