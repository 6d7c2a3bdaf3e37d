"""The examples for strangers, as a stranger runs them, on shorter runs."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> Any:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](list(arguments))


def found(diagnosis: Any) -> set[str]:
    return {sign.verdict for sign in diagnosis.signs}


@pytest.mark.parametrize(
    ("name", "shorter"),
    [("resnet18", ["--steps", "20"]), ("small_transformer", ["--steps", "40", "--layers", "8"])],
)
def test_a_network_that_learns_is_healthy(name, shorter):
    diagnosis = run(name, *shorter)
    assert diagnosis.verdict == "healthy"
    assert not {"vanishing", "exploding", "dead"} & found(diagnosis)


def test_attention_without_skip_connections_collapses():
    diagnosis = run("small_transformer", "--sick", "--steps", "80")
    # Both are true of it: which comes first hangs on when the gradient's ratio falls, which differs by processor.
    assert diagnosis.verdict in ("vanishing", "rank_collapse")
    assert {"vanishing", "rank_collapse", "stagnant"} <= found(diagnosis)
    assert "residual connections" in str(diagnosis)


def test_a_resnet_of_small_weights_and_no_norm_does_not_learn():
    diagnosis = run("resnet18", "--sick", "--steps", "40", "--batch", "16")
    assert diagnosis.verdict == "vanishing"
    assert {"vanishing", "stagnant"} <= found(diagnosis)
