"""Two real processes (gloo), under DDP or with every tensor sharded, see what one sees with the same global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import two_processes_watching
from watched import Numbers, batches, network, numbers
from watched import train as train_one

from gradflow.instruments.names import PRESETS

# Of the whole gradient, weights or loss, or sums over examples: they are those of one process.
EXACT = (
    *("grad_norm", "grad_rms", "grad_max", "delta_norm", "grad_histogram", "update_ratio"),
    *("weight_norm", "weight_change", "weight_near_zero", "loss", "slope", "slope_chain"),
    *("activation_mean", "activation_variance", "activation_saturated", "activation_dead"),
    *("gradient_cosine", "gradient_rank"),
)
# Of pairs of examples, or of single ones, within a process: the mean over processes.
OF_A_PROCESS = ("gradient_correlation", "effective_rank", "output_cosine", "jacobian_s_max", "jacobian_s2_mean")
# Documented as unsupported where processes hold shares of every tensor.
NOT_SHARDED = ("jacobian_", "gradient_rank")

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def alone() -> Results:
    return two_processes_watching.everything()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, in_two_processes: Callable[..., list[Results]]) -> list[Results]:
    """The results of rank 0 and of rank 1."""
    return in_two_processes(two_processes_watching.__file__, tmp_path_factory.mktemp("pair"), 200)


def of(found: Numbers, words: tuple[str, ...], without: tuple[str, ...] = ()) -> Numbers:
    return {
        key: value
        for key, value in found.items()
        if key[2].split("/")[0] in words and not (without and key[2].startswith(without))
    }


WAYS = [("ddp", "whole"), ("ddp_accumulated", "accumulated"), ("fsdp", "whole"), ("fsdp_accumulated", "accumulated")]


@pytest.mark.parametrize(("way", "reference"), WAYS)
def test_numbers_of_all_processes_together(alone, pair, way, reference):
    """Block by block, step by step."""
    expected = of(alone[reference]["rows"], EXACT, NOT_SHARDED if way.startswith("fsdp") else ())
    assert of(pair[0][way]["rows"], EXACT) == pytest.approx(expected, rel=1e-10, abs=1e-14)
    assert {key[0] for key in expected} == set(range(6 if reference == "whole" else 3))
    assert len(expected) > (400 if reference == "whole" else 200)


@pytest.mark.parametrize("way", [way for way, _ in WAYS])
def test_both_processes_report_the_same(pair, way):
    assert pair[0][way]["rows"] == pytest.approx(pair[1][way]["rows"], rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_numbers_that_are_means_over_processes(pair, way):
    """At step 0, at which each process alone would see the same weights: the mean of what each half's run says."""
    ((x, y),) = batches(1, two_processes_watching.GLOBAL_BATCH)
    halves = [numbers(train_one(network(), PRESETS["full"], [(x[r::2], y[r::2])])) for r in range(2)]
    without = NOT_SHARDED if way == "fsdp" else ()
    expected = {key: (value + halves[1][key]) / 2 for key, value in of(halves[0], OF_A_PROCESS, without).items()}
    found = {key: value for key, value in of(pair[0][way]["rows"], OF_A_PROCESS).items() if key[0] == 0}
    assert found == pytest.approx(expected, rel=1e-10)
    assert len(expected) >= 5


def test_twins_say_what_one_says(alone, pair):
    """Two processes with the same examples: means are those of one; sums of squares over twice as many are not."""
    expected, found = alone["whole"]["rows"], pair[0]["ddp_twins"]["rows"]
    different = ("delta_norm", "gradient_snr")
    skipped = ("jacobian_condition", *different)

    def rest(every: Numbers) -> Numbers:
        return {key: value for key, value in every.items() if key[2] not in skipped}

    assert rest(found) == pytest.approx(rest(expected), rel=1e-9, abs=1e-12)
    for key, value in of(expected, ("delta_norm",)).items():
        assert found[key] == pytest.approx(value / 2**0.5, rel=1e-10)


@pytest.mark.parametrize(("way", "reference"), WAYS)
def test_a_checkpoint_holds_the_initial_weights_whole(alone, pair, way, reference):
    """Under FSDP2 as without it: given back to the instrument it goes on with the change since initialisation."""
    expected = alone[reference]["restart"]
    for rank in range(2):
        assert pair[rank][way]["restart"] == pytest.approx(expected, rel=1e-10, abs=1e-14)
    assert expected[6, "all", "weight_change"] > 0.1
