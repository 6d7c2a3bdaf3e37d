"""Numbers as they are summed and reported."""

from __future__ import annotations

import math

import pytest
import torch

from gradflow.instruments.wide import present, wide, widened


def test_float64_but_on_apple_s():
    assert wide(torch.device("cuda", 0)) == wide(torch.device("cpu")) == torch.float64
    assert wide(torch.device("mps")) == torch.float32
    assert widened(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float64


def test_nothing_measured_reads_as_absent():
    found = present(torch.tensor([1.0, -math.inf, math.inf, math.nan])).tolist()
    assert found == pytest.approx([1.0, math.nan, math.inf, math.nan], nan_ok=True)
