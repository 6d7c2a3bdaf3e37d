"""One override on a composed config, as Hydra itself sets it, or the line that says what is wrong with it."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gradflow.errors import choose_from

# Mappings whose keys a person chooses, as a list or a mapping that takes the place of the whole, or one by one.
OPEN = ("instruments.measure",)


def set_value(config: DictConfig, override: Override) -> str | None:
    """Set, add or delete one value; what is wrong with it, or None."""
    key, line = override.key_or_group, override.input_line
    parent, _, leaf = key.rpartition(".")
    holder = OmegaConf.select(config, parent) if parent else config
    if override.type is OverrideType.DEL:
        if not isinstance(holder, DictConfig) or leaf not in holder:
            return _unknown(config, key, str(line))
        with open_dict(holder):
            del holder[leaf]
        return None
    value, adds = override.value(), override.type is not OverrideType.CHANGE or parent in OPEN
    if not adds and (not isinstance(holder, DictConfig) or leaf not in holder):
        return _unknown(config, key, str(line))
    if key in OPEN and isinstance(value, list | dict):
        whole = dict.fromkeys(map(str, value)) if isinstance(value, list) else value
        OmegaConf.update(config, key, whole, merge=False)
        return None
    if isinstance(value, list) and isinstance(OmegaConf.select(config, key), DictConfig):
        return f"{line}: {key} takes one value; several make a sweep: {key}={','.join(map(str, value))}"
    if isinstance(value, dict) and isinstance(OmegaConf.select(config, key), DictConfig):
        strange = [str(name) for name in value if name not in OmegaConf.select(config, key)]
        if strange and override.type is OverrideType.CHANGE:
            return _unknown(config, f"{key}.{strange[0]}", str(line))
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=adds)
    except OmegaConfBaseException as error:
        return f"{line}: {str(error).splitlines()[0]}"
    return None


def _unknown(config: DictConfig, key: str, line: str) -> str:
    """The line for a key that is not there: the nearest at its own level, or elsewhere."""
    parent, _, leaf = key.rpartition(".")
    holder: Any = config
    walked: list[str] = []
    for part in parent.split(".") if parent else []:
        if not isinstance(holder, DictConfig) or part not in holder:
            leaf = part
            break
        holder = holder[part]
        walked.append(part)
    level = [str(k) for k in holder if k != "_target_"] if isinstance(holder, DictConfig) else []
    names = [".".join([*walked, name]) for name in level]
    return f"{line}: unknown key; {choose_from('.'.join([*walked, leaf]), names)}"
