"""What a sweep will cost: by counting, and by the time that earlier runs took on the same hardware; never made up."""

import pytest

from gradflow.runs.environment import hardware_name
from gradflow.runs.preflight import Preflight
from gradflow.runs.record import write_json
from gradflow.sweeps.estimate import Estimator, expected, summary
from gradflow.sweeps.launch import prepare

SMALL = ("width=20", "hardware=cpu", "logger.mode=disabled", "trainer.max_steps=100", "task.batch_size=32")


@pytest.fixture
def planned(compose, tmp_path):
    def plan(*words: str):
        paths = [f"paths.{name}={tmp_path / name}" for name in ("runs", "sweeps")]
        return prepare(compose, [*SMALL, *paths, *words], "again", replan=True)

    return plan


def record(prepared, run, seconds_per_step, hardware=None, steps=50):
    """A finished run that took so long, on this CPU unless another one is named."""
    path = prepared.plan.runs_dir / run.run_id
    path.mkdir(parents=True)
    cost = {"train_seconds": seconds_per_step * steps, "hardware": hardware or hardware_name("cpu")}
    status = {"run_id": run.run_id, "state": "completed", "labels": run.labels}
    write_json(path / "status.json", status)
    parts = {"metrics": {}, "metric": "test/accuracy", "verdict": "healthy", "steps": steps, "cost": cost}
    write_json(path / "result.json", {**status, **parts})


def weights(depth: int) -> int:
    return 64 * 20 + depth * 20 * 20 + 20 * 10


@pytest.mark.parametrize(
    ("optimizer", "numbers"),
    [
        ("optimizer=sgd optimizer.momentum=0.0", 0),
        ("optimizer=sgd optimizer.momentum=0.9", 1),
        ("optimizer=adam", 2),
        ("optimizer=rmsprop optimizer.momentum=0.5 optimizer.centered=true", 3),
        ("optimizer=adagrad", 1),
    ],
)
def test_operations_are_three_ways_forward_and_memory_is_what_is_held(planned, optimizer, numbers):
    (run,) = planned("depth=4", *optimizer.split()).plan.runs
    parameters, kept = weights(4) + 5 * 20 + 10, 64 + 5 * 20
    assert run.estimate == {
        "operations": 3 * 2 * weights(4) * 32 * 100,
        "memory": 4 * ((2 + numbers) * parameters + 32 * kept),
        "steps": 100,
    }


def test_the_budget_in_epochs_and_a_read_out_that_is_solved_for(planned):
    (epochs,) = planned("depth=4", "trainer.max_epochs=2").plan.runs
    assert epochs.estimate["steps"] == 2 * (1077 // 32)
    (esn,) = planned("model=esn", "depth=1", "task=adding", "task.length=10").plan.runs
    assert esn.estimate["operations"] == pytest.approx(10 * 2 * 20 * (2 + 20) * 32 * 100, rel=0.1)  # no way back


def test_a_run_of_the_same_structure_tells_the_time_whatever_its_seed_and_learning_rate(planned):
    done = planned("depth=4", "seed=0,1,2")
    for run, pace in zip(done.plan.runs, (0.1, 0.3, 0.2), strict=True):
        record(done, run, pace)
    prepared = planned("depth=4", "seed=7,8", "optimizer.lr=0.3", "init=orthogonal")
    assert list(expected(prepared).values()) == pytest.approx([0.2 * 100] * 2)
    found = summary(prepared)
    assert (found.runs, found.done, found.timed, found.counted) == (2, 0, 2, 2)
    assert found.seconds == pytest.approx(40)
    assert found.operations == 2 * 3 * 2 * weights(4) * 32 * 100
    assert found.memory == max(run.estimate["memory"] for run in prepared.plan.runs)


def test_others_of_the_same_model_tell_it_by_their_operations(planned):
    first = planned("depth=4,20")
    record(first, first.plan.runs[0], 0.1)
    after = planned("depth=4,20")
    ((_, seconds),) = expected(after).items()
    assert seconds == pytest.approx(0.1 * 100 * weights(20) / weights(4))
    assert summary(after).done == 1


def test_without_a_run_to_go_by_the_time_is_not_known(planned):
    first = planned("depth=4,20", "model=mlp,convnet", "width=20")
    by_name = {(run.labels["model"], run.labels["depth"]): run for run in first.plan.runs}
    record(first, by_name["mlp", 4], 0.1, "another CPU")
    record(first, by_name["convnet", 4], 0.1)
    (first.plan.runs_dir / "broken").mkdir()
    (first.plan.runs_dir / "broken" / "result.json").write_text("{")
    after = planned("depth=4,20", "model=mlp,convnet", "width=20")
    times = expected(after)
    assert len(times) == 2
    assert times[by_name["mlp", 20].run_id] is None
    assert times[by_name["convnet", 20].run_id] > 10
    assert (summary(after).timed, summary(after).counted) == (1, 2)


def test_on_a_cluster_the_records_own_hardware_counts_if_it_is_one(planned):
    first = planned("depth=4", "seed=0,1,2")
    record(first, first.plan.runs[0], 0.1, "a GPU")
    there = planned("depth=4", "seed=0,1,2", "launcher=slurm")
    assert list(expected(there).values()) == pytest.approx([10.0, 10.0])
    record(first, first.plan.runs[1], 0.1, "another GPU")
    there = planned("depth=4", "seed=0,1,2", "launcher=slurm")
    assert list(expected(there).values()) == [None]


def test_an_optimiser_that_does_not_take_a_small_network_leaves_memory_unknown(compose):
    config = compose.config([*SMALL, "depth=2"])
    other = config.model_copy(update={"optimizer": {"_target_": "torch.optim.LBFGS"}})  # has no parameter groups
    estimate = Estimator(Preflight())
    assert estimate(other) == {**estimate(config), "memory": None}
