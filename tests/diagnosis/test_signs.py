"""Signs of weights, units, time and learning: each with its number and place, and silent where nothing is wrong."""

import math

import made_of_rows as rows
import numpy as np
import pytest

from gradflow.diagnosis.evidence import Evidence, from_rows


def test_late_blocks_are_updated_and_early_ones_hardly():
    (sign,) = rows.sign("update_ratio", rows.of_blocks("update_ratio", [[1e-6, 1e-4, 1e-3]] * 5))
    assert (sign.verdict, sign.value, sign.where) == ("vanishing", 1e-3, "blocks.00 ÷ blocks.02")
    assert rows.sign("update_ratio", rows.of_blocks("update_ratio", [[2e-4, 1e-3, 1e-3]] * 5)) == []
    assert rows.sign("update_ratio", rows.of_blocks("update_ratio", [[0.0, 1e-3]] * 5))[0].value == 0


def test_late_weights_have_changed_a_lot_and_early_ones_barely():
    changed = np.outer(np.linspace(0, 1, 6), [1e-4, 0.1, 0.5])
    (sign,) = rows.sign("weight_change", rows.of_blocks("weight_change", changed))
    assert sign.value == pytest.approx(2e-4)
    assert (
        rows.sign("weight_change", rows.of_blocks("weight_change", changed / 100)) == []
    )  # nothing has changed anywhere
    assert rows.sign("weight_change", rows.of_blocks("weight_change", np.outer(np.arange(6), [0.1, 0.5]))) == []


@pytest.mark.parametrize(("end", "verdict"), [(0.05, "vanishing"), (0.5, None), (5.0, None), (20.0, "exploding")])
def test_weights_that_collapse_or_grow(end, verdict):
    norms = np.linspace([8.0, 8.0], [8.0, 8.0 * end], 6)
    found = rows.sign("weight_norm", rows.of_blocks("weight_norm", norms))
    assert [(s.verdict, s.value, s.where) for s in found] == (
        [(verdict, pytest.approx(end), "blocks.01")] if verdict else []
    )


def test_weights_near_zero_that_were_not():
    (sign,) = rows.sign(
        "weights_near_zero", rows.of_blocks("weight_near_zero", np.linspace([0.0, 0.0], [0.5, 0.95], 6))
    )
    assert (sign.verdict, sign.value, sign.where) == ("vanishing", 0.95, "blocks.01")
    sparse = rows.of_blocks("weight_near_zero", [[0.95, 0.95]] * 6)  # as initialised
    assert rows.sign("weights_near_zero", sparse) == []


# --- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "units", "block"), [(0.3, [], []), (0.6, [(0.6, "blocks.01")], []), (0.95, [], [(0.95, "blocks.01")])]
)
def test_dead_units_and_a_dead_block(share, units, block):
    dead = rows.of_blocks("activation_dead", [[0.1, 0.0]] * 3 + [[0.1, share]] * 3)
    for name, expected in (("units_dead", units), ("block_dead", block)):
        assert [(s.value, s.where) for s in rows.sign(name, dead)] == expected


def test_units_that_are_saturated_late_in_training():
    late = rows.of_blocks("activation_saturated", [[0.0, 0.0]] * 4 + [[0.2, 0.9]] * 4)
    (sign,) = rows.sign("units_saturated", late)
    assert (sign.verdict, sign.value, sign.where) == ("saturated", 0.9, "blocks.01")
    early = rows.of_blocks("activation_saturated", [[0.2, 0.9]] * 4 + [[0.0, 0.0]] * 4)
    assert rows.sign("units_saturated", early) == []
    assert rows.sign("units_saturated", rows.of_blocks("grad_norm", [[1.0]])) is None


def test_outputs_in_one_direction():
    (sign,) = rows.sign("outputs_alike", rows.of_blocks("output_cosine", [[0.5, 0.9, 0.999]] * 4))
    assert (sign.verdict, sign.value, sign.where) == ("rank_collapse", 0.999, "blocks.02")
    assert rows.sign("outputs_alike", rows.of_blocks("output_cosine", [[0.999, 0.999, 0.7]] * 4)) == []
    (sign,) = rows.sign("rank_low", rows.of_blocks("effective_rank", [[20.0, 1.1]] * 4))
    assert (sign.value, sign.where) == (1.1, "blocks.01")
    assert rows.sign("rank_low", rows.of_blocks("effective_rank", [[1.1, 8.0]] * 4)) == []


# --- time -----------------------------------------------------------------------------------------------------------


def sequence(curves, *, name="cell", step=100, **numbers):
    """Rows of a probe: norms by part of the state over time, and numbers without a time."""
    told = [
        {"step": step, "block": 0, "name": name, "time": t, "quantity": f"time_grad_{part}", "value": float(v)}
        for part, curve in curves.items()
        for t, v in enumerate(curve)
    ]
    plain = {"step": step, "block": 0, "name": name, "time": None}
    return told + [{**plain, "quantity": quantity, "value": value} for quantity, value in numbers.items()]


def test_a_memory_of_29_of_784_steps():
    fading = np.exp(-np.arange(783, -1, -1) * math.log(100) / 29)
    probe = sequence({"h": fading}, **{"memory_horizon_1%": 29.0, "time_decay": -0.159, "time_decay_high": -0.15})
    (sign,) = rows.sign("memory_horizon", probe)
    assert (sign.verdict, sign.value) == ("vanishing", pytest.approx(29 / 784))
    assert sign.where == "cell, 29.0 steps back, step 100"
    assert "784 time steps" in sign.what
    (sign,) = rows.sign("time_ratio", probe)
    assert (sign.verdict, sign.value) == ("vanishing", pytest.approx(math.exp(-783 * math.log(100) / 29)))
    (sign,) = rows.sign("time_decay", probe)
    assert (sign.value, sign.threshold) == (-0.159, pytest.approx(math.log(1e-3) / 784))


def test_the_part_and_the_layer_that_reach_furthest_count():
    fading, steady = np.geomspace(1e-9, 1, 50), np.full(50, 0.3)
    cell = sequence({"h": fading, "c": steady}, **{"memory_horizon_1%": 50.0})
    other = sequence({"h": fading}, name="above", **{"memory_horizon_1%": 2.0})
    for name in ("memory_horizon", "time_ratio"):
        assert rows.sign(name, cell + other) == []
        assert len(rows.sign(name, other)) == 1


def test_the_last_probe_counts_and_a_backward_layer_is_read_backwards():
    fading = np.geomspace(1e-9, 1, 50)
    first = sequence({"h": fading}, step=0, **{"memory_horizon_1%": 2.0})
    last = sequence({"h": np.ones(50)}, step=100, **{"memory_horizon_1%": 50.0})
    assert rows.sign("memory_horizon", first + last) == []
    assert rows.sign("time_ratio", first + last) == []
    backward = sequence({"h": fading[::-1]}, name="cell.backward")
    assert rows.sign("time_ratio", backward)[0].value == pytest.approx(1e-9)


def test_an_explosion_through_time_and_chaos():
    probe = sequence({"h": np.geomspace(1e6, 1, 50)}, lyapunov_1=0.3, jacobian_decay=0.28, jacobian_decay_low=0.2)
    for name, value in (("time_ratio", 1e6), ("lyapunov", 0.3), ("time_decay", 0.28)):
        (sign,) = rows.sign(name, probe)
        assert (sign.verdict, sign.value) == ("exploding", pytest.approx(value))
    unsure = sequence({"h": np.ones(50)}, lyapunov_1=0.01, time_decay=0.28, time_decay_low=-0.1)
    assert [rows.sign(name, unsure) for name in ("time_ratio", "lyapunov", "time_decay")] == [[], [], []]
    assert rows.sign("time_ratio", rows.of_blocks("grad_norm", [[1.0]])) is None


# --- learning -------------------------------------------------------------------------------------------------------

STEPS = np.arange(0, 500, 10)


def losses(values):
    return Evidence(loss=(STEPS, np.asarray(values, dtype=float)))


def test_a_loss_that_never_falls_or_stops_early_or_does_neither():
    noise = 0.01 * np.random.default_rng(0).normal(size=50)
    flat, early, good = 2.3 + noise, 2.1 + 0.8 * np.exp(-STEPS / 20) + noise, 0.1 + 2.2 * np.exp(-STEPS / 20) + noise
    (sign,) = rows.sign("loss_never_falls", losses(flat))
    assert sign.verdict == "stagnant"
    assert abs(sign.value) < 0.02
    assert rows.sign("loss_stops_early", losses(flat)) == []
    (sign,) = rows.sign("loss_stops_early", losses(early))
    assert sign.value == pytest.approx(60 / 490, abs=0.05)
    assert "by 27 %" in sign.what  # 0.8 of 2.9, and the noise
    for name in ("loss_never_falls", "loss_stops_early", "loss_irregular", "loss_spike"):
        assert rows.sign(name, losses(good)) == []
        assert rows.sign(name, Evidence()) is None


def test_an_irregular_learning_curve_and_a_spike():
    (sign,) = rows.sign("loss_irregular", losses(2 + 0.3 * np.sin(STEPS / 40)))
    assert sign.verdict == "vanishing"
    assert sign.value == pytest.approx(0.5, abs=0.1)
    spiked = 1 + np.exp(-STEPS / 100)
    spiked[20] = 9.0
    (sign,) = rows.sign("loss_spike", losses(spiked))
    assert (sign.verdict, sign.where) == ("exploding", "step 200")
    assert sign.value == pytest.approx(9 / spiked[[18, 19, 21, 22]].mean(), rel=0.05)


def test_a_loss_that_stops_being_finite():
    (sign,) = rows.sign("loss_nonfinite", Evidence(diverged_at=7))
    assert (sign.verdict, sign.value, sign.where) == ("diverged", 7, "step 7")
    (sign,) = rows.sign("loss_nonfinite", from_rows([], losses=[1.0, 2.0, math.nan]))
    assert sign.value == 2
    assert rows.sign("loss_nonfinite", Evidence()) == []


@pytest.mark.parametrize(("figure", "better", "fires"), [(0.2, True, False), (0.11, True, True), (0.2, False, True)])
def test_a_figure_at_chance(figure, better, fires):
    known = {"chance": 0.1, "chance_error": 0.01, "metric": "test/accuracy"}
    found = rows.sign("metric_at_chance", Evidence(figure=figure, larger_is_better=better, **known))
    threshold = pytest.approx(0.13 if better else 0.07)
    assert [(s.what, s.value, s.threshold) for s in found] == ([("test accuracy", figure, threshold)] if fires else [])
    assert rows.sign("metric_at_chance", Evidence(figure=figure)) is None
