"""Which of the signs decides."""

import math
from dataclasses import replace

import made_of_rows as rows
import numpy as np
import pytest

from gradflow.diagnosis.evidence import Evidence, from_rows
from gradflow.diagnosis.sign import Sign
from gradflow.diagnosis.signs import CHECKS
from gradflow.diagnosis.thresholds import thresholds
from gradflow.diagnosis.verdict import AT_ONCE, IF_IT_SUFFERS, diagnose
from gradflow.diagnosis.verdicts import VERDICTS

ERROR = math.sqrt(0.1 * 0.9 / 360)
CHANCE = 0.1 + 3 * ERROR  # three standard errors of a guess among ten, on 360 examples


def summary(ratio=1.0, accuracy=0.9, zero_steps=0, diverged_at=None, steps=100):
    return Evidence(
        gradient={"ratio": ratio, "steps": steps, "zero_steps": zero_steps} if steps else None,
        metric="test/accuracy",
        figure=accuracy,
        chance=0.1,
        chance_error=ERROR,
        diverged_at=diverged_at,
    )


@pytest.mark.parametrize(
    ("given", "verdict", "signs"),
    [
        ({}, "healthy", []),
        ({"ratio": 1e-3}, "healthy", []),
        ({"ratio": 0.99e-3}, "vanishing", [("vanishing", 0.99e-3, 1e-3)]),
        ({"ratio": 1e3}, "healthy", []),
        ({"ratio": 1.01e3}, "exploding", [("exploding", 1.01e3, 1e3)]),
        ({"accuracy": CHANCE + 1e-9}, "healthy", []),
        ({"accuracy": CHANCE - 1e-9}, "stagnant", [("stagnant", CHANCE - 1e-9, CHANCE)]),
        ({"zero_steps": 50}, "healthy", []),
        ({"zero_steps": 51}, "dead", [("dead", 0.51, 0.5)]),
        ({"zero_steps": 100, "ratio": 0.0, "accuracy": 0.1}, "dead", [("dead", 1.0, 0.5), ("stagnant", 0.1, CHANCE)]),
        ({"ratio": 1e-9, "accuracy": 0.1}, "vanishing", [("vanishing", 1e-9, 1e-3), ("stagnant", 0.1, CHANCE)]),
        ({"diverged_at": 0, "accuracy": None}, "diverged", [("diverged", 0, 0)]),
        ({"diverged_at": 7, "accuracy": None, "ratio": 1e9}, "diverged", [("diverged", 7, 0), ("exploding", 1e9, 1e3)]),
        ({"ratio": None}, "healthy", []),
        ({"steps": 0}, "unwatched", []),
        ({"steps": 0, "accuracy": 0.1}, "unwatched", [("stagnant", 0.1, CHANCE)]),
        ({"steps": 0, "diverged_at": 3, "accuracy": None}, "diverged", [("diverged", 3, 0)]),
    ],
    ids=str,
)
def test_the_verdict_and_the_signs_behind_it(given, verdict, signs):
    found = diagnose(summary(**given))
    assert found.verdict == verdict
    assert [(sign.verdict, sign.value, sign.threshold) for sign in found.signs] == [
        (name, value, pytest.approx(threshold)) for name, value, threshold in signs
    ]


def test_a_guesser_is_called_stagnant_and_a_learner_is_not():
    assert [diagnose(summary(accuracy=a)).verdict for a in (0.09, 0.1, 0.12, 0.2, 1.0)] == [
        *["stagnant"] * 3,
        *["healthy"] * 2,
    ]


def test_a_regression_no_better_than_the_mean_by_three_standard_errors_is_stagnant():
    """1 − 3 √(2 / (2048 · 10)): below it something was learned, above it, and far above, nothing."""
    error = math.sqrt(2 / 20_480)
    task = replace(summary(), metric="test/mse", chance=1.0, chance_error=error, larger_is_better=False)
    for mse, verdict in ((0.0, "healthy"), (1 - 3 * error - 1e-9, "healthy"), (1 - 3 * error + 1e-9, "stagnant")):
        assert diagnose(replace(task, figure=mse)).verdict == verdict
    (sign,) = diagnose(replace(task, figure=50.0)).signs
    assert (sign.what, sign.value, sign.threshold) == ("test mse", 50.0, pytest.approx(1 - 3 * error))
    unknown = diagnose(replace(task, figure=1e9, chance_error=None))
    assert (unknown.verdict, unknown.signs) == ("healthy", ())


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.9, "gradient-free"), (0.1, "stagnant")])
def test_a_run_without_a_gradient_through_time_is_told_so_unless_it_learned_nothing(accuracy, verdict):
    given = replace(summary(accuracy=accuracy, steps=0), no_gradient="the reservoir is not trained")
    assert diagnose(given).verdict == verdict


# --- precedence -----------------------------------------------------------------------------------------------------


def blocks(**quantities):
    return [row for name, values in quantities.items() for row in rows.of_blocks(name, [values] * 8)]


def judge(evidence_rows, accuracy=0.1, **known):
    return diagnose(from_rows(evidence_rows, figure=accuracy, chance=0.1, chance_error=ERROR, **known))


def test_a_saturated_network_whose_gradient_vanished_is_vanishing_and_its_saturation_is_listed():
    found = judge(blocks(grad_norm=[1e-9, 1e-4, 1.0], activation_saturated=[0.9, 0.9, 0.9]))
    assert found.verdict == "vanishing"
    assert found.decisive.name == "gradient_ratio"
    assert [sign.name for sign in found.signs] == [
        "gradient_ratio",
        "gradient_tiny",
        "units_saturated",
        "metric_at_chance",
    ]


STATES = [
    ("saturated", {"activation_saturated": [0.9, 0.9]}),
    ("rank_collapse", {"output_cosine": [0.9, 0.999]}),
    ("rank_collapse", {"effective_rank": [3.0, 1.05]}),
    ("dead", {"activation_dead": [0.0, 0.95]}),
]


@pytest.mark.parametrize(("verdict", "state"), STATES, ids=str)
def test_a_state_is_the_verdict_where_the_network_suffers_from_it_and_a_sign_where_not(verdict, state):
    given = blocks(grad_norm=[1.0, 1.0], **state)
    assert judge(given).verdict == verdict
    learned = judge(given, accuracy=0.9)
    assert learned.verdict == "healthy"
    assert [sign.verdict for sign in learned.signs] == [verdict]
    assert learned.decisive is None
    assert diagnose(from_rows(given)).verdict == verdict  # a stranger's: nothing is known of what it learned


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        ({"accuracy": 0.54}, "saturated"),  # less than half of the way from 0.1 to 1
        ({"accuracy": 0.56}, "healthy"),
        ({"accuracy": 0.9, "solved": False}, "saturated"),
        ({"accuracy": 0.3, "solved": True}, "healthy"),
        ({"accuracy": 0.9, "losses": [2.3] * 40}, "saturated"),
        ({"accuracy": None, "losses": [2.9, 2.4, 2.3, *[2.2] * 40]}, "saturated"),
        ({"accuracy": None, "losses": np.geomspace(2.3, 0.1, 43)}, "healthy"),
    ],
    ids=str,
)
def test_when_a_network_suffers(known, verdict):
    given = blocks(grad_norm=[1.0, 1.0], activation_saturated=[0.9, 0.9])
    assert judge(given, **known).verdict == verdict


def test_a_gradient_that_must_be_clipped_away_is_exploding_whatever_it_learned():
    before, after = rows.of_all("grad_norm", [1e6] * 8), rows.of_all("grad_norm_clipped", [1.0] * 8)
    given = blocks(grad_norm=[1.0, 1.0]) + before
    assert judge(given, accuracy=0.9).verdict == "healthy"  # large, in a unit that nobody knows
    assert judge(given, accuracy=0.2).verdict == "exploding"
    assert judge(given + after, accuracy=0.9).decisive.name == "gradient_clipped"


def test_the_order_of_all_that_can_decide():
    given = blocks(
        grad_norm=[1.0, 1.0],
        activation_dead=[0.0, 0.95],
        activation_saturated=[0.9, 0.9],
        output_cosine=[0.9, 0.999],
    )
    huge = rows.of_all("grad_norm", [1e6] * 8)
    assert judge(given + huge).verdict == "dead"
    assert judge(given + huge, diverged_at=3).verdict == "diverged"
    without = [row for row in given if row["quantity"] != "activation_dead"]
    assert judge(without + huge).verdict == "exploding"
    assert judge(without).verdict == "saturated"
    assert judge([row for row in without if row["quantity"] != "activation_saturated"]).verdict == "rank_collapse"


def test_an_underflow_is_vanishing_and_dead_units_are_dead():
    assert judge(blocks(grad_norm=[0.0, 0.0, 1e-42, 1e-20, 1.0])).verdict == "vanishing"
    assert judge(blocks(grad_norm=[0.0, 0.0, 0.3, 0.5, 1.0])).verdict == "dead"


def test_a_short_memory_is_vanishing_where_the_task_needed_it():
    norms = np.geomspace(1e-9, 1, 100)
    plain = {"step": 0, "block": 0, "name": "rnn"}
    probe = [{**plain, "time": t, "quantity": "time_grad_h", "value": v} for t, v in enumerate(norms)]
    probe += [{**plain, "time": None, "quantity": "memory_horizon_1%", "value": 6.6}]
    probe += rows.of_blocks("grad_norm", [[1.0]] * 5)
    assert judge(probe).verdict == "vanishing"
    assert judge(probe).decisive.name == "memory_horizon"
    assert judge(probe, accuracy=0.9).verdict == "healthy"


def test_without_a_figure_a_loss_that_never_falls_is_stagnant():
    given = blocks(grad_norm=[1.0, 1.0])
    flat = 2.3 + 0.01 * np.random.default_rng(0).normal(size=40)
    assert diagnose(from_rows(given, losses=flat)).verdict == "stagnant"
    assert judge(given, accuracy=0.9, losses=flat).verdict == "healthy"


# --- what is told ---------------------------------------------------------------------------------------------------


def test_every_check_is_accounted_for():
    found = judge(blocks(grad_norm=[1e-9, 1.0]), losses=np.geomspace(2, 0.1, 20))
    named = {sign.name for sign in found.signs}
    assert named | set(found.clear) | set(found.unmeasured) == set(CHECKS)
    assert not named & set(found.clear)
    assert "units_saturated" in found.unmeasured
    assert "loss_spike" in found.clear


def test_it_prints_as_a_report():
    text = repr(judge(blocks(grad_norm=[1e-9, 1.0])))
    first, second, *_ = text.splitlines()
    assert first == "verdict: vanishing"
    assert second == ("  vanishing: gradient ratio first ÷ last block 1e-09, threshold 0.001 (blocks.00 ÷ blocks.01)")
    assert "signs were looked for and not found" in text


def test_other_thresholds_make_other_verdicts():
    given = summary(ratio=1e-4)
    assert diagnose(given).verdict == "vanishing"
    assert diagnose(given, replace(thresholds(), gradient_ratio_low=1e-5)).verdict == "healthy"


def test_a_value_that_json_cannot_hold_is_the_largest_that_it_can():
    assert Sign("exploding", "x", "y", math.inf, 1.0).value == pytest.approx(1.797e308, rel=1e-3)
    assert Sign("exploding", "x", "y", -math.inf, 1.0).value == pytest.approx(-1.797e308, rel=1e-3)


def test_what_can_decide_is_a_check_and_leads_to_a_verdict():
    for name, verdict in (*AT_ONCE, *IF_IT_SUFFERS):
        assert name in CHECKS
        assert verdict in VERDICTS


def test_a_vanished_signal_is_the_verdict_of_a_network_that_suffers_and_shows_no_cause():
    """The parameters' gradients of a convolution and of a head need not be far apart where ∂L/∂output is."""
    measured = [
        {"step": step, "block": i, "name": name, "quantity": quantity, "value": value}
        for step in range(0, 100, 10)
        for i, name in enumerate(("conv", "middle", "head"))
        for quantity, value in (("grad_norm", 1.0), ("delta_norm", (1e-5, 1e-3, 1.0)[i]))
    ]
    flat, falling = [2.3] * 100, [2.3 * 0.95**step for step in range(100)]
    assert diagnose(from_rows(measured, losses=flat)).verdict == "vanishing"
    assert diagnose(from_rows(measured, losses=falling)).verdict == "healthy"
    assert "vanishing" in {sign.verdict for sign in diagnose(from_rows(measured, losses=falling)).signs}
