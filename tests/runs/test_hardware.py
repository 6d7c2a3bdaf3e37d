"""What a run is computed on: machines that lack it are told in one line, and each kind computes the same run."""

import json
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from gradflow import cli
from gradflow.runs.execute import execute
from gradflow.runs.hardware import compiled, device_of, missing_hardware, set_switches
from gradflow.runs.identity import run_id
from gradflow.runs.preflight import preflight
from gradflow.runs.stop import Stop

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine another: with a CUDA GPU of a compute capability, an Apple GPU, programs to compile with."""

    def be(cuda: tuple[int, int] | None = None, mps: bool = False, programs: tuple[str, ...] = ("g++",)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name in programs else None)

    return be


CPU, TURING, HOPPER, APPLE = {}, {"cuda": (7, 5)}, {"cuda": (9, 0)}, {"mps": True}


@pytest.mark.parametrize(
    ("has", "asked", "told"),
    [
        (CPU, ["device=cuda"], ["hardware.device=cuda", "no CUDA GPU", "hardware=auto or hardware=cpu"]),
        (CPU, ["device=mps"], ["hardware.device=mps", "no Apple GPU", "hardware=auto or hardware=cpu"]),
        (CPU, ["precision=16-mixed"], ["hardware.precision=16-mixed", "hardware.device=auto finds only cpu", "bf16-"]),
        (HOPPER, ["device=cpu", "precision=16-mixed"], ["hardware.precision=16-mixed", "but hardware.device=cpu:"]),
        (CPU, ["precision=tf32"], ["hardware.precision=tf32", "finds only cpu", "use 32"]),
        (APPLE, ["precision=tf32"], ["hardware.precision=tf32", "finds only mps", "use 32"]),
        (TURING, ["precision=tf32"], ["hardware.precision=tf32", "compute capability is 7.5", "use 32"]),
        (APPLE, ["precision=64"], ["hardware.precision=64", "no float64", "hardware.device=cpu"]),
        ({"programs": ()}, ["compile=true"], ["hardware.compile=true", "C++ compiler", "install one"]),
    ],
    ids=str,
)
def test_what_a_machine_lacks_is_told_in_one_line_with_a_way_out(configure, machine, has, asked, told):
    machine(**has)
    config = configure("hardware.device=auto", *(f"hardware.{word}" for word in asked))
    line = missing_hardware(config)
    assert [part for part in told if part not in line] == []
    assert "\n" not in line
    assert line in preflight(config)
    outcome = execute(config, [], Stop())
    assert (outcome.state, outcome.error) == ("failed", f"ValueError: {line}")


@pytest.mark.parametrize(
    ("has", "asked", "device"),
    [
        (CPU, [], "cpu"),
        (APPLE, [], "mps"),
        (HOPPER, [], "cuda"),
        (HOPPER | APPLE, [], "cuda"),
        (HOPPER, ["device=cpu"], "cpu"),
        (HOPPER, ["precision=tf32"], "cuda"),
        (TURING, ["precision=16-mixed"], "cuda"),
        (CPU, ["precision=64"], "cpu"),
        (CPU, ["precision=bf16-mixed", "compile=true"], "cpu"),
        ({"programs": ("clang++",)}, ["compile=true"], "cpu"),
    ],
    ids=str,
)
def test_what_a_machine_has_is_taken(configure, machine, has, asked, device):
    machine(**has)
    config = configure("hardware.device=auto", *(f"hardware.{word}" for word in asked))
    assert missing_hardware(config) is None
    assert device_of(config.hardware) == device


@pytest.mark.parametrize(
    ("has", "words", "told"),
    [
        (HOPPER, ["devices=2"], ["trainer.devices=2: torch finds 1 CUDA GPU here", "use trainer.devices=1"]),
        (APPLE, ["devices=2"], ["trainer.devices=2: torch trains on one Apple GPU alone", "hardware.device=cpu"]),
        (CPU, ["devices=3"], ["task.batch_size=64 does not divide among 3 processes", "use a multiple"]),
        (CPU, ["devices=2", "num_nodes=2"], ["trainer.num_nodes=2", "srun or torchrun", "slurm/train_ddp.sbatch"]),
    ],
    ids=str,
)
def test_several_processes_that_cannot_start_are_refused_in_one_line(configure, machine, monkeypatch, has, words, told):
    machine(**has)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(has.get("cuda", ())) // 2)
    config = configure("hardware.device=auto", *(f"trainer.{word}" for word in words))
    line = missing_hardware(config)
    assert [part for part in told if part not in line] == []
    assert "\n" not in line
    assert preflight(config) == [line]
    outcome = execute(config, [], Stop())
    assert outcome.state == "failed"
    assert line in outcome.error


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_gpu_that_is_not_there_is_refused_before_anything_trains(machine, monkeypatch, tmp_path, capsys, command):
    machine()
    monkeypatch.setenv("COLUMNS", "200")
    words = "hardware=gpu", "depth=2", f"paths.runs={tmp_path}/runs", f"paths.sweeps={tmp_path}/sweeps"
    with pytest.raises(SystemExit) as left:
        cli.main([command, *words, "logger.mode=disabled"])
    assert left.value.code == 2
    assert "finds no CUDA GPU here" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.rglob("*.json")) == []


def test_every_run_sets_the_switches_of_its_own_precision(configure):
    """A warm worker trains one run after another: none finds those of the run before."""
    for precision in ("32", "tf32", "32", "64", "tf32", "bf16-mixed", "tf32", "16-mixed"):
        set_switches(configure(f"hardware.precision={precision}", "hardware.threads=2").hardware)
        found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert found == (precision == "tf32",) * 2
        assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
        assert torch.get_num_threads() == 2
    set_switches(configure().hardware)
    assert torch.get_num_threads() == 1


# --- compiled ---------------------------------------------------------------------------------------------------


def test_compiled_runs_show_what_eager_ones_show(configure, evidence, monkeypatch):
    """Losses, figures of evaluation in slices of two sizes, and gradients; two runs of one process, with nothing
    compiled more than three times."""
    monkeypatch.setattr("gradflow.training.learner.EVALUATION_BATCH", 100)
    for seed in (0, 1):
        shown = []
        for word in ("false", "true"):
            config = configure(
                *("norm=batch", "trainer.log_every_n_steps=2", "trainer.val_every_n_steps=5"),
                *("instruments.every_n_steps=3", f"seed={seed}", f"hardware.compile={word}"),
            )
            counters.clear()
            outcome = execute(config, [], Stop())
            assert outcome.state == "completed", outcome.error
            shown.append(evidence(Path(config.paths.runs) / run_id(config)))
        eager, fast = shown
        assert counters["stats"]["unique_graphs"] == 3  # training; evaluation of 100; of any number
        assert not counters["graph_break"]
        for series in ("metrics", "gradflow"):
            ours, theirs = getattr(fast, series), getattr(eager, series)
            assert [row["value"] for row in ours] == pytest.approx([row["value"] for row in theirs], rel=1e-4)
            assert [{**row, "value": 0} for row in ours] == [{**row, "value": 0} for row in theirs]
        assert fast.result["labels"]["hardware"] == "cpu 32 compiled"


def test_a_compiled_network_sees_later_changes_of_its_weights():
    network = torch.nn.Linear(3, 2)
    forward = compiled(network)
    x = torch.randn(4, 3)
    torch.testing.assert_close(forward(x), network(x))
    with torch.no_grad():
        network.weight.zero_()
        network.bias.fill_(5.0)
    torch.testing.assert_close(forward(x), torch.full((4, 2), 5.0))


# --- on a GPU ---------------------------------------------------------------------------------------------------


@needs_gpu
def test_float32_is_float32_and_tf32_is_not_in_products_and_convolutions(configure):
    generator = torch.Generator("cuda").manual_seed(0)
    a, b = torch.randn(2, 512, 512, device="cuda", generator=generator)
    x = torch.randn(8, 64, 32, 32, device="cuda", generator=generator)
    w = torch.randn(64, 64, 3, 3, device="cuda", generator=generator)
    exact = a.double() @ b.double(), torch.conv2d(x.double(), w.double())
    for precision, low, high in (("32", 0, 1e-6), ("tf32", 1e-5, 1e-3), ("32", 0, 1e-6)):
        set_switches(configure(f"hardware.precision={precision}").hardware)
        for found, wanted in zip((a @ b, torch.conv2d(x, w)), exact, strict=True):
            error = ((found - wanted).norm() / wanted.norm()).item()
            assert low <= error < high


@needs_gpu
@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        (["precision=32"], 1e-3),
        (["precision=32", "compile=true"], 1e-3),
        (["precision=tf32"], 1e-2),
        (["precision=bf16-mixed"], 1e-1),
        (["precision=bf16-mixed", "compile=true"], 1e-1),
        (["precision=16-mixed"], 1e-2),
        (["precision=64"], 1e-3),
    ],
    ids=str,
)
def test_a_gpu_trains_as_the_cpu_does_to_the_digits_of_its_precision(configure, evidence, words, tolerance):
    losses = []
    for each in (["device=cpu"], ["device=cuda", *words]):
        config = configure("trainer.log_every_n_steps=5", *(f"hardware.{word}" for word in each))
        path = Path(config.paths.runs) / run_id(config)
        outcome = execute(config, [], Stop())
        assert outcome.state == "completed", outcome.error
        shown = evidence(path)
        losses.append([row["value"] for row in shown.metrics if row["name"] == "loss"])
        assert shown.result["verdict"] != "unwatched"
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    cost = json.loads((path / "result.json").read_text())["cost"]
    assert cost["device"].startswith("cuda")
    assert cost["peak_memory_bytes"] > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
def test_memory_that_was_given_back_is_there_for_the_next_step():
    """In processes of their own: how much memory is back with the system once a tensor of 24 MB is gone."""
    code = """
import sys, torch
from pathlib import Path
from gradflow.runs.hardware import keep_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
if sys.argv[1] == "kept":
    keep_memory()
tensor = torch.ones(6_000_000)
before = resident()
del tensor
print(before - resident())
"""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True).stdout)
        for word in ("kept", "given back")
    )
    pages = 24_000_000 // resource.getpagesize()
    assert kept < 0.1 * pages < 0.9 * pages < given_back
