"""The shape of a loss, on curves whose shape is known."""

import numpy as np
import pytest

from gradflow.diagnosis.loss_curve import FEWEST, loss_curve, running_median

STEPS = np.arange(0, 1000, 10)


def noise(scale, seed=0):
    return scale * np.random.default_rng(seed).normal(size=len(STEPS))


def test_an_exponential_fall_has_made_95_percent_of_itself_after_three_time_constants():
    curve = loss_curve(STEPS, 0.1 + 2.2 * np.exp(-STEPS / 100))
    assert curve.stagnates_at == pytest.approx(100 * np.log(20), abs=10)
    assert curve.stops_after == pytest.approx(0.3, abs=0.01)
    assert curve.falls == pytest.approx(2.2 / 2.3, abs=1e-3)
    assert curve.irregularity == 0
    assert curve.spikes == ()


def test_noise_moves_none_of_this_by_much():
    clean, noisy = (loss_curve(STEPS, 0.5 + 2 * np.exp(-STEPS / 100) + noise(scale)) for scale in (0, 0.02))
    assert noisy.falls == pytest.approx(clean.falls, abs=0.02)
    assert abs(noisy.stagnates_at - clean.stagnates_at) <= 100
    assert noisy.irregularity < 0.05
    assert noisy.spikes == ()


def test_a_flat_loss_falls_by_nothing_is_one_plateau_and_goes_up_as_much_as_down():
    curve = loss_curve(STEPS, 2.3 + noise(0.02))
    assert abs(curve.falls) < 0.02
    assert curve.plateau_length == pytest.approx(990, abs=20)
    assert curve.irregularity == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("drop", [300, 700])
def test_a_plateau_and_a_drop(drop):
    curve = loss_curve(STEPS, np.where(drop > STEPS, 2.3, 0.3) + noise(0.005))
    length = max(drop, 1000 - drop) - 10
    assert curve.plateau_length == pytest.approx(length, abs=20)
    assert curve.plateau_from == pytest.approx(0 if drop > 500 else drop, abs=20)
    assert curve.stagnates_at == pytest.approx(drop, abs=10)
    assert curve.falls == pytest.approx(2 / 2.3, abs=0.01)


def test_spikes_are_counted_with_their_height_and_move_nothing_else():
    calm = 0.2 + 2 * np.exp(-STEPS / 300)
    shaken = calm.copy()
    shaken[30], shaken[31], shaken[70] = 4 * calm[30], 3 * calm[31], 9 * calm[70]
    shaken[90] = 2 * calm[90]  # a hard batch
    curve = loss_curve(STEPS, shaken)
    assert [spike.step for spike in curve.spikes] == [300, 700]
    assert [spike.times for spike in curve.spikes] == pytest.approx([4, 9], rel=0.15)
    assert curve.falls == loss_curve(STEPS, calm).falls
    assert curve.stagnates_at == pytest.approx(loss_curve(STEPS, calm).stagnates_at, abs=30)


def test_the_higher_half_of_a_noisy_loss_is_no_spike():
    for seed in range(20):
        assert loss_curve(STEPS, 2.3 + noise(0.3, seed)).spikes == ()


def test_a_sawtooth_is_irregular_and_a_rise_entirely_so():
    teeth = loss_curve(STEPS, 1 - (STEPS % 250) / 500)
    assert 0.35 < teeth.irregularity < 0.5
    rise = loss_curve(STEPS, 1 + STEPS / 1000)
    assert (rise.irregularity, rise.stagnates_at) == (1, 0)
    assert rise.falls < -0.9


def test_what_cannot_be_told_or_is_wrong():
    assert loss_curve(range(FEWEST - 1), [1.0] * (FEWEST - 1)) is None
    assert loss_curve(range(6), [1.0, np.nan, np.inf, 1.0, 1.0, 1.0]) is None
    with pytest.raises(ValueError, match="one per step"):
        loss_curve([0, 1], [1.0])
    with pytest.raises(ValueError, match="must rise"):
        loss_curve([0, 0, 1], [1.0, 2.0, 3.0])


def test_a_curve_of_a_million_steps_is_that_of_its_intervals():
    steps = np.arange(300_000)
    curve = loss_curve(steps, 0.1 + 2.2 * np.exp(-steps / 30_000))
    assert curve.stagnates_at == pytest.approx(30_000 * np.log(20), rel=0.02)
    assert curve.falls == pytest.approx(2.2 / 2.3, rel=0.01)


@pytest.mark.parametrize("width", [3, 4, 9])
def test_the_running_median_is_numpys_over_a_window_that_stays_symmetric(width):
    values, half = np.random.default_rng(1).normal(size=30), width // 2
    found = running_median(values, width)
    for i in range(30):
        reach = min(half, i, 29 - i)
        assert found[i] == np.median(values[i - reach : i + reach + 1])
