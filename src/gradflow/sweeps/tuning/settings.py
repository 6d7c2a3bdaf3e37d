"""How a search is made: `conf/tune` and the words `tune.…`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hydra.core.override_parser.types import Override
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gradflow.checked import Seed
from gradflow.errors import ConfigError
from gradflow.runs.compose import Composer
from gradflow.runs.config import explain
from gradflow.sweeps.launcher import Launcher, read_launcher

LISTS = ("overrides", "per", "zip", "metric", "seeds")


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("names one twice")
    return values


def _folder(name: str) -> str:
    if not name or name.startswith(".") or not name.isprintable() or set(name) & set("/\\"):
        raise ValueError("must be a plain folder name")
    return name


Count = Annotated[int, Field(ge=1)]
Words = Annotated[list[str], AfterValidator(_distinct)]


class Tune(BaseModel):
    """What a file in `conf/tune` holds, all of it in `default.yaml`; see there.

    TPE is the sampler unless told otherwise: it takes words and numbers, several objectives and trials side by side.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, AfterValidator(_folder)] | None
    overrides: list[str]
    space: dict[str, str | int | float | bool]
    per: Words
    zip: Words
    trials: Count
    sampler: Literal["tpe", "cmaes", "random", "grid", "qmc"]
    pruner: Literal["none", "median", "hyperband", "asha"]
    metric: Words | None
    at: Literal["best", "last"]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]
    final_seeds: Annotated[int, Field(ge=0)]
    seed: Seed


@dataclass(frozen=True)
class Asked:
    """A person's words, sorted.

    Attributes:
        tune: how to search.
        launcher: where.
        words: of the config, some of them with several values.
    """

    tune: Tune
    launcher: Launcher
    words: list[str]


def read_words(composer: Composer, typed: Sequence[str]) -> Asked:
    """Sort a person's words.

    Raises:
        ConfigError: for those that cannot be read, and unknown keys and values of `tune`.
    """
    name, own, values, launcher = "default", [], {}, []
    for override in composer.parse(typed):
        line, key = str(override.input_line), override.key_or_group
        if key == "tune":
            name = _one_word(override)
        elif key.startswith("tune."):
            values[key.removeprefix("tune.")] = _value(override)
        elif key == "launcher" or key.startswith("launcher."):
            launcher.append(line)
        else:
            own.append(line)
    content = {**composer.file("tune", "default"), **(composer.file("tune", name) if name != "default" else {})}
    asked = {**content, **values}
    try:
        tune = Tune.model_validate(asked)
    except ValidationError as error:
        raise ConfigError(*explain(error, asked, "tune.", list(Tune.model_fields))) from None
    typed_keys = {override.key_or_group for override in composer.parse(own)}
    base = [word for word in tune.overrides if composer.parse([word])[0].key_or_group not in typed_keys]
    space = [f"{key}={_plain(value)}" for key, value in tune.space.items() if key not in typed_keys]
    return Asked(tune, read_launcher(composer, launcher), [*base, *space, *own])


def _value(override: Override) -> Any:
    """`tune.per=a,b` is a list, like `tune.per=[a,b]`, and so is one word alone."""
    key = override.key_or_group.removeprefix("tune.")
    if override.is_sweep_override():
        if key not in LISTS or not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: takes one value")
        return [
            each if isinstance(each, int) else str(getattr(each, "text", each)) for each in override.sweep_iterator()
        ]
    value = override.value()
    return [value] if key in LISTS and not isinstance(value, list) and value is not None else value


def _one_word(override: Override) -> str:
    if override.is_sweep_override() or not isinstance(override.value(), str):
        raise ConfigError(f"{override.input_line}: must be the name of one file in conf/tune")
    return str(override.value())


def _plain(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
