"""Where a number becomes a sign: conf/diagnosis.yaml, typed and checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from gradflow.checked import Positive, Share
from gradflow.errors import ConfigError, choose_from
from gradflow.resources import conf_dir

FILE = "diagnosis.yaml"


@dataclass(frozen=True)
class Thresholds:
    """One number per sign; their meanings, units and sources stand in conf/diagnosis.yaml, from `told`."""

    gradient_ratio_low: Positive
    gradient_ratio_high: Positive
    zero_share: Share
    gradient_tiny: Positive
    subnormal_share: Share
    signal_ratio_low: Positive
    gradient_huge: Positive
    gradient_growth: Positive
    gradient_spike: Positive
    clipped_low: Positive
    slope_low: Positive
    jacobian_low: Positive
    jacobian_high: Positive
    update_ratio_low: Positive
    weight_change_low: Positive
    weight_change_late: Positive
    weight_norm_low: Positive
    weight_norm_high: Positive
    weights_near_zero: Share
    dead_units: Share
    dead_block: Share
    saturated_units: Share
    output_cosine: Share
    effective_rank: Positive
    horizon_share: Share
    time_ratio_low: Positive
    time_ratio_high: Positive
    chance_errors: Positive
    skill_low: Share
    loss_fall: Share
    loss_stop_share: Share
    loss_stop_fall: Share
    loss_irregular: Share
    loss_spike: Positive


@dataclass(frozen=True)
class Told:
    """A threshold as its file tells it."""

    value: float
    meaning: str
    source: str


@cache
def thresholds() -> Thresholds:
    """Those of conf/diagnosis.yaml.

    Raises:
        ConfigError: what `read` finds, or if one is missing.
    """
    found = read(conf_dir() / FILE)
    missing = [f"{conf_dir() / FILE}: {field.name}: missing" for field in fields(Thresholds) if field.name not in found]
    if missing:
        raise ConfigError(*missing)
    return Thresholds(**found)


def overridden(file: Path) -> Thresholds:
    """`thresholds()` with those that a person's own file names.

    Raises:
        ConfigError: what `read` finds.
    """
    return replace(thresholds(), **read(file))


def read(file: Path) -> dict[str, float]:
    """The thresholds that a file names, each as `name: number` or with value, meaning and source.

    Raises:
        ConfigError: a line per mistake: a file that is not there or not YAML, a name that is no threshold, a number
            that is none or out of its range.
    """
    values = _yaml(file)
    hints = get_type_hints(Thresholds, include_extras=True)
    faults, found = [], {}
    for name, given in values.items():
        if name not in hints:
            faults.append(f"{file}: {name}: unknown threshold; {choose_from(name, hints)}")
            continue
        stranger = (
            [key for key in given if key not in ("value", "meaning", "source")] if isinstance(given, dict) else []
        )
        if stranger:
            allowed = choose_from(stranger[0], ("value", "meaning", "source"))
            faults.append(f"{file}: {name}.{stranger[0]}: unknown key; {allowed}")
            continue
        number = given.get("value") if isinstance(given, dict) else given
        try:
            found[str(name)] = float(TypeAdapter(hints[name]).validate_python(_exact(number)))
        except ValidationError as error:
            why = error.errors()[0]["msg"].replace("Input should", "should")
            faults.append(f"{file}: {name}={number}: {why}")
    if faults:
        raise ConfigError(*faults)
    return found


def told() -> dict[str, Told]:
    """Every threshold of conf/diagnosis.yaml with its meaning and source."""
    values = _yaml(conf_dir() / FILE)
    return {
        name: Told(value, values[name]["meaning"], values[name]["source"])
        for name, value in asdict(thresholds()).items()
    }


def _exact(number: Any) -> Any:
    """'1e-3' is a word in YAML 1.1 and a number to people; true is a number to Python and none to people."""
    if isinstance(number, str):
        try:
            return float(number)
        except ValueError:
            return number
    return str(number).lower() if isinstance(number, bool) else number


def _yaml(file: Path) -> dict[Any, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; see conf/{FILE} for its form") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML ({' '.join(str(error).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: holds no thresholds; it needs lines such as 'gradient_ratio_low: 1.0e-4'")
    return values
