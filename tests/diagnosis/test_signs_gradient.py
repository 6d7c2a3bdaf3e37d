"""Signs of the gradient through depth: each fires with its number and place, and is silent where nothing is wrong."""

import made_of_rows as rows
import numpy as np
import pytest

from gradflow.diagnosis.evidence import Evidence, from_rows

FLAT = np.ones((10, 4))


def falling(rate, steps=10, blocks=4):
    """Norms that fall by `rate` per block towards the input."""
    return np.tile(rate ** np.arange(blocks - 1, -1, -1.0), (steps, 1))


@pytest.mark.parametrize(
    ("rate", "verdict", "value"),
    [(0.01, "vanishing", 1e-6), (0.11, None, None), (9.0, None, None), (100.0, "exploding", 1e6)],
)
def test_the_ratio_of_the_first_to_the_last_block(rate, verdict, value):
    found = rows.sign("gradient_ratio", rows.of_blocks("grad_norm", falling(rate)))
    if verdict is None:
        assert found == []
    else:
        (sign,) = found
        assert (sign.verdict, sign.value, sign.where) == (verdict, value, "blocks.00 ÷ blocks.03")


def test_the_ratio_is_a_geometric_mean_so_that_one_bad_step_does_not_decide():
    norms = FLAT.copy()
    norms[0, 0] = 1e-12
    assert rows.sign("gradient_ratio", rows.of_blocks("grad_norm", norms)) == []
    norms[:4, 0] = 1e-12
    assert rows.sign("gradient_ratio", rows.of_blocks("grad_norm", norms))[0].value == pytest.approx(1e-12 ** (4 / 10))


def test_steps_without_a_gradient_of_both_ends_say_nothing_as_in_layer_wise_training():
    alone = [[1e-9, None, None], [None, 1.0, None], [None, None, 1.0]]
    together = [[0.5, 1.0, 1.0]] * 3
    assert rows.sign("gradient_ratio", rows.of_blocks("grad_norm", alone)) is None
    assert rows.sign("gradient_ratio", rows.of_blocks("grad_norm", alone + together)) == []
    assert not from_rows(rows.of_blocks("grad_norm", alone)).watched()
    assert from_rows(rows.of_blocks("grad_norm", alone + together)).watched()


def test_one_block_has_no_ratio_and_can_be_dead():
    assert rows.sign("gradient_ratio", rows.of_blocks("grad_norm", [[1.0]] * 5)) is None
    (sign,) = rows.sign("gradient_zero", rows.of_blocks("grad_norm", [[0.0]] * 5))
    assert (sign.verdict, sign.value, sign.where) == ("dead", 1.0, "blocks.00")


def test_a_record_without_rows_is_judged_by_its_summary():
    summary = Evidence(gradient={"ratio": 1e-9, "steps": 10, "zero_steps": 8})
    assert rows.sign("gradient_ratio", summary)[0].value == 1e-9
    assert rows.sign("gradient_zero", summary)[0].value == 0.8


# --- zero, and merely tiny ----------------------------------------------------------------------------------------


def test_zero_at_most_steps_is_dead_where_it_is_cut_off_at_once():
    norms = FLAT.copy()
    norms[5:, :2] = 0.0
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", norms))[0].value == pytest.approx(5 / 9)
    assert rows.sign("gradient_underflow", rows.of_blocks("grad_norm", norms)) == []
    norms[5] = 1.0  # 4 of the 9 steps after the first
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", norms)) == []


def test_zero_after_a_fall_is_an_underflow_of_a_vanishing_gradient():
    norms = np.tile([0.0, 0.0, 1e-44, 1e-20, 1.0], (10, 1))
    (sign,) = rows.sign("gradient_underflow", rows.of_blocks("grad_norm", norms))
    assert (sign.verdict, sign.value, sign.where) == ("vanishing", 1.0, "blocks.00")
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", norms)) == []


def test_zero_at_the_first_step_alone_is_fixups_way_to_begin():
    norms = FLAT.copy()
    norms[0, 0] = 0.0
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", norms)) == []
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", norms[:2])) == []
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", norms[:1])) is None  # nothing is known of later steps


def test_a_tiny_gradient_is_not_a_zero_one_and_a_converged_network_has_neither():
    tiny = np.tile([1e-9, 1e-5, 1e-1], (10, 1))
    (sign,) = rows.sign("gradient_tiny", rows.of_blocks("grad_norm", tiny))
    assert (sign.verdict, sign.value, sign.where) == ("vanishing", 1e-9, "blocks.00")
    assert rows.sign("gradient_zero", rows.of_blocks("grad_norm", tiny)) == []
    assert rows.sign("gradient_tiny", rows.of_blocks("grad_norm", np.full((10, 3), 1e-9))) == []
    assert rows.sign("gradient_tiny", rows.of_blocks("grad_norm", np.tile([0.0, 0.0, 1.0], (10, 1)))) == []


def test_subnormal_elements_are_told_apart_from_zeros_and_empty_bins_have_no_row():
    def histogram(subnormal, zero):
        counts = {"subnormal": subnormal, "zero": zero, "-140": [10, None], "-3": [None, 80]}
        return [row for name, n in counts.items() for row in rows.of_blocks(f"grad_histogram/{name}", [n] * 6)]

    (sign,) = rows.sign("gradient_subnormal", histogram([5, None], [85, 20]))
    assert (sign.value, sign.where) == (0.05, "blocks.00")
    assert rows.sign("gradient_subnormal", histogram([None, None], [90, 20])) == []
    once = [row for row in histogram([5, None], [85, 20]) if "subnormal" not in row["quantity"] or row["step"] == 50]
    assert rows.sign("gradient_subnormal", once) == []  # of the last three steps two have none
    assert rows.sign("gradient_subnormal", rows.of_blocks("grad_norm", FLAT)) is None


def test_an_infinite_gradient_is_told_with_its_first_step_and_block():
    norms = FLAT.copy()
    norms[3, 2] = norms[6, 0] = np.inf
    (sign,) = rows.sign("gradient_nonfinite", rows.of_blocks("grad_norm", norms))
    assert (sign.verdict, sign.value, sign.where) == ("diverged", 2, "first at step 30, blocks.02")
    assert rows.sign("gradient_nonfinite", rows.of_blocks("grad_norm", FLAT)) == []


# --- the chain ------------------------------------------------------------------------------------------------------


def test_the_back_propagated_signal():
    (sign,) = rows.sign("signal_ratio", rows.of_blocks("delta_norm", falling(0.05)))
    assert sign.value == pytest.approx(0.05**3)
    assert rows.sign("signal_ratio", rows.of_blocks("delta_norm", falling(0.5))) == []


def test_the_textbooks_chain_of_sigmoid_slopes():
    """0.15 · 0.11 · 0.06 · 0.11 · 0.21 = 2.2869e-5; a ReLU's halves are made good by its initialisation."""
    (sign,) = rows.sign("slope_chain", rows.of_blocks("slope", [[0.15, 0.11, 0.06, 0.11, 0.21]] * 4))
    assert sign.value == pytest.approx(2.2869e-5 ** (1 / 5))
    assert "2.3e-05" in sign.what
    assert rows.sign("slope_chain", rows.of_blocks("slope", [[0.5] * 30] * 4)) == []
    (sign,) = rows.sign("slope_chain", rows.of_blocks("slope", [[0.5, 0.0, 0.5]] * 4))
    assert sign.value == 0


@pytest.mark.parametrize(
    ("chi", "verdict", "product"), [(0.5, "vanishing", 0.5**15), (1.0, None, 1), (2.0, "exploding", 2**15)]
)
def test_the_product_of_jacobians(chi, verdict, product):
    found = rows.sign("jacobian_chain", rows.of_blocks("jacobian_s2_mean", [[chi] * 30] * 4))
    assert [(sign.verdict, sign.value) for sign in found] == ([(verdict, pytest.approx(product))] if verdict else [])


# --- explosion ------------------------------------------------------------------------------------------------------


def test_a_gradient_that_is_large_everywhere_alike_and_clipped_away():
    before, after = rows.of_all("grad_norm", [1e6] * 8), rows.of_all("grad_norm_clipped", [1.0] * 8)
    assert [sign.value for sign in rows.sign("gradient_huge", before)] == [1e6]
    (sign,) = rows.sign("gradient_clipped", before + after)
    assert (sign.verdict, sign.value, sign.where) == ("exploding", 1e-6, "8 logged steps")


def test_clipping_now_and_then_is_no_sign():
    before = rows.of_all("grad_norm", [0.5, 20.0] * 10)
    after = rows.of_all("grad_norm_clipped", [0.5, 1.0] * 10)
    assert rows.sign("gradient_huge", before) == []
    assert rows.sign("gradient_clipped", before + after) == []
    assert rows.sign("gradient_clipped", before) is None


def test_growth_over_training():
    (sign,) = rows.sign("gradient_growth", rows.of_all("grad_norm", np.geomspace(1, 1e4, 20)))
    assert sign.value == pytest.approx(1e4, rel=0.8)
    assert rows.sign("gradient_growth", rows.of_all("grad_norm", np.geomspace(1, 10, 20))) == []
    assert rows.sign("gradient_growth", rows.of_all("grad_norm", [1.0, 1e9])) is None


def test_a_spike_is_told_with_its_step():
    norms = np.ones(40)
    norms[12], norms[5] = 200.0, 100.0
    (sign,) = rows.sign("gradient_spike", rows.of_all("grad_norm", norms))
    assert (sign.verdict, sign.where) == ("exploding", "step 120")
    assert sign.value == pytest.approx(200 / ((38 + 100) / 39))
    assert "largest of 2 spikes" in sign.what
    assert rows.sign("gradient_spike", rows.of_all("grad_norm", np.minimum(norms, 5))) == []


def test_a_hard_batch_of_a_network_that_has_converged_is_no_spike():
    norms = np.geomspace(1, 1e-4, 40)
    norms[35] = 0.1  # hundreds of times its neighbours, a tenth of the first
    assert rows.sign("gradient_spike", rows.of_all("grad_norm", norms)) == []
