"""Where a sweep runs: `launcher=local` or `launcher=slurm`, files in `conf/launcher` that a person can add to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gradflow.errors import ConfigError, choose_from
from gradflow.runs.compose import Composer
from gradflow.runs.config import explain

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


FIRST_MINUTES = 120  # seconds that a task needs before it is told to stop: Slurm may tell it a minute early
# What gradflow gives sbatch itself, and the key that decides about it.
OWN_OPTIONS = {
    **{name: f"launcher.{name}" for name in ("time", "partition", "account", "qos", "constraint")},
    **{"signal": "launcher.signal_seconds", "mem": "launcher.memory", "cpus-per-task": "launcher.cpus_per_task"},
    **{"gres": "launcher.gpus_per_task", "job-name": "sweep.name", "array": "launcher.concurrent_tasks"},
    **dict.fromkeys(("output", "open-mode", "requeue", "no-requeue", "wrap", "parsable"), ""),
}


def _one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("should be one line of text")
    return text


def _words(text: str) -> str:
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(f"should be words as a shell reads them ({error})") from None
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class Workers(BaseModel):
    """Worker processes on one machine, or in one task of a cluster.

    Attributes:
        jobs: worker processes; null for as many as the cores, or the GPUs, hold.
        workers_per_gpu: a small network fills a small part of a GPU.
        pack: runs that a worker trains at once, as one network where they have one graph; see `gradflow.runs.packed`.
        max_attempts: how often a run is tried whose process died (out of memory, SIGKILL). A run that ends in an
            exception is not tried again by itself: it would end so again.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    jobs: Count | None
    workers_per_gpu: Count
    pack: Count = 1
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
    memory: Line | None
    time: Line
    signal_seconds: Count
    partition: Line | None
    account: Line | None
    qos: Line | None
    constraint: Line | None
    setup: list[Line]
    container: Annotated[Line, AfterValidator(_words)] | None
    options: list[Line]

    @field_validator("options")
    @classmethod
    def _other_options(cls, options: list[str]) -> list[str]:
        for option in options:
            name = option.removeprefix("--").partition("=")[0]
            if not re.match(r"--[a-z]|-[A-Za-z]", option):
                raise ValueError(f"'{option}' should be an option of sbatch, e.g. --exclude=node7")
            if option.startswith("--") and name in OWN_OPTIONS:
                other = f"; use {OWN_OPTIONS[name]}" if OWN_OPTIONS[name] else ""
                raise ValueError(f"gradflow sets --{name} itself{other}")
        return options

    @field_validator("time")
    @classmethod
    def _limit(cls, time: str) -> str:
        seconds(time)
        return time

    @field_validator("signal_seconds")
    @classmethod
    def _time_to_train(cls, ahead: int, info: ValidationInfo) -> int:
        limit = seconds(info.data["time"]) if "time" in info.data else None
        if limit is not None and limit < ahead + FIRST_MINUTES:
            raise ValueError(
                f"leaves no time to train before launcher.time={info.data['time']}: Slurm may tell a task to stop a "
                "minute earlier still, and it has to start; the limit should be at least "
                f"{-(-(ahead + FIRST_MINUTES) // 60)} minutes"
            )
        return ahead


def seconds(time: str) -> int | None:
    """A time limit in Slurm's words, in seconds; None for no limit.

    Raises:
        ValueError: if it is none.

    >>> seconds("90"), seconds("02:30:00"), seconds("1-12"), seconds("UNLIMITED")
    (5400, 9000, 129600, None)
    """
    if time.upper() in ("UNLIMITED", "INFINITE"):
        return None
    days, dash, rest = time.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in [*parts, *([days] if dash else [])]) or len(parts) > 3:
        raise ValueError(
            "should be minutes, minutes:seconds, hours:minutes:seconds, days-hours or days-hours:minutes:seconds, "
            "e.g. '02:00:00'"
        )
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, rest_of_minute = [*numbers, 0, 0][:3]
    else:
        hours, minutes, rest_of_minute = {1: [0, *numbers, 0], 2: [0, *numbers], 3: numbers}[len(numbers)]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest_of_minute


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
    if name != kind:  # a person's own file says what differs
        content = {**composer.file("launcher", kind), **content}
    asked: dict[str, Any] = {**content, **{key: _text(key, value) for key, value in values.items()}}
    try:
        return KINDS[kind].model_validate(asked)
    except ValidationError as error:
        raise ConfigError(*explain(error, asked, "launcher.", list(KINDS[kind].model_fields))) from None


def _text(key: str, value: Any) -> Any:
    """Hydra reads 10 as a number where Slurm wants a word: minutes, a name of digits."""
    words = ("memory", "time", "partition", "account", "qos", "constraint")
    return str(value) if key in words and isinstance(value, int | float) else value
