"""A plan before it is trained, and what of it is trained when the words are typed again."""

import json

import pytest

from gradflow.runs.planfile import read_plan

SMALL = ("width=8", "trainer.max_steps=20", "hardware.device=cpu", "logger.mode=disabled")


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "sweeps").glob("*"))


def test_a_plan_is_written_with_its_cost_and_nothing_trains(typed, tmp_path):
    said = typed("sweep", *SMALL, "depth=2,10", "seed=range(2)", "sweep.name=four", "--plan")
    assert said.code == 0, said.err
    assert "four: 4 runs, 0 done before, 4 to train" in said.out
    assert "to train:  4 missing" in said.out
    # 64 → 8 → … → 8 → 10 per example: stem, depth maps and head; 2 per product, thrice for both ways, 64 × 20 examples
    per_example = sum(2 * (64 * 8 + depth * 8 * 8 + 8 * 10) * 3 for depth in (2, 10)) * 2
    assert f"work:      {per_example * 64 * 20:.2g} floating-point operations" in said.out
    assert "time:      not known" in said.out
    plan = json.loads((tmp_path / "sweeps" / "four" / "plan.json").read_text())
    assert plan["name"] == "four"
    assert not list((tmp_path / "runs").glob("*"))


def test_a_dry_run_names_every_run_and_writes_nothing(typed, tmp_path):
    said = typed("sweep", *SMALL, "depth=2,3", "sweep.name=two", "--dry-run")
    assert said.code == 0, said.err
    assert said.out.count("missing   digits mlp relu · he_normal depth") == 2
    assert folders(tmp_path) == []
    assert not (tmp_path / "runs").exists()


def test_a_condition_drops_cells_and_an_impossible_cell_says_how_to_drop_it(typed, tmp_path):
    grid = ("activation=relu,maxout", "skip=none,residual", "depth=2")
    refused = typed("sweep", *SMALL, *grid, "--plan")
    assert refused.code == 2
    condition = "sweep.where=\"not (activation=='maxout' and skip=='residual')\""
    assert f"to leave them out: {condition}" in refused.err
    assert folders(tmp_path) == []
    said = typed("sweep", *SMALL, *grid, condition.replace('"', ""), "--plan")
    assert said.code == 0, said.err
    assert "3 runs, 0 done before, 3 to train" in said.out


def test_a_plan_under_way_is_frozen(typed, tmp_path):
    """A file that changes changes nothing in it, until it is planned anew."""
    own = tmp_path / "conf" / "activation"
    own.mkdir(parents=True)
    file = own / "mine.yaml"
    words = ("sweep", *SMALL, "depth=2,3", "activation=mine", "--config-dir", tmp_path / "conf", "--plan")

    def ids():
        (folder,) = folders(tmp_path)
        return [planned.run_id for planned in read_plan(tmp_path / "sweeps" / folder).runs]

    file.write_text("_target_: gradflow.models.activations.leaky_relu\nslope: 0.01\n")
    assert typed(*words).code == 0
    before = ids()
    file.write_text("_target_: gradflow.models.activations.leaky_relu\nslope: 0.2\n")
    again = typed(*words)
    assert "config files have changed since this plan was written" in again.out
    assert ids() == before
    anew = typed(*words, "--replan")
    assert "this plan takes the place of an earlier plan of 2 runs" in anew.out
    assert ids() != before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("launcher=slrum",), "launcher=slrum: unknown value; allowed: local, packed, slurm; did you mean 'slurm'?"),
        (
            ("launcher.jbos=2",),
            "launcher.jbos=2: unknown key; allowed: jobs, kind, max_attempts, pack, workers_per_gpu; did you mean "
            "'jobs'?",
        ),
        (
            ("launcher=slurm", "launcher.runs_per_task=0"),
            "launcher.runs_per_task=0: should be greater than or equal to 1",
        ),
        (("sweep.where=dpeth>2",), "did you mean 'depth'?"),
        (("sweep.where=depth>",), "sweep.where=depth>: cannot be read"),
        (("sweep.zip=[depth,width]",), "the choices differ in number"),
        (("--rerun", "abc"), "--rerun abc: no run of this plan"),
        (("--plan", "--dry-run"), "not allowed with"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_mistake_leaves_with_2_and_one_line(typed, tmp_path, words, told):
    said = typed("sweep", *SMALL[1:], "depth=2,3", "width=8", *words, *([] if "--plan" in words else ["--plan"]))
    assert said.code == 2
    assert told in said.err
    assert "Traceback" not in said.err
    assert folders(tmp_path) == []


def test_typed_again_only_what_is_missing_or_failed_or_asked_for_is_trained(new_shell, typed_here, own):
    shell = new_shell()
    shell.gate.touch()
    words = ("sweep", *SMALL, "depth=2", "activation=gelu,broken", "seed=0", "sweep.name=two", "-j", "1")
    words = (*words, "--config-dir", own / "conf")

    def attempts():
        return {
            status["labels"]["activation"].rpartition(".")[2]: (status["state"], status["attempt"])
            for status in (json.loads(file.read_text()) for file in shell.runs.glob("*/status.json"))
        }

    first = typed_here(shell, *words)
    assert first.returncode == 1
    assert attempts() == {"GELU": ("completed", 1), "Broken": ("failed", 1)}
    planned = typed_here(shell, *words, "--plan")
    assert "two: 2 runs, 1 done before, 1 to train" in planned.stdout
    assert "to train:  1 failed" in planned.stdout
    (done,) = [file.parent for file in shell.runs.glob("*/result.json")]
    before = (done / "result.json").read_bytes()
    again = typed_here(shell, *words, "--retry-failed", "--rerun", done.name[:6])
    assert again.returncode == 1, again.stderr
    assert "two: 2 runs, 0 done before, 2 to train" in again.stdout
    assert attempts() == {"GELU": ("completed", 1), "Broken": ("failed", 2)}
    assert (shell.runs / ".replaced" / f"{done.name}-1" / "result.json").read_bytes() == before
    results = [json.loads(text) for text in (before, (done / "result.json").read_bytes())]
    assert results[0]["metrics"] == results[1]["metrics"]


def test_the_plan_of_a_packed_sweep_says_which_runs_are_trained_alone_and_why(typed):
    grid = "depth=2", "width=8", "trainer.max_steps=5", "hardware.device=cpu", "logger.mode=disabled"
    said = typed("sweep", *grid, "seed=0,1,2", "dropout=0.0,0.1", "launcher=packed", "--dry-run")
    assert said.code == 0
    assert "note: 3 of 6 runs are trained alone: dropout=0.1 draws random numbers while it trains" in said.out
    single = typed("sweep", *grid, "activation=relu,tanh", "launcher=packed", "--dry-run")
    assert "note: 2 of 2 runs are trained alone: no other has a network of the same graph" in single.out
    assert "alone" not in typed("sweep", *grid, "activation=relu,tanh", "--dry-run").out
