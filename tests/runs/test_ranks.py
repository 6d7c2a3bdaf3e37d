"""Which of a run's processes this one is, by what srun and torchrun say; and what is said where it cannot be."""

import pytest

from gradflow import cli
from gradflow.runs.pairs import questioned
from gradflow.runs.preflight import preflight
from gradflow.runs.ranks import Launched, follows, launched, misplaced, only_one

# What a step of four tasks on two nodes sees, from a real one; `srun` alone says how many tasks the step has.
BATCH = {"SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "100"}
STEP = {
    **{"SLURM_STEP_ID": "3", "SLURM_STEP_NODELIST": "nowhere[1-2]", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"},
    **{"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"},
}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def inside(monkeypatch):
    """Puts this process into a job."""

    def put(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (BATCH, None),  # a batch script is no task of a step
        ({**BATCH, **STEP, "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({**BATCH, **STEP}, Launched("srun", 3, 4, 1, 2, "tcp://127.0.0.1:15103")),
        (
            {**BATCH, **STEP, "MASTER_ADDR": "gpu7", "MASTER_PORT": "1234"},
            Launched("srun", 3, 4, 1, 2, "tcp://gpu7:1234"),
        ),
        (TORCHRUN, Launched("torchrun", 1, 2, 1, None, "env://")),
        ({**BATCH, **STEP, **TORCHRUN}, Launched("torchrun", 1, 2, 1, None, "env://")),
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"WORLD_SIZE": "2", "RANK": "1"}, None),  # somebody's own variables
    ],
    ids=["nothing", "batch script", "step of one", "step", "told where", "torchrun", "both", "one of one", "own"],
)
def test_who_has_started_this_process(variables, expected):
    assert launched(variables) == expected


@pytest.mark.parametrize(
    ("variables", "words", "told"),
    [
        (STEP, ["devices=2", "num_nodes=2"], None),
        (STEP, ["devices=4"], "4 processes, but srun started 4 on 2 nodes: use --nodes=1 --ntasks-per-node=4"),
        (STEP, ["devices=4", "num_nodes=2"], "8 processes, but srun started 4 on 2 nodes"),
        (TORCHRUN, ["devices=2"], None),
        (TORCHRUN, ["devices=4"], "4 processes, but torchrun started 2"),
        (TORCHRUN, [], None),  # of one process
    ],
)
def test_processes_that_are_not_those_of_the_config_are_refused(configure, inside, variables, words, told):
    inside(variables)
    config = configure(*(f"trainer.{word}" for word in words))
    line = misplaced(config)
    if told is None:
        assert line is None
        assert follows(config) == bool(words)  # both are not rank 0
    else:
        assert told in line
        assert preflight(config) == [line]


def test_what_plans_many_runs_is_started_once(inside, tmp_path, capsys):
    assert only_one("sweep") is None
    inside(STEP)
    with pytest.raises(SystemExit) as left:
        cli.main(["sweep", "depth=2,3", f"paths.sweeps={tmp_path}", f"paths.runs={tmp_path}"])
    assert left.value.code == 2
    assert "srun started this command 4 times" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_closed_form_is_refused_and_statistics_of_shares_are_pointed_out(configure):
    ridge = configure("task=narma10", "model=esn", "trainer=ddp")
    assert "model.readout=ridge is solved in one process" in "".join(preflight(ridge))
    for words, told in (
        (["norm=batch"], "norm.sync=true"),
        (["norm=batch", "norm.sync=true"], None),
        (["task=adding", "model=recurrent", "cell=lstm", "cell.recurrent_norm=batch"], "cell.recurrent_norm=batch"),
    ):
        notes = [note for note in questioned(configure(*words, "trainer=ddp")) if "processes" in note]
        assert [told in note for note in notes] == ([] if told is None else [True])
        assert [note for note in questioned(configure(*words)) if "processes" in note] == []
