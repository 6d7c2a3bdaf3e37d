"""What a run records of the time axis, and that looking changes nothing."""

import json
import math
from pathlib import Path
from shutil import rmtree

import pyarrow.parquet as pq
import pytest
import torch

from gradflow.instruments.time_probe import TimeProbe
from gradflow.runs.build import build
from gradflow.runs.execute import execute
from gradflow.runs.identity import run_id
from gradflow.runs.stop import Stop

TASK = ("task=adding", "task.length=15", "task.batch_size=8", "task.val_size=50", "task.test_size=50")
RUN = (*TASK, "model=recurrent", "width=8", "trainer.max_steps=12", "trainer.val_every_n_steps=4", "optimizer=adam")


@pytest.fixture
def trained(configure):
    """Trains a config anew, whatever was watched before; its result and the rows of its gradflow.parquet."""

    def train(*overrides):
        config = configure(*RUN, *overrides)
        outcome = execute(config, [], Stop())
        assert outcome.state == "completed", outcome.error
        path = Path(config.paths.runs) / run_id(config)
        result = json.loads((path / "result.json").read_text())
        result["series"] = [row["value"] for row in pq.read_table(path / "metrics.parquet").to_pylist()]
        rows = pq.read_table(path / "gradflow.parquet").to_pylist()
        rmtree(path)
        return config, result, rows

    return train


def over_time(rows, quantity, step):
    return {row["time"]: row["value"] for row in rows if row["quantity"] == quantity and row["step"] == step}


def test_the_first_probe_is_that_of_the_network_as_initialised(trained):
    config, _, rows = trained("cell=lstm", "instruments.time_every_n_steps=5")
    assert sorted({row["step"] for row in rows if row["time"] is not None}) == [0, 5, 10, 12]
    pieces = build(config)
    x, y = pieces.task.load(Path(), config.seed, torch.device("cpu")).train(0)
    expected = TimeProbe(pieces.network, pieces.task.loss, ("time_grad", "forget_leak")).measure(0, x, y)
    for quantity in ("time_grad_h", "time_grad_h_q10", "time_grad_c", "forget_leak"):
        found = over_time(rows, quantity, 0)
        assert found == pytest.approx(over_time(expected, quantity, 0), rel=1e-5)
        assert sorted(found) == list(range(15))


def test_the_training_step_in_segments_sees_what_a_probe_of_its_batch_sees(trained):
    """All eight examples of a fixed set: by probes, and at every other step from the pass itself in segments of six."""
    eight = ("task.train_size=8", "instruments.every_n_steps=2")
    _, _, probed = trained(*eight, "instruments.time_every_n_steps=1")
    *_, rows = trained(*eight, "instruments.time_every_n_steps=4", "instruments.time_segments=6")
    for step in (2, 6, 10):
        found, exact = over_time(rows, "time_grad_h", step), over_time(probed, "time_grad_h", step)
        assert sorted(found) == [5, 11, 14]
        assert found == pytest.approx({time: exact[time] for time in found}, rel=1e-4)
    assert len(over_time(rows, "time_grad_h", 4)) == 15


@pytest.mark.parametrize("extra", [[], ["model.zoneout=0.2", "dropout=0.3", "norm=batch"]], ids=["plain", "drawing"])
def test_looking_changes_nothing(trained, extra):
    _, watched, rows = trained("cell=gru", *extra, "instruments=time", "instruments.time_every_n_steps=3")
    _, alone, none = trained("cell=gru", *extra, "instruments=none")
    assert watched["series"] == pytest.approx(alone["series"], rel=1e-5)
    assert rows
    assert none == []
    assert alone["time"] is None


def test_a_probe_is_not_taken_for_the_training_step(trained):
    """What other instruments measure at a step is the same whether the time axis is probed before it or not."""
    measured = "cell=rnn", "instruments.every_n_steps=3", "instruments.measure=[grad_norm,delta_norm,activation_stats]"
    _, _, probed = trained(*measured, "instruments.time_every_n_steps=3")
    _, _, alone = trained(*measured, "instruments.time_every_n_steps=null")
    rest = [row for row in probed if row["quantity"] in {row["quantity"] for row in alone}]
    assert len(rest) > 20
    assert [row["value"] for row in rest] == pytest.approx([row["value"] for row in alone], rel=1e-5)


def test_the_result_says_how_far_the_gradient_reaches_and_when_the_task_was_solved(trained):
    _, result, _ = trained("cell=rnn", "recurrent_init=spectral_radius", "recurrent_init.radius=0.2")
    assert result["solved"] == {"criterion": "mse ≤ 0.05", "step": None}
    assert result["chance"] == pytest.approx(1 / 6)
    assert (result["time"]["first"]["step"], result["time"]["last"]["step"]) == (0, 12)
    assert 1 < result["time"]["first"]["memory_horizon_1%"] < 8  # 0.2³ is 0.8 %
    assert result["time"]["first"]["time_decay"] < -1
    _, kept, _ = trained("cell=irnn")
    assert kept["time"]["first"]["memory_horizon_1%"] is None  # it never fell


def test_a_reservoir_says_that_no_gradient_flows(trained):
    _, result, rows = trained("model=esn", "width=20")
    assert result["no_gradient"] == "the reservoir is not trained: no gradient flows through time"
    assert result["gradient"] is None
    assert result["time"] is None
    assert not [row for row in rows if row["time"] is not None]


def test_a_task_that_is_solved_says_at_which_validation(trained):
    """A bit that shows for the first three of six steps; criteria are judged on the validation split."""
    _, result, _ = trained(
        *("task=latch", "task.length=6", "cell=gru", "optimizer.lr=0.05", "trainer.max_steps=60"),
        "trainer.val_every_n_steps=20",
    )
    assert result["solved"]["step"] in (20, 40, 60)


def test_where_every_step_has_a_loss_the_horizon_is_that_of_the_last_output(trained):
    """A radius of 0.2 forgets within a few steps, however evenly the whole loss reaches every state."""
    task = ("task=narma10", "task.length=30", "task.washout=5", "task.batch_size=4", "task.val_size=8")
    _, result, rows = trained(
        *(*task, "task.test_size=8", "recurrent_init=spectral_radius", "recurrent_init.radius=0.2"),
        *("instruments=time", "instruments.every_n_steps=4", "instruments.time_every_n_steps=6"),
    )
    assert 1 < result["time"]["first"]["memory_horizon_1%"] < 8
    assert result["time"]["first"]["time_decay"] == pytest.approx(math.log(0.2), rel=0.35)
    whole = over_time(rows, "time_grad_h", 0)
    assert whole[10] > 0.05 * whole[29]
    segments = [row for row in rows if row["step"] == 4]
    assert {row["quantity"] for row in segments if row["name"] != "all"} >= {"time_grad_h"}
    assert not [row for row in segments if row["quantity"].startswith("memory_horizon")]


def test_a_network_with_a_fused_kernel_can_be_compiled(trained):
    _, compiled, _ = trained("cell=lstm", "hardware.compile=true", "trainer.max_steps=4", "instruments=none")
    _, plain, _ = trained("cell=lstm", "trainer.max_steps=4", "instruments=none")
    assert compiled["series"] == pytest.approx(plain["series"], rel=1e-4)
