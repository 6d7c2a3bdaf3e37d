"""Chrono initialisation: the law of its biases, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from gradflow.models.cells.chrono import check_chrono, chrono_bias
from gradflow.rng import stream


@pytest.mark.parametrize("longest", [2, 3, 784])
def test_biases_are_logarithms_of_uniform_times(longest):
    bias = torch.full((5000,), torch.nan, dtype=torch.float64)
    chrono_bias(bias, longest, stream(0, "chrono"))
    times = bias.exp()
    assert times.min() >= 1 - 1e-12
    assert times.max() <= longest - 1 + 1e-9
    spread = longest - 2
    assert abs(float(times.mean()) - longest / 2) <= 5 * spread / (12 * 5000) ** 0.5 + 1e-9
    assert abs(float(times.std()) - spread / 12**0.5) <= 0.02 * spread + 1e-9


def test_a_unit_with_the_largest_bias_forgets_e_fold_in_t_max_steps():
    """(1 − 1/T_max)^T_max ≈ e⁻¹ (Tallec & Ollivier 2018)."""
    forget = torch.sigmoid(torch.tensor(1999.0, dtype=torch.float64).log())
    assert float(forget**2000) == pytest.approx(0.3678, abs=2e-4)


def test_a_range_must_not_be_empty():
    check_chrono(None)
    check_chrono(2)
    with pytest.raises(ValueError, match=r"cell\.chrono=1 leaves no time to remember: give .* at least 2, or null"):
        check_chrono(1)
