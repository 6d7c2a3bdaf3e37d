"""One run from its config to its record: the numbers, stopping and going on, and what goes wrong."""

import itertools
import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only

from gradflow.runs.build import build
from gradflow.runs.claim import claim
from gradflow.runs.config import Config, validate
from gradflow.runs.execute import Outcome, execute
from gradflow.runs.identity import run_id
from gradflow.runs.record import read
from gradflow.runs.stop import Stop
from gradflow.training.learner import Learner
from gradflow.training.optimizers import parameter_groups

# Intervals without a common multiple, so that a run stops between any two of them.
AWKWARD = (
    *("trainer.max_steps=40", "trainer.log_every_n_steps=7", "trainer.val_every_n_steps=12"),
    *("trainer.checkpoint_every_n_steps=9", "instruments.every_n_steps=5"),
)


class StopAt(Stop):
    """Somebody's wish to stop, come when the run has looked up `looks` times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def path_of(config: Config) -> Path:
    return Path(config.paths.runs) / run_id(config)


def train(config: Config, stop: Stop | None = None) -> Outcome:
    return execute(config, [], stop or Stop())


def status_of(config: Config) -> dict[str, Any]:
    return json.loads((path_of(config) / "status.json").read_text())


def cost_of(config: Config) -> dict[str, Any]:
    return json.loads((path_of(config) / "result.json").read_text())["cost"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, evidence) -> Callable[[Config], Any]:
    """What a config shows when nothing disturbs its run."""
    known: dict[str, Any] = {}

    def show(config: Config) -> Any:
        if run_id(config) not in known:
            paths = config.paths.model_copy(update={"runs": str(tmp_path_factory.mktemp("undisturbed"))})
            alone = config.model_copy(update={"paths": paths})
            outcome = train(alone)
            assert outcome.state in ("completed", "diverged"), outcome.error
            known[run_id(config)] = evidence(path_of(alone))
        return known[run_id(config)]

    return show


# --- numbers ----------------------------------------------------------------------------------------------------


def plain_loop(config: Config) -> tuple[list[float], list[list[float]], dict[str, float]]:
    """The same training in a dozen lines of PyTorch: losses, gradient norm of each block by step, final figures."""
    torch.set_num_threads(1)
    pieces = build(config)
    data = pieces.task.load(Path(), config.seed, torch.device("cpu"))
    optimizer = pieces.make_optimizer(parameter_groups(pieces.network))
    losses, norms = [], []
    for step in range(config.trainer.max_steps):
        optimizer.zero_grad()
        x, y = data.train(step)
        loss = torch.nn.functional.cross_entropy(pieces.network(x), y)
        loss.backward()
        gradients = [torch.cat([p.grad.flatten() for p in block.parameters()]) for block in pieces.network.blocks]
        losses.append(loss.item())
        norms.append([gradient.double().norm().item() for gradient in gradients])
        optimizer.step()
    figures = {}
    pieces.network.eval()
    for split in ("val", "test"):
        x, y = data.evaluation(split, 0, 10_000, torch.float32)
        out = pieces.network(x).double()
        figures[f"{split}/loss"] = torch.nn.functional.cross_entropy(out, y).item()
        figures[f"{split}/accuracy"] = (out.argmax(-1) == y).double().mean().item()
    return losses, norms, figures


@pytest.mark.parametrize("extra", [[], ["norm=batch", "optimizer=adam", "optimizer.lr=0.01"]], ids=["sgd", "batch"])
def test_a_run_shows_what_a_plain_loop_shows(configure, extra, evidence):
    config = configure(
        "trainer.log_every_n_steps=5", "instruments.every_n_steps=4", "trainer.val_every_n_steps=10", *extra
    )
    losses, norms, figures = plain_loop(config)
    assert train(config).state == "completed"
    shown = evidence(path_of(config))
    assert {k: v for k, v in shown.result["metrics"].items() if k in figures} == pytest.approx(figures, rel=1e-6)
    told = {row["step"]: row["value"] for row in shown.metrics if row["split"] == "train"}
    assert told == pytest.approx({step: sum(losses[step - 5 : step]) / 5 for step in (5, 10, 15, 20)}, rel=1e-6)
    assert shown.result["metrics"]["train/loss"] == told[20]
    measured = {
        (row["step"], row["block"]): row["value"]
        for row in shown.gradflow
        if row["block"] is not None and row["quantity"] == "grad_norm"
    }
    assert measured == pytest.approx({(s, b): norms[s][b] for s in range(0, 20, 4) for b in (0, 1)}, rel=1e-5)
    logarithms = [math.log(norms[s][0] / norms[s][1]) for s in range(0, 20, 4)]
    assert shown.result["gradient"]["ratio"] == pytest.approx(math.exp(sum(logarithms) / 5), rel=1e-5)
    assert [row["step"] for row in shown.metrics if row["split"] == "val"] == [10, 10, 20, 20]
    assert shown.result["test_size"] == 360


def test_a_run_in_epochs_takes_so_many_whole_epochs(configure, evidence):
    config = configure("trainer.max_epochs=2", "task.batch_size=200")
    assert train(config).state == "completed"
    shown = evidence(path_of(config))
    assert shown.result["steps"] == 2 * (1077 // 200)
    assert {(row["step"], row["epoch"]) for row in shown.metrics} == {(10, 1)}


DIVERGING = ("activation=linear", "depth=4", "trainer.max_steps=60", "trainer.log_every_n_steps=25")


@pytest.mark.parametrize("lr", ["0.04", "0.1", "1e6"])
def test_divergence_is_a_result_with_its_exact_step(configure, lr, evidence):
    config = configure(*DIVERGING, f"optimizer.lr={lr}")
    losses, *_ = plain_loop(config)
    expected = next(step for step, loss in enumerate(losses) if not math.isfinite(loss))
    outcome = train(config)
    assert (outcome.state, outcome.error) == ("diverged", None)
    result = evidence(path_of(config)).result
    assert (result["state"], result["verdict"], result["diverged_at"]) == ("diverged", "diverged", expected)
    assert "test/accuracy" not in result["metrics"]
    assert result["signs"][0] == {
        **{"verdict": "diverged", "name": "loss_nonfinite", "what": "step with a non-finite loss"},
        **{"value": expected, "threshold": 0, "where": f"step {expected}"},
    }
    assert read(path_of(config)).state == "diverged"


def test_a_last_update_that_leaves_no_finite_weights_is_a_divergence_too(configure, evidence):
    config = configure("optimizer.lr=1e30", "trainer.max_steps=1")
    losses, *_ = plain_loop(config)
    assert math.isfinite(losses[0])  # it is after the only step that nothing is finite any more
    outcome = train(config)
    assert outcome.state == "diverged", outcome.error
    assert evidence(path_of(config)).result["diverged_at"] == 1


def test_a_validation_that_sees_the_divergence_first_changes_nothing(configure, evidence):
    config = configure(*DIVERGING, "optimizer.lr=0.1", "trainer.val_every_n_steps=6")
    losses, *_ = plain_loop(config)
    outcome = train(config)
    assert outcome.state == "diverged", outcome.error
    result = evidence(path_of(config)).result
    assert result["diverged_at"] == next(step for step, loss in enumerate(losses) if not math.isfinite(loss)) < 6
    assert all(map(math.isfinite, result["metrics"].values()))


# --- identical, and stopping and going on -----------------------------------------------------------------------


def test_what_else_a_process_has_trained_changes_nothing(configure, undisturbed, evidence):
    config = configure(*AWKWARD)
    train(configure("depth=3", "seed=9", "activation=tanh"))
    torch.manual_seed(5)
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)


GOING_ON = {
    **{"sgd": [], "batch": ["norm=batch", "optimizer=adam"]},
    "pretrained": ["remedy=[layerwise_pretraining,gradient_noise]", "optimizer=adam", "dropout=0.2"],
    "recurrent": [
        *("task=parity", "task.length=12", "task.variable=true", "task.batch_size=8", "task.val_size=20"),
        *("task.test_size=20", "model=recurrent", "cell=lstm", "cell.recurrent_norm=batch", "model.zoneout=0.1"),
        *("optimizer=rmsprop", "remedy=[clip_norm,recurrent_l2]", "instruments=time"),
        *("instruments.every_n_steps=1", "instruments.time_every_n_steps=3", "instruments.time_segments=5"),
    ],
    "reservoir": [
        *("task=adding", "task.length=12", "task.batch_size=8", "task.val_size=20", "task.test_size=20", "model=esn"),
    ],
}


@pytest.mark.parametrize(
    ("looks", "name"), [(k, name) for name in GOING_ON for k in ((1, 8) if name == "recurrent" else (1, 3, 8, 9))]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_record(configure, undisturbed, looks, name, evidence):
    extra = GOING_ON[name]
    config = configure(*AWKWARD, *extra)
    stopped = train(config, StopAt(looks))
    assert stopped.state == "preempted"
    assert status_of(config)["state"] == "preempted"
    assert status_of(config)["step"] > 0
    assert not (path_of(config) / "result.json").exists()
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)
    assert (cost_of(config)["attempts"], status_of(config)["attempt"]) == (2, 2)
    assert not (path_of(config) / "checkpoints").exists()


@pytest.mark.parametrize("precision", ["64", "bf16-mixed"])
def test_going_on_loses_no_digit_of_any_precision(configure, undisturbed, evidence, precision):
    config = configure(*AWKWARD, f"hardware.precision={precision}")
    assert train(config, StopAt(3)).state == "preempted"
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_run_on_a_gpu_goes_on_too(configure, undisturbed, evidence):
    config = configure(*AWKWARD, "hardware.device=cuda")
    assert train(config, StopAt(3)).state == "preempted"
    outcome = train(config)
    assert outcome.state == "completed", outcome.error
    assert evidence(path_of(config)).result["metrics"] == pytest.approx(undisturbed(config).result["metrics"], rel=1e-3)


def test_a_run_that_is_stopped_at_every_step_boundary_still_ends_with_the_same_record(configure, undisturbed, evidence):
    config = configure(*AWKWARD)
    steps = []
    while train(config, StopAt(1)).state == "preempted":
        steps.append(status_of(config)["step"])
        assert len(steps) < 40
    assert steps == sorted(set(steps))
    assert len(steps) > 5
    assert evidence(path_of(config)) == undisturbed(config)
    assert cost_of(config)["attempts"] == len(steps) + 1


def test_a_run_that_is_stopped_before_its_first_step_begins_anew(configure, undisturbed, evidence):
    config = configure(*AWKWARD)
    assert train(config, StopAt(0)).state == "preempted"
    assert not (path_of(config) / "checkpoints").exists()
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)


@pytest.mark.parametrize("step", [2, 6])
def test_a_stop_is_granted_at_the_very_next_step(configure, undisturbed, evidence, monkeypatch, step):
    """Not at the end of the chunk, nor after the validation that follows it: steps may take long."""
    seldom = "trainer.log_every_n_steps=50", "trainer.checkpoint_every_n_steps=50"
    config, stop = configure(*AWKWARD, *seldom, "seed=7"), Stop()
    before = Learner.on_before_optimizer_step

    def ask(learner: Learner, optimizer: torch.optim.Optimizer) -> None:
        if learner._step == step:
            stop.request()
        before(learner, optimizer)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "on_before_optimizer_step", ask)
        assert train(config, stop).state == "preempted"
    assert status_of(config)["step"] == step + 1
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)


@pytest.mark.parametrize("phase", ["validation", "test"])
def test_a_stop_does_not_wait_for_a_long_evaluation(configure, undisturbed, evidence, monkeypatch, phase):
    config, stop = configure(*AWKWARD, "trainer.checkpoint_every_n_steps=3"), Stop()
    begin = getattr(Learner, f"on_{phase}_epoch_start")

    def ask_and_begin(learner: Learner) -> None:
        if learner.steps_done > 5:
            stop.request()
        begin(learner)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, f"on_{phase}_epoch_start", ask_and_begin)
        patch.setattr("gradflow.runs.lockstep.PATIENCE", -1.0)
        assert train(config, stop).state == "preempted"
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)


def test_divergence_is_seen_at_the_same_step_after_a_stop(configure, undisturbed, evidence):
    config = configure(*DIVERGING, "optimizer.lr=0.1")
    assert undisturbed(config).result["diverged_at"] > 0
    assert train(config, StopAt(1)).state == "preempted"
    assert train(config).state == "diverged"
    assert evidence(path_of(config)) == undisturbed(config)


DAMAGE = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "alien": lambda file: torch.save({"epoch": 3}, file),
    "no tensors": lambda file: file.write_text("not a checkpoint"),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("names", [["last.ckpt"], ["last.ckpt", "previous.ckpt"]], ids=["last", "both"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_or_to_the_start(
    configure, undisturbed, damage, names, evidence
):
    config = configure(*AWKWARD)
    assert train(config, StopAt(17)).state == "preempted"
    for name in names:
        damage(path_of(config) / "checkpoints" / name)
    assert train(config).state == "completed"
    assert evidence(path_of(config)) == undisturbed(config)


def test_a_run_with_a_result_is_not_trained_again(configure):
    config = configure()
    assert train(config).state == "completed"
    before = {file: file.stat().st_mtime_ns for file in path_of(config).iterdir()}
    assert train(config).state == "done"
    assert {file: file.stat().st_mtime_ns for file in path_of(config).iterdir()} == before


def test_a_run_that_is_being_trained_is_left_alone(configure):
    config = configure()
    with claim(path_of(config)):
        assert train(config).state == "busy"
    assert not (path_of(config) / "status.json").exists()
    assert train(config).state == "completed"


# --- the record -------------------------------------------------------------------------------------------------


def test_the_record_says_what_was_asked_for_and_with_what(configure):
    config = configure("activation=tanh")
    execute(config, ["depth=2", "activation=tanh"], Stop())
    path = path_of(config)
    files = "config.yaml", "overrides.yaml", "environment.json", "prediction.json", "status.json", "result.json"
    series = "metrics.parquet", "gradflow.parquet"
    assert {file.name for file in path.iterdir()} == {".lock", *files, *series}
    assert run_id(validate(yaml.safe_load((path / "config.yaml").read_text()))) == path.name
    assert yaml.safe_load((path / "overrides.yaml").read_text()) == ["depth=2", "activation=tanh"]
    environment = json.loads((path / "environment.json").read_text())
    assert environment["threads"] == 1
    assert (environment["tf32_matmul"], environment["tf32_convolution"]) == (False, False)
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    status = status_of(config)
    assert (status["state"], status["attempt"], status["error"]) == ("completed", 1, None)


def test_the_result_says_what_the_task_is_and_how_many_parameters_were_trained(configure, evidence):
    config = configure("depth=3", "width=[8,6,4]")
    train(config)
    result = evidence(path_of(config)).result
    assert (result["metric"], result["larger_is_better"], result["outputs"]) == ("test/accuracy", True, 10)
    assert (result["chance"], result["stages"]) == (0.1, [])
    stem, head = 64 * 8 + 8, 4 * 10 + 10
    assert cost_of(config)["parameters"] == stem + (8 * 8 + 8) + (8 * 6 + 6) + (6 * 4 + 4) + head


def test_each_validation_has_its_time_and_the_clock_goes_on_after_a_stop(configure, monkeypatch):
    """A clock that advances a second at each look: no time passes while the run is stopped."""
    ticks = itertools.count()
    monkeypatch.setattr(
        "gradflow.runs.recorder.time", SimpleNamespace(monotonic=lambda: float(next(ticks)), time=time.time)
    )
    config = configure(*AWKWARD)
    assert train(config, StopAt(17)).state == "preempted"
    pause = next(ticks)
    ticks = itertools.count(pause + 10_000)
    assert train(config).state == "completed"
    cost = cost_of(config)
    steps, seconds = zip(*cost["clock"], strict=True)
    assert steps == (12, 24, 36, 40)
    assert list(seconds) == sorted(set(seconds))
    assert 0 < seconds[0] < seconds[-1] <= cost["train_seconds"] < 10_000


def test_a_budget_in_seconds_ends_a_run_with_a_validation_at_its_last_step(configure, evidence):
    config = configure("trainer.max_steps=1000000", "trainer.max_time=00:00:00:01", "trainer.val_every_n_steps=100000")
    assert train(config).state == "completed"
    shown = evidence(path_of(config))
    assert 0 < shown.result["steps"] < 1_000_000
    ((step, seconds),) = cost_of(config)["clock"]
    assert step == shown.result["steps"] == next(row["step"] for row in shown.metrics if row["split"] == "val")
    assert seconds <= cost_of(config)["train_seconds"]


def test_blocks_that_learn_one_after_another_are_recorded_as_such(configure, evidence):
    """The stem has steps 0 … 9, the first block 10 … 19, the second 20 … 29; all of them the rest."""
    config = configure(
        *("remedy=layerwise_pretraining", "remedy.layerwise_pretraining.share=0.5", "trainer.max_steps=60"),
        *("instruments.every_n_steps=5", "trainer.log_every_n_steps=5"),
    )
    outcome = train(config)
    assert outcome.state == "completed", outcome.error
    shown = evidence(path_of(config))
    assert [(s["start"], s["stop"]) for s in shown.result["stages"]] == [(0, 10), (10, 20), (20, 30), (30, 60)]
    assert shown.result["stages"][-1]["name"] == "fine-tuning"
    norms = {(r["step"], r["block"]): r["value"] for r in shown.gradflow if r["quantity"] == "grad_norm"}
    assert {step for step, block in norms if block == 0} == {10, 15, *range(30, 60, 5)}
    assert {step for step, block in norms if block == 1} == {20, 25, *range(30, 60, 5)}
    ratios = [norms[step, 0] / norms[step, 1] for step in range(30, 60, 5)]
    assert shown.result["gradient"]["steps"] == 6
    assert shown.result["gradient"]["ratio"] == pytest.approx(math.prod(ratios) ** (1 / 6), rel=1e-6)


def test_where_no_step_has_a_gradient_at_both_ends_there_is_no_ratio(configure, evidence):
    config = configure(
        "remedy=layerwise_pretraining", "remedy.layerwise_pretraining.share=0.95", "instruments.every_n_steps=8"
    )
    assert train(config).state == "completed"
    result = evidence(path_of(config)).result
    assert result["gradient"] == {"ratio": None, "steps": 0, "zero_steps": 0, "nonfinite_steps": 0}
    assert result["verdict"] == "unwatched"


def test_a_run_without_instruments_is_unwatched(configure, evidence):
    config = configure("instruments=none")
    train(config)
    shown = evidence(path_of(config))
    assert (shown.result["verdict"], shown.result["gradient"], shown.gradflow) == ("unwatched", None, [])


def test_a_deep_sigmoid_vanishes_and_says_by_how_much(configure, evidence):
    config = configure("activation=sigmoid", "init=fan_in_uniform", "depth=20")
    train(config)
    result = evidence(path_of(config)).result
    assert result["verdict"] == "vanishing"
    (sign,) = [sign for sign in result["signs"] if sign["name"] == "gradient_ratio"]
    assert sign["value"] == result["gradient"]["ratio"] < sign["threshold"] == 1e-3
    assert result["gradient"]["ratio"] < 1e-9


# --- what goes wrong --------------------------------------------------------------------------------------------


def test_a_run_that_fails_keeps_its_traceback_and_can_be_tried_again(configure, importable):
    config = configure("activation=broken", config_dir=importable / "conf")
    for attempt in (1, 2):
        outcome = train(config)
        assert (outcome.state, outcome.error) == ("failed", "RuntimeError: no such neuron")
        status = status_of(config)
        assert (status["state"], status["attempt"]) == ("failed", attempt)
        assert status["error"].startswith("Traceback (most recent call last)")
        assert "own_activations.py" in status["error"]
    assert not (path_of(config) / "result.json").exists()
    assert train(configure()).state == "completed"


def test_a_record_that_cannot_be_written_is_told_with_its_path(configure, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    outcome = train(configure())
    assert (outcome.state, outcome.recorded) == ("failed", False)
    assert str(tmp_path / "runs") in outcome.error


def test_a_run_of_one_process_is_one_inside_any_job(configure, monkeypatch, undisturbed, evidence):
    """Lightning takes a job's variables for a rank of several, would not log, and would requeue the job itself."""
    expected = undisturbed(configure("trainer.val_every_n_steps=10"))
    config = configure("trainer.val_every_n_steps=10", "logger.mode=offline")
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}
    for name, value in {**job, "SLURM_JOB_NAME": "train", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 2)  # as where Lightning is imported inside the job
    handlers = []

    def look(step: int, figures: dict[str, float]) -> bool:
        handlers.append([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)])
        return False

    stop = Stop()
    with stop.on_signals():
        assert execute(config, [], stop, judge=look).state == "completed"
    assert handlers == [[stop.handler, stop.handler]] * 2
    assert evidence(path_of(config)) == expected
    assert status_of(config)["job_id"] == "7"
    (kept,) = path_of(config).glob("wandb/offline-run-*/run-*.wandb")
    assert b"train/loss" in kept.read_bytes()
