"""What a resolved config may hold: the typed core. The keys of factors are those of their Python definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gradflow.checked import BelowOne, Count, NonNegative, Positive, Seed, Several
from gradflow.errors import ConfigError, choose_from
from gradflow.instruments.names import NAMES
from gradflow.runs.wandb_project import project_name


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _is_target(node: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("_target_"), str):
        raise ValueError("needs a _target_, the Python definition it stands for")
    return node


def _is_duration(text: object) -> object:
    parts = str(text).split(":")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise ValueError("must look like DD:HH:MM:SS, e.g. 00:00:10:00 for ten minutes")
    return text


def _is_word(value: object) -> object:
    """`precision=32` reads as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_power_of_two(value: float) -> float:
    if value <= 0 or float(value).hex().rpartition("p")[0] not in ("0x1.0000000000000", "0x1.0"):
        raise ValueError("must be a power of two, so that dividing it out is exact")
    return value


Node = Annotated[dict[str, Any], AfterValidator(_is_target)]

# Choices of one value each; 'remedy' is a list of them. Those of OPTIONAL are None for models that have no such part.
FACTORS = (
    "task", "model", "cell", "activation", "recurrent_init", "init", "norm", "skip", "optimizer", "scheduler"
)  # fmt: skip
OPTIONAL = ("cell", "recurrent_init")
NUMBERS = ("depth", "width", "dropout", "alpha_dropout", "input_noise", "label_smoothing", "seed")


class Trainer(_Part):
    max_steps: Several
    max_epochs: Several | None
    max_time: Annotated[str, BeforeValidator(_is_duration)] | None
    val_every_n_steps: Several
    log_every_n_steps: Several
    checkpoint_every_n_steps: Several
    devices: Several
    num_nodes: Several
    stop_when_solved: bool = False


class Hardware(_Part):
    """What a run is computed on, and in which numbers: 'faster hardware' is one of the cures."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Annotated[Literal["32", "tf32", "bf16-mixed", "16-mixed", "64"], BeforeValidator(_is_word)]
    compile: bool
    threads: Several


class Logger(_Part):
    mode: Literal["offline", "online", "disabled"]
    project: Annotated[str, AfterValidator(project_name)]
    entity: str | None
    group: str | None
    tags: list[str]
    images: Count
    wait_seconds: Positive


def _is_measured(value: object) -> object:
    """A list of instruments stands for each at the common interval."""
    if isinstance(value, list):
        value = dict.fromkeys(value)
    if isinstance(value, dict):
        for name in value:
            if name not in NAMES and "." not in str(name):
                raise ValueError(f"no instrument is called '{name}'; {choose_from(name, NAMES)}")
    return value


class Instruments(_Part):
    """What is watched. `measure` has the interval of each instrument, null for the common one. Those of the time axis
    act on networks with recurrent layers."""

    every_n_steps: Several | None
    measure: Annotated[dict[str, Several | None], BeforeValidator(_is_measured)]
    time_every_n_steps: Several | None
    time_segments: Several | None
    time_batch: Several
    time_quantities: list[Literal["time_grad", "jacobian_time", "forget_leak", "lyapunov"]]
    loss_scale: Annotated[float, AfterValidator(_is_power_of_two)] | None

    def intervals(self) -> dict[str, int]:
        """Each instrument's interval."""
        common = self.every_n_steps
        return {name: n for name, own in self.measure.items() if (n := own if own is not None else common) is not None}


class Paths(_Part):
    runs: str
    sweeps: str
    data: str


class Config(_Part):
    """One run's resolved config."""

    task: Node
    model: Node
    cell: Node | None = None
    activation: Node
    recurrent_init: Node | None = None
    init: Node
    norm: Node
    skip: Node
    optimizer: Node
    scheduler: Node
    remedy: dict[str, Node]
    trainer: Trainer
    hardware: Hardware
    logger: Logger
    instruments: Instruments
    depth: Several
    width: Several | Annotated[list[Several], Field(min_length=1)]
    dropout: BelowOne
    alpha_dropout: BelowOne
    input_noise: NonNegative
    label_smoothing: BelowOne
    seed: Seed
    paths: Paths


def validate(values: dict[str, Any]) -> Config:
    """The typed config.

    Raises:
        ConfigError: one line per unknown or missing key, wrong type or impossible value.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*explain(error, values)) from None
    instruments = config.instruments
    without = set(instruments.measure) - set(instruments.intervals())
    if without:
        raise ConfigError(
            f"instruments.measure={','.join(sorted(without))}: no interval; set instruments.every_n_steps or "
            f"instruments.measure.{min(without)} to a number of steps"
        )
    infinite = [
        f"{key}={value}: must be a finite number" for key, value in _numbers(values) if not math.isfinite(value)
    ]
    if infinite:
        raise ConfigError(*infinite)
    return config


def explain(
    error: ValidationError, values: dict[str, Any], prefix: str = "", known: list[str] | None = None
) -> list[str]:
    """pydantic's findings as lines that name the key, the value, what is allowed and the nearest match.

    Args:
        error: what pydantic found.
        values: what it looked at.
        prefix: of the keys, e.g. 'optimizer.'.
        known: the allowed keys, where `Config` does not say.
    """
    lines: dict[str, str] = {}
    for finding in error.errors():
        path = [str(part) for part in finding["loc"]]
        where = _value_at(values, path)
        key = prefix + ".".join(path if where is not None else path[:1])
        while where is None and len(path) > 1:  # pydantic names the branch of a union last
            path = path[:-1]
            where = _value_at(values, path)
            key = prefix + ".".join(path)
        if finding["type"] == "extra_forbidden":
            allowed = known if known is not None else known_keys(path[:-1])
            lines[key] = f"{key}={_shown(finding['input'])}: unknown key; {choose_from(path[-1], allowed)}"
        elif finding["type"] == "missing":
            lines[prefix + ".".join(map(str, finding["loc"]))] = (
                f"{prefix + '.'.join(map(str, finding['loc']))}: missing; it needs a value"
            )
        elif finding["type"] == "literal_error":
            words = [word.strip().strip("'") for word in _words(finding["ctx"]["expected"])]
            said = lines.get(key, f"{key}={_shown(finding['input'])}: unknown value")
            lines[key] = f"{said}; {choose_from(finding['input'], words)}"
        else:
            message = finding["msg"].removeprefix("Value error, ").replace("Input should", "should")
            before = lines.get(key)
            if before is None:
                lines[key] = f"{key}={_shown(finding['input'])}: {message}"
            elif message not in before:
                lines[key] = f"{before}, or {message}"
    return list(lines.values())


def known_keys(path: list[str]) -> list[str]:
    """The keys that the typed core allows below a path."""
    part: Any = Config
    for name in path:
        part = part.model_fields[name].annotation
    return list(part.model_fields)


def _numbers(values: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every float of a config, with its key."""
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from _numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for inner in values:
            yield from _numbers(inner, key)
    elif isinstance(values, float):
        yield key, values


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(",")


def _value_at(values: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return None
    return values if values is not None else "null"


def _shown(value: Any) -> str:
    """A value as a person would type it, cut short."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
