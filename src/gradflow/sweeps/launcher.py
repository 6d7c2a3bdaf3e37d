"""Where a sweep runs: `launcher=local` or `launcher=slurm`, files in `conf/launcher` that a person can add to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradflow.errors import ConfigError, choose_from
from gradflow.runs.compose import Composer
from gradflow.runs.config import explain

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Workers(BaseModel):
    """Worker processes on one machine, or in one task of a cluster.

    Attributes:
        jobs: worker processes; null for as many as the cores, or the GPUs, hold.
        workers_per_gpu: a small network fills a small part of a GPU.
        max_attempts: how often a run is tried whose process died (out of memory, SIGKILL). A run that ends in an
            exception is not tried again by itself: it would end so again.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    jobs: Count | None
    workers_per_gpu: Count
    max_attempts: Count


class Local(Workers):
    """This machine."""

    kind: Literal["local"]


class Slurm(Workers):
    """One array of tasks, each with `Workers` of its own.

    Attributes:
        runs_per_task: a task's start-up costs seconds, so that it had better train several runs.
        concurrent_tasks: how many tasks of the array may run at once; null for no limit.
        gpus_per_task, cpus_per_task, memory: what a task asks for; memory in Slurm's words, e.g. '16G'.
        time: limit of a task in Slurm's words, e.g. '02:00:00' or '1-00:00:00'.
        signal_seconds: how long before the limit a task checkpoints and requeues itself.
        partition, account, qos, constraint: as `sbatch` takes them.
        setup: lines of shell before the first run: modules, a virtual environment.
        container: a prefix of the command, e.g. 'apptainer exec --nv gradflow.sif'.
        options: further options of `sbatch`, e.g. '--exclude=node7'.
    """

    kind: Literal["slurm"]
    runs_per_task: Count
    concurrent_tasks: Count | None
    gpus_per_task: Natural
    cpus_per_task: Count
    memory: str | None
    time: str
    signal_seconds: Count
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    setup: list[str]
    container: str | None
    options: list[str]


Launcher = Local | Slurm
KINDS: dict[str, type[Local] | type[Slurm]] = {"local": Local, "slurm": Slurm}


def read_launcher(composer: Composer, words: Sequence[str]) -> Launcher:
    """The launcher that overrides such as 'launcher=slurm' and 'launcher.time=00:10:00' ask for.

    Raises:
        ConfigError: for an unknown launcher, key or value.
    """
    name, values = "local", {}
    for override in composer.parse(words):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: a sweep has one launcher")
        if override.key_or_group == "launcher":
            name = str(override.value())
        else:
            values[override.key_or_group.removeprefix("launcher.")] = override.value()
    content = composer.file("launcher", name)
    kind = content.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"launcher/{name}.yaml: kind={kind}: unknown value; {choose_from(str(kind), KINDS)}")
    asked: dict[str, Any] = {**content, **{key: _text(key, value) for key, value in values.items()}}
    try:
        return KINDS[kind].model_validate(asked)
    except ValidationError as error:
        raise ConfigError(*explain(error, asked, "launcher.", list(KINDS[kind].model_fields))) from None


def _text(key: str, value: Any) -> Any:
    """Hydra reads 10 as a number where Slurm wants a word: minutes, a name of digits."""
    words = ("memory", "time", "partition", "account", "qos", "constraint")
    return str(value) if key in words and isinstance(value, int | float) else value
