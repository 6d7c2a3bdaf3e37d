"""What a person types, what they are told, and with which exit code."""

import io
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf
from rich.console import Console

import gradflow
from gradflow.cli import main
from gradflow.runs.claim import claim
from gradflow.runs.compose import composer
from gradflow.runs.planfile import PlannedRun
from gradflow.runs.record import is_done, read

SMALL = ("depth=2", "width=8", "trainer.max_steps=20", "hardware.device=cpu", "logger.mode=disabled")
TRAIN_SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Types one command in this process; the default folders are below `tmp_path`."""
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("GRADFLOW_SWEEPS_DIR", str(tmp_path / "sweeps"))
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc

    def type_(*words: object) -> Said:
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, words)))
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(int(caught.value.code or 0), said.out, said.err)

    return type_


# --- help and config ----------------------------------------------------------------------------------------------


def test_help_names_every_command_and_each_explains_itself(cli):
    said = cli("--help")
    commands = re.findall(r"^  ([\w-]+)  +\w", said.out.partition("commands:")[2], re.MULTILINE)
    assert commands == [
        *["train", "sweep", "tune", "status", "cancel", "logs", "table", "plot", "report", "diagnose"],
        *["predict", "paper", "gc", "wandb-sync", "import-wandb", "dashboard", "doctor"],
    ]
    for command in commands:
        said = cli(command, "--help")
        assert (said.code, said.err) == (0, "")
        assert f"usage: gradflow {command}" in said.out


@pytest.mark.parametrize("command", ["train", "sweep", "predict", "doctor"])
def test_help_lists_every_group_with_its_values(cli, command):
    said = cli(command, "--help")
    with composer() as compose:
        groups = compose.groups()
    for group, values in groups.items():
        assert re.search(rf"^ +{group} +{re.escape(', '.join(values))}$", said.out, re.MULTILINE)
    assert re.search(r"^ \+sweep +.*quickstart", said.out, re.MULTILINE)


CONFIGS = [[], ["depth=3", "optimizer=adam"], ["experiment=vanishing_sigmoid", "trainer.max_steps=5"]]


@pytest.mark.parametrize("overrides", CONFIGS, ids=str)
def test_the_config_that_is_shown_is_hydras(cli, overrides):
    with composer():
        config = hydra_compose("train", overrides=overrides)
        assert cli("train", "--cfg", "job", *overrides).out == OmegaConf.to_yaml(config)
        assert cli("train", *overrides, "--cfg=job", "--resolve").out == OmegaConf.to_yaml(config, resolve=True)


def test_the_script_and_the_module_say_the_same_as_the_command(cli):
    def output(*words: object) -> str:
        return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True).stdout

    assert output("-m", "gradflow", "--version") == f"gradflow {gradflow.__version__}\n" == cli("--version").out
    shown = cli("train", "--cfg", "job", "depth=3").out
    assert "depth: 3" in shown
    assert output(TRAIN_SCRIPT, "--cfg", "job", "depth=3") == shown


def test_a_reader_that_has_gone_is_no_error():
    for words in (["train", "--cfg", "job"], ["train", "--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "gradflow", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait() in (0, 1)


LIGHT = """
import contextlib, io, sys
from gradflow.cli import main
for words in WORDS:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    print(code, *sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "lightning", "sklearn", "wandb"}))
"""


def test_what_trains_nothing_does_not_wait_for_torch(baseline, grid):
    folder = str(baseline.folder)
    typed = [
        (0, ["--version"], ["--help"], ["train", "--help"], ["train", "--cfg", "job"]),
        (2, ["trian"], ["train", "dpeth=3"], ["train", "depth=-1"], ["sweep"], ["sweep", "dpeth=2,3"]),
        (0, ["status", folder], ["table", folder], ["table", folder, "--format", "latex"], ["report", folder]),
        (0, ["cancel", folder], ["gc", str(baseline.shell.runs)], ["logs", baseline.run_ids[0]]),
        (2, ["status", "nowhere"], ["table", "nowhere"]),
        (0, ["sweep", *grid, "logger.mode=offline"]),  # all of it done before
        ("0 wandb", ["wandb-sync", folder, "--dry-run"]),  # reads W&B's files
    ]
    words = [each for _, *commands in typed for each in commands]
    codes = [str(code) for code, *commands in typed for _ in commands]
    folders = {"GRADFLOW_RUNS_DIR": str(baseline.shell.runs), "GRADFLOW_SWEEPS_DIR": str(baseline.shell.sweeps)}
    program = [sys.executable, "-c", LIGHT.replace("WORDS", repr(words))]
    done = subprocess.run(program, env={**os.environ, **folders}, capture_output=True, text=True, check=True)
    assert list(zip(words, done.stdout.splitlines(), strict=True)) == list(zip(words, codes, strict=True))


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "gradflow: trian: unknown command; allowed: cancel, dashboard, diagnose, doctor, "),
        ([], "COMMAND"),
        (["train", "dpeth=3"], "gradflow: dpeth=3: unknown key; "),
        (["train", "optimizer.lr=-1"], "gradflow: optimizer.lr=-1: should be greater than 0"),
        (["train", "+optimizer.nestrov=true"], "gradflow: optimizer.nestrov=true: unknown key; "),
        (["train", "--cfg", "job", "activation=rleu"], "gradflow: activation=rleu: unknown value; "),
        (["train", "--cfg", "job", "depth=-1"], "gradflow: depth=-1: should be greater"),
        (["train", "--config-dir", "nowhere"], "gradflow: --config-dir nowhere: no such folder"),
        (["train", "--bogus"], "gradflow: --bogus: unknown option; allowed: --cfg, --config-dir, --help, --resolve; "),
        (["sweep", "depth=1,2", "--plann"], "did you mean '--plan'?; see 'gradflow sweep --help'"),
        (["table", "a", "b"], "gradflow: b: one word too many; see 'gradflow table --help'"),
        (["plot", "nowhere", "--columns", "3"], "gradflow: --columns: unknown value '3'; allowed: 1, 2; "),
        (["table", "nowhere", "--rows"], "gradflow: --rows: expected one argument; "),
        (["train", "logger.mode=online"], "gradflow: logger.mode=online: no W&B API key found; run 'wandb login'"),
        (["sweep", "seed=0,1", "logger.mode=online"], "gradflow: logger.mode=online: no W&B API key found"),
        (["sweep"], "gradflow: sweep: nothing to vary"),
        (["sweep", "depth=1,2", "-j", "0"], "'0': must be a whole number above 0"),
        (["sweep", "+sweep=quikstart"], "did you mean 'quickstart'?"),
        (["status"], "DIR"),
        (["status", "nowhere"], "gradflow: nowhere: no such folder"),
        (["cancel", "nowhere"], "gradflow: nowhere: no such folder"),
        (["logs", "nowhere"], "gradflow: nowhere: no such folder, and no run in "),
        (["gc", "nowhere"], "gradflow: nowhere: no such folder"),
        (["wandb-sync", "nowhere"], "gradflow: nowhere: no such folder"),
        (["doctor", "dpeth=3"], "gradflow: dpeth=3: unknown key; "),
    ],
    ids=str,
)
def test_a_mistake_leaves_with_2_and_one_line(cli, tmp_path, words, told):
    said = cli(*words)
    assert said.code == 2
    assert told in said.err
    assert len(said.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_no_record_can_hold_is_a_mistake_too(cli):
    said = cli("train", *SMALL, "activation._target_=torch.nn.Hardtanh", "+activation.min_val=-inf")
    assert said.code == 2
    assert "activation.min_val=-inf" in said.err


def test_all_faults_of_a_plan_are_told_at_once_and_nothing_is_written(cli, tmp_path):
    said = cli("sweep", "depth=2,3", "width=[8,4],8", "seed=range(5)", "skip=none,residual")
    assert said.code == 2
    assert "15 of 40 cells cannot run; nothing was trained" in said.err
    rows = [re.split(r"  +", line.strip()) for line in said.err.splitlines() if re.match(r"^ +\d+  ", line)]
    assert [int(row[0]) for row in rows] == [10, 5] or [int(row[0]) for row in rows] == [5, 10]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", ["mnist", "cifar10"])
def test_missing_data_are_told_with_both_ways_to_get_them(cli, monkeypatch, tmp_path, task):
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # nobody is at home there
    # The first download of a process keeps the proxies that it finds for all later ones.
    monkeypatch.setattr(urllib.request, "_opener", None)
    said = cli("train", f"task={task}", f"paths.data={tmp_path / 'data'}")
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    for part in (f"task={task}", str(tmp_path / "data"), "GRADFLOW_DATA_DIR", "internet"):
        assert part in said.err
    assert not (tmp_path / "runs").exists()


# --- training -----------------------------------------------------------------------------------------------------


def test_a_run_is_told_in_a_few_lines_and_not_trained_twice(cli, tmp_path):
    first = cli("train", *SMALL)
    (path,) = (tmp_path / "runs").iterdir()
    result = json.loads((path / "result.json").read_text())
    assert first.code == 0
    assert first.out.startswith("completed: digits mlp relu · he_normal depth 2 seed 0\n")
    assert f"test/accuracy {result['metrics']['test/accuracy']:.4g}" in first.out
    assert f"verdict {result['verdict']}" in first.out
    assert f"record: {path}" in first.out
    again = cli("train", *reversed(SMALL))
    assert (again.code, again.out) == (0, f"trained before:\n{first.out}")


def test_a_diverged_run_is_no_failure(cli):
    said = cli("train", *SMALL, "activation=linear", "depth=4", "optimizer.lr=0.1")
    assert said.code == 0
    assert said.out.startswith("diverged: ")
    assert "the loss stopped being finite at step 5" in said.out


def test_a_failed_run_leaves_with_1_and_says_where_its_traceback_is(cli, importable, tmp_path):
    said = cli("train", *SMALL, "activation=broken", "--config-dir", importable / "conf")
    (path,) = (tmp_path / "runs").iterdir()
    assert said.code == 1
    assert "gradflow: RuntimeError: no such neuron" in said.err
    assert f"traceback: {path / 'status.json'}" in said.err


def test_a_run_that_another_process_trains_is_left_to_it(cli, configure):
    config = configure()
    from gradflow.runs.identity import run_id

    path = Path(config.paths.runs) / run_id(config)
    with claim(path):
        said = cli("train", *SMALL)
    assert said.code == 1
    assert f"{path}: another process is training this run" in said.err


def test_a_run_that_is_asked_to_stop_says_how_to_go_on_and_does(
    cli, new_shell, grid, baseline, evidence, wait_until, importable, monkeypatch
):
    shell = new_shell()
    words = (
        "train",
        *(word for word in grid if not word.startswith(("sweep.", "seed"))),
        "seed=3",
        "logger.mode=disabled",
    )
    process = shell.start(*words)
    path = shell.runs / baseline.run_ids[3]
    wait_until(lambda: path.exists() and (read(path) or None) and read(path).status["step"] > 0)
    process.terminate()
    stopped = shell.end(process)
    assert stopped.returncode == 143
    assert stopped.stderr == f"stopped; its checkpoint is in {path}. To go on: gradflow {' '.join(words)}\n"
    assert read(path).state == "preempted"
    assert (path / "checkpoints" / "last.ckpt").exists()
    monkeypatch.setenv("GRADFLOW_RUNS_DIR", str(shell.runs))
    done = cli(*words)
    assert (done.code, done.err) == (0, "")
    assert evidence(path) == evidence(baseline.shell.runs / path.name)


def test_the_live_display_of_a_sweep_counts_what_is_done_running_and_failed():
    from gradflow.display import SweepDisplay
    from gradflow.sweeps.pool import Progress, Running

    labels = {"task": "digits", "model": "mlp", "recipe": "[red] · he", "depth": 3, "trainer.max_steps": 100}
    runs = [PlannedRun(f"{i:012x}", [], {**labels, "seed": i}, {}) for i in range(5)]
    progress = Progress(total=6, done_before=1)
    progress.ended = [(runs[0], "completed", None, 1.25), (runs[1], "failed", "RuntimeError: [bold]", 2.0)]
    progress.running = {runs[2].run_id: Running(runs[2], 0.0, step=40, total=100, loss=0.5)}
    progress.running[runs[3].run_id] = Running(runs[3], 0.0)
    shown = {}
    for terminal in (True, False):
        out = io.StringIO()
        with SweepDisplay(Console(file=out, force_terminal=terminal, width=150, highlight=False), "four") as display:
            display.show(progress)
            display.show(progress)
        shown[terminal] = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    for word in (
        "four",
        "2/6 done",
        "2 running",
        "1 failed",
        "step 40/100",
        "loss 0.5",
        "starting",
        "[red] · he depth 3",
    ):
        assert word in shown[True]
    assert re.search(r"\d:\d\d:\d\d left", shown[True])
    assert shown[True].count("RuntimeError: [bold]") == 1
    assert (
        shown[False]
        .splitlines()[0]
        .startswith("[2/6] completed 000000000000 digits mlp [red] · he depth 3 seed 0 (1.2 s)")
    )
    assert "[3/6] failed 000000000001 digits mlp [red] · he depth 3 seed 1 (2.0 s)" in shown[False]
    assert shown[False].count("[2/6]") == shown[False].count("RuntimeError: [bold]") == 1


# --- where nothing can be written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_folder_that_cannot_be_made_is_named(cli, tmp_path, command):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    said = cli(command, *SMALL, "seed=0", f"paths.{'runs' if command == 'train' else 'sweeps'}={below}")
    assert said.code == 1
    assert re.fullmatch(rf"gradflow: {re.escape(str(below))}\S*: \w.*\n", said.err)


@pytest.fixture
def tiny_disk(tmp_path):
    """Mounts a disk of so many bytes, and makes it larger when called again."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def size(kib: int, *options: str) -> Path:
        how = ",".join([*options, f"size={kib}k"])
        try:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", disk], capture_output=True)
        except FileNotFoundError:
            pytest.skip("mount is not there")
        if done.returncode:
            pytest.skip("not allowed to mount a disk")
        return disk

    yield size
    if os.path.ismount(disk):
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("kib", [4, 16, 32])
def test_a_full_disk_is_told_in_a_line_with_its_path_and_the_run_can_be_had_later(cli, tiny_disk, kib):
    disk = tiny_disk(kib)
    words = "train", *SMALL, "trainer.checkpoint_every_n_steps=5", f"paths.runs={disk / 'runs'}"
    said = cli(*words)
    assert (said.code, said.out) == (1, "")
    line, *more = said.err.splitlines()
    (path,) = (disk / "runs").iterdir()
    assert line.startswith("gradflow: ")
    assert str(path) in line
    assert "No space left on device" in line
    assert more in ([], [f"  traceback: {path / 'status.json'}"])
    assert not is_done(path)
    assert [file.name for file in path.rglob(".*") if file.name != ".lock"] == []
    tiny_disk(2000, "remount")
    assert cli(*words).code == 0
    assert is_done(path)


def test_a_full_disk_under_a_sweeps_folder_is_named(cli, tiny_disk, tmp_path):
    disk = tiny_disk(4)
    said = cli("sweep", *SMALL, "seed=0,1", f"paths.sweeps={disk}")
    assert said.code == 1
    assert re.fullmatch(rf"gradflow: {disk}\S*: No space left on device\n", said.err)
    assert not list((tmp_path / "runs").rglob("*"))


# --- looking at folders ---------------------------------------------------------------------------------------------


def test_a_table_is_written_in_every_format(cli, baseline):
    for name, file in (
        ("md", "results.md"),
        ("csv", "results.csv"),
        ("latex", "results.tex"),
        ("typst", "results.typ"),
    ):
        assert cli("table", baseline.folder, "--format", name).out == (baseline.folder / file).read_text()
    said = cli("table", baseline.shell.runs, "--format", "csv", "--rows", "seed, depth", "--value", "steps,verdict")
    header, *rows = said.out.splitlines()
    assert header.startswith("seed,depth,steps")
    assert [row.split(",")[:3] for row in rows] == [[str(seed), "2", "60.0"] for seed in range(4)]
    assert "test" in cli("table", baseline.folder).out


@pytest.mark.parametrize("option", ["--rows", "--cols", "--value", "--by", "--stat"])
def test_what_no_table_has_leaves_with_2(cli, baseline, option):
    said = cli("table", baseline.folder, option, "dpeth")
    assert said.code == 2
    assert f"gradflow: {option} dpeth: unknown; allowed: " in said.err


def test_status_and_report_of_a_sweep_of_its_runs_and_of_one_run(cli, baseline, tmp_path):
    assert cli("status", baseline.folder).out == cli("status", baseline.shell.runs).out == "4 runs: 4 completed\n"
    run = baseline.shell.runs / baseline.run_ids[0]
    assert cli("status", run).out == "1 runs: 1 completed\n"
    said = cli("report", run, "--out", tmp_path / "page")
    assert said.out == f"{tmp_path / 'page' / 'report.html'}\n"
    assert "1 runs: 1 completed" in (tmp_path / "page" / "report.html").read_text()


def test_what_could_not_be_read_is_told_beside_every_view(cli, records):
    records.add(norms={0: [1.0, 1.0]})
    broken = records.add(seed=1)
    (broken / "result.json").write_text("{")
    folder = records.sweep()
    for command in ("table", "report", "status"):
        said = cli(command, folder)
        assert said.code == 0
        assert f"{broken / 'result.json'}: truncated or not JSON; skipped" in said.out + said.err


def test_a_report_into_a_folder_that_cannot_be_made_is_told_in_a_line(cli, records):
    records.add()
    folder = records.sweep()
    said = cli("report", folder, "--out", folder / "plan.json" / "below")
    assert said.code == 1
    assert re.fullmatch(rf"gradflow: {folder}\S*: \w.*\n", said.err)


# --- diagnose -----------------------------------------------------------------------------------------------------


def test_a_run_is_diagnosed_by_its_folder_or_its_id_and_a_sweep_in_lines(cli, records, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = records.add(norms={s: [1e-9, 1.0] for s in (0, 10, 20)}, accuracy=0.5)
    said = cli("diagnose", path)
    assert (said.code, said.err) == (0, "")
    assert "verdict: vanishing" in said.out
    assert cli("diagnose", path.name).out == said.out  # in the folder of runs
    records.add(norms={0: [1.0, 1.0]}, seed=1)
    said = cli("diagnose", records.sweep())
    assert [word for word in ("vanishing", "healthy") if word in said.out] == ["vanishing", "healthy"]
    assert json.loads(cli("diagnose", path, "--format", "json").out)["verdict"] == "vanishing"


def test_a_run_just_trained_is_diagnosed_as_its_record_says(cli):
    assert cli("train", *SMALL).code == 0
    (path,) = Path(os.environ["GRADFLOW_RUNS_DIR"]).iterdir()
    told = json.loads(cli("diagnose", path, "--format", "json").out)
    result = read(path).result
    assert (told["verdict"], told["signs"]) == (result["verdict"], result["signs"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "gradflow: nowhere: no such folder, and no run in .* has this id"),
        (["{run}", "--thresholds", "none.yaml"], "gradflow: none.yaml: no such file"),
        (
            ["{run}", "--thresholds", "{file}"],
            r"gradflow: \S+: gradient_ratio_lo: unknown threshold; .*'gradient_ratio_low'",
        ),
        (["{runs}/.."], "gradflow: .*: holds neither a plan.json nor runs"),
    ],
)
def test_a_diagnosis_of_nothing_or_by_nonsense_leaves_with_2_and_a_line(cli, records, tmp_path, words, said):
    file = tmp_path / "mine.yaml"
    file.write_text("gradient_ratio_lo: 1\n")
    run = records.add()
    told = cli("diagnose", *(word.format(run=run, runs=run.parent, file=file) for word in words))
    assert (told.code, told.out) == (2, "")
    (line,) = told.err.splitlines()
    assert re.match(said, line)


# --- doctor -------------------------------------------------------------------------------------------------------


def grades(said: Said) -> dict[str, str]:
    return {
        match[2].strip(): match[1] for match in re.finditer(r"^(ok|note|problem) +(\S.*?)  ", said.out, re.MULTILINE)
    }


def test_the_doctor_finds_a_machine_that_is_ready(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    said = cli("doctor", f"paths.data={tmp_path / 'data'}")
    assert said.code == 0
    found = grades(said)
    packages = {"python", "gradflow", "torch", "lightning", "hydra-core", "wandb"}
    for name in (*packages, "devices", "data: digits", "runs", "sweeps"):
        assert found[name] in ("ok", "note"), name
    assert found["data: mnist"] == found["data: cifar10"] == "note"
    assert gradflow.__version__ in said.out
    assert not (tmp_path / "runs").exists()  # looking leaves nothing behind


def test_the_doctor_finds_data_where_they_are(cli, monkeypatch, data_dir):
    monkeypatch.setenv("COLUMNS", "200")
    found = grades(cli("doctor", f"paths.data={data_dir}"))
    assert found["data: mnist"] == found["data: cifar10"] == "ok"


@pytest.mark.parametrize("name", ["runs", "sweeps"])
def test_the_doctor_finds_a_folder_that_cannot_be_written(cli, monkeypatch, tmp_path, name):
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    said = cli("doctor", f"paths.{name}={below}")
    assert said.code == 1
    assert [what for what, grade in grades(said).items() if grade == "problem"] == [name]
    assert f"{below} cannot be written" in said.out


@pytest.mark.parametrize("key", [None, "5ec2e7" * 6 + "abcd"])
def test_the_doctor_sees_whether_there_is_a_key_and_does_not_show_it(cli, monkeypatch, key):
    monkeypatch.setenv("COLUMNS", "200")
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    said = cli("doctor", "logger.mode=online")
    assert said.code == (0 if key else 1)
    assert "mode online" in said.out
    assert key is None or key not in said.out + said.err


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_doctor_and_train_agree_on_wandb_whatever_its_own_variable_says(cli, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert (cli("doctor", "logger.mode=online").code == 0) == (cli("train", "logger.mode=online").code == 0)


# --- predict ------------------------------------------------------------------------------------------------------


TANH = "activation=tanh", "init=mean_field", "init.sigma_w2=1.5", "init.sigma_b2=0.05"


def test_predict_tells_what_theory_says_and_where_the_picture_is(cli, tmp_path):
    said = cli("predict", "depth=50", *TANH, "--out", tmp_path / "out")
    assert (said.code, said.err) == (0, "")
    for words in ("mlp tanh · mean_field depth 50", "ordered", "0.9386", "0.418", "1.761", "to about depth 95 (6 ξ_c)"):
        assert words in said.out
    picture = Path("".join(said.out.splitlines()[-1:]))
    assert picture.parent == tmp_path / "out"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.with_suffix(".svg").exists()
    assert not (tmp_path / "runs").exists()  # nothing was trained


def test_predict_says_why_there_is_no_prediction(cli, tmp_path):
    said = cli("predict", "model=resnet", "task.view=image", "depth=3", "--out", tmp_path / "out")
    assert said.code == 0
    assert "no prediction over blocks: its convolutions are padded with zeros" in said.out
    assert not (tmp_path / "out").exists()


def test_predict_of_a_recurrent_network_has_a_horizon(cli, tmp_path):
    overrides = "model=recurrent", "task=adding", "cell=rnn", "recurrent_init=gaussian", "recurrent_init.std=0.05"
    said = cli("predict", *overrides, "width=100", "--out", tmp_path)
    assert said.code == 0
    assert "memory horizon" in said.out
    assert "steps back" in said.out


def test_predict_draws_a_phase_diagram(cli, tmp_path):
    said = cli("predict", "--phase-diagram", "activation=tanh", "--out", tmp_path)
    assert (said.code, said.out.strip()) == (0, str(tmp_path / "phase_diagram-tanh.png"))
    assert (tmp_path / "phase_diagram-tanh.svg").exists()


def test_predict_of_a_persons_own_activation(cli, own, importable, tmp_path):
    said = cli("predict", "activation=gelu", "depth=5", "--config-dir", own / "conf", "--out", tmp_path)
    assert said.code == 0
    assert "activation=torch.nn.GELU is taken to have no kinks but at 0" in said.out
    assert Path(said.out.splitlines()[-1]).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "depht=50"),
        ("predict", "depth=0"),
        ("predict", "init=mean_feild"),
        ("predict", "depth=2,3"),
        ("predict", "activation=crelu", "width=7"),
        ("predict", "--out", "picture.png"),
        ("predict", "--phase-diagram", "activation=swiglu"),
        ("predict", "--phase-diagram", "activation=leaky_relu", "activation.slope=-1"),
    ],
    ids=" ".join,
)
def test_a_mistake_in_what_is_to_be_predicted_leaves_with_2_and_one_line(cli, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    said = cli(*words)
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(r"gradflow: .+\n", said.err)
    assert not (tmp_path / "predictions").exists()


def test_predicting_does_not_wait_for_lightning():
    code = "import sys, gradflow.runs.prediction, gradflow.results.foretold; print('lightning' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
