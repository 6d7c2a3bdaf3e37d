"""What may be said of where a sweep runs, and what is answered to the rest."""

import pytest

from gradflow.errors import ConfigError
from gradflow.runs.compose import composer
from gradflow.sweeps.launcher import read_launcher, seconds


def read(*words, config_dir=None):
    with composer(config_dir) as compose:
        return read_launcher(compose, words)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("30:15", 1815),
        ("02:30:00", 9000),
        ("1-12", 129600),
        ("1-00:30", 88200),
        ("2-01:02:03", 176523),
        ("UNLIMITED", None),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(time, expected):
    assert seconds(time) == expected


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["launcher.time=abc"], "launcher.time=abc: should be minutes, minutes:seconds, hours:minutes:seconds"),
        (["launcher.time=1:2:3:4"], "launcher.time=1:2:3:4: should be minutes"),
        (["launcher.time=3"], "launcher.signal_seconds=120: leaves no time to train before launcher.time=3"),
        (["launcher.options=['--array=3']"], "gradflow sets --array itself; use launcher.concurrent_tasks"),
        (["launcher.options=['--time=3']"], "gradflow sets --time itself; use launcher.time"),
        (["launcher.options=['--no-requeue']"], "gradflow sets --no-requeue itself"),
        (["launcher.options=[exclude]"], "'exclude' should be an option of sbatch, e.g. --exclude=node7"),
        (["launcher.container='apptainer exec \"a'"], "should be words as a shell reads them"),
        (['launcher.partition="a\tb"'], "should be one line of text"),
        (["launcher.partiton=gpu"], "launcher.partiton=gpu: unknown key; .*did you mean 'partition'"),
        (["launcher.runs_per_task=0"], "launcher.runs_per_task=0: should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(words, line):
    with pytest.raises(ConfigError, match=line) as refused:
        read("launcher=slurm", *words)
    assert len(refused.value.lines) == 1


def test_numbers_are_words_where_slurm_wants_words():
    launcher = read("launcher=slurm", "launcher.time=90", "launcher.account=1234", "launcher.memory=4000")
    assert (launcher.time, launcher.account, launcher.memory) == ("90", "1234", "4000")


def test_a_cluster_of_ones_own_says_what_differs(tmp_path):
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "mycluster.yaml").write_text("kind: slurm\npartition: gpu\nruns_per_task: 3\n")
    own, given = (
        read("launcher=mycluster", "launcher.runs_per_task=4", config_dir=str(tmp_path)),
        read("launcher=slurm"),
    )
    assert own == given.model_copy(update={"partition": "gpu", "runs_per_task": 4})
