"""The verdict on a run: on which side of which threshold."""

import math

import pytest

from gradflow.runs.diagnosis import CHANCE_ERRORS, EXPLODING, VANISHING, diagnose

# three standard errors of a guess among ten, on 360 examples
CHANCE = 0.1 + 3 * math.sqrt(0.1 * 0.9 / 360)


def result(ratio=1.0, accuracy=0.9, zero_steps=0, diverged_at=None, steps=100):
    metrics = {} if accuracy is None else {"test/accuracy": accuracy}
    gradient = {"ratio": ratio, "steps": steps, "zero_steps": zero_steps, "nonfinite_steps": 0}
    return {
        **{"metrics": metrics, "gradient": gradient if steps else None},
        **{
            "metric": "test/accuracy",
            "larger_is_better": True,
            "chance": 0.1,
            "chance_error": math.sqrt(0.1 * 0.9 / 360),
        },
        "diverged_at": diverged_at,
    }


def regression(mse):
    return result(accuracy=None) | {
        **{"metrics": {"test/mse": mse}, "metric": "test/mse", "larger_is_better": False},
        **{"chance": 1.0, "chance_error": math.sqrt(2 / 20_480)},
    }


@pytest.mark.parametrize(
    ("given", "verdict", "signs"),
    [
        ({}, "healthy", []),
        ({"ratio": 1e-3}, "healthy", []),
        ({"ratio": 0.99e-3}, "vanishing", [("vanishing", 0.99e-3, VANISHING)]),
        ({"ratio": 1e3}, "healthy", []),
        ({"ratio": 1.01e3}, "exploding", [("exploding", 1.01e3, EXPLODING)]),
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
    said, found = diagnose(result(**given))
    assert said == verdict
    assert [(sign.verdict, sign.value, sign.threshold) for sign in found] == [
        (name, value, pytest.approx(threshold)) for name, value, threshold in signs
    ]


def test_a_guesser_is_called_stagnant_and_a_learner_is_not():
    assert CHANCE_ERRORS == 3
    assert [diagnose(result(accuracy=a))[0] for a in (0.09, 0.1, 0.12, 0.2, 1.0)] == [
        *["stagnant"] * 3,
        *["healthy"] * 2,
    ]


# --- regression -----------------------------------------------------------------------------------------------


def test_a_regression_no_better_than_the_mean_by_three_standard_errors_is_stagnant():
    """1 − 3 √(2 / (2048 · 10)): below it something was learned, above it, and far above, nothing."""
    threshold = 1 - 3 * math.sqrt(2 / 20_480)
    for mse, verdict in ((0.0, "healthy"), (threshold - 1e-9, "healthy"), (threshold + 1e-9, "stagnant")):
        assert diagnose(regression(mse))[0] == verdict
    for mse in (1.0, 50.0):
        said, (sign,) = diagnose(regression(mse))
        assert (said, sign.what, sign.value) == ("stagnant", "test mse", mse)
        assert sign.threshold == pytest.approx(threshold, rel=1e-12)


def test_a_task_whose_chance_has_no_known_error_is_never_called_stagnant():
    given = regression(1e9) | {"chance_error": None}
    assert diagnose(given) == ("healthy", [])


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.9, "gradient-free"), (0.1, "stagnant")])
def test_a_run_without_a_gradient_through_time_is_told_so_unless_it_learned_nothing(accuracy, verdict):
    given = result(accuracy=accuracy, steps=0) | {"no_gradient": "the reservoir is not trained"}
    assert diagnose(given)[0] == verdict
