"""From overrides to a resolved config, by Hydra's own grammar and defaults lists.

Hydra composes each combination of config files once; plain values (`depth=3`) are then set on a copy, as Hydra itself
does last, so that a plan of thousands of cells costs milliseconds each. Hydra accepts `+typo=1` and misspelt keys in
files without a word: here the composed config is checked against what its parts can take.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from gradflow.errors import ConfigError, choose_from
from gradflow.resources import conf_dir
from gradflow.runs.config import Config, validate
from gradflow.runs.setting import set_value

HIDDEN_GROUPS = ("sweep", "launcher", "tune", "paper", "hydra")  # not part of a run's config
LIST_GROUPS = ("remedy",)  # of which a run can have several values, in an order
OPTIONAL_GROUPS = ("cell", "recurrent_init", "experiment")  # null stands for no choice
NONE = "none"  # the value of such a group that stands for the empty list


class Composer:
    """Composes configs. Made by `composer()`.

    Args:
        loader: Hydra's, which knows the groups.
        config_dir: the person's own folder, if there is one.
    """

    def __init__(self, loader: ConfigLoader, config_dir: str | None = None) -> None:
        self.loader, self.config_dir = loader, config_dir
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}  # the cells of a grid repeat the same few texts
        self._composed: dict[tuple[str, ...], DictConfig | ConfigError] = {}
        self._values: dict[str, list[str]] = {}  # Hydra would look into the folders anew each time
        self._known: dict[str, bool] = {}
        self._loaded: dict[str, ConfigResult | None] = {}

    def groups(self) -> dict[str, list[str]]:
        """Every config group with its values."""
        names = self.loader.list_groups("")
        return {name: self.values(name) for name in sorted(names) if name not in HIDDEN_GROUPS}

    def values(self, group: str) -> list[str]:
        if group not in self._values:
            self._values[group] = list(self.loader.get_group_options(group))
        return self._values[group]

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Read overrides by Hydra's grammar.

        Raises:
            ConfigError: one line for each that cannot be read.
        """
        parsed, faults = [], []
        for text in overrides:
            try:
                if text not in self._parsed:
                    self._parsed[text] = self._parser.parse_overrides([text])[0]
                parsed.append(self._parsed[text])
            except (OverrideParseException, HydraException) as error:
                reason = str(error).splitlines()[0]
                key, equals, value = text.partition("=")
                way_out = f"""write '{key}="{value}"' to take the value literally""" if key and equals and value else ""
                faults.append(f"{text}: cannot be read ({reason}); {way_out or 'write key=value, e.g. depth=10'}")
        if faults:
            raise ConfigError(*faults)
        return parsed

    def expand(self, overrides: Sequence[str]) -> Iterator[list[str]]:
        """One list of plain overrides per cell of the grid: choices, ranges and globs multiply out."""
        axes: list[list[str]] = []
        for override in self.parse(overrides):
            if override.is_sweep_override():
                try:
                    key = override.get_key_element()
                    axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
                except HydraException as error:
                    raise ConfigError(f"{override.input_line}: {error}") from None
                if not axes[-1]:
                    raise ConfigError(f"{override.input_line}: matches nothing; {self._allowed(override)}")
            else:
                axes.append([str(override.input_line)])
        return (list(cell) for cell in itertools.product(*axes))

    def untyped(self, overrides: Sequence[str]) -> DictConfig:
        """The composed config, before its types are checked.

        Raises:
            ConfigError: for an unknown group, value or key, or a value that cannot be set.
        """
        groups, values, faults, absent = [], [], [], []
        for override in self.parse(overrides):
            name = override.key_or_group
            if not name:
                faults.append(f"{override.input_line}: no key before '='; write key=value, e.g. depth=10")
            elif override.is_sweep_override():
                faults.append(f"{override.input_line}: several values make a sweep; use 'gradflow sweep'")
            elif is_hidden(override):
                faults.append(f"{override.input_line}: unknown key for one run; {choose_from(name, self._top())}")
            elif self.is_group(override):
                if override.value() is None and name in OPTIONAL_GROUPS:
                    absent.append(name)
                    continue
                fault = self.group_fault(override)
                if override.type is OverrideType.ADD and name in (*self._top(), *OPTIONAL_GROUPS):
                    fault = f"{name} has a value already; write it without '+'"
                if fault:
                    faults.append(f"{override.input_line}: {fault}")
                # Hydra drops a group whose list is empty, and the key with it
                groups.append(str(override.input_line) if override.value() != [] else f"{name}={NONE}")
            else:
                values.append(override)
        if faults:
            raise ConfigError(*faults)
        config = self._base(tuple(groups)).copy()
        with open_dict(config):
            for name in absent:
                config.pop(name, None)
        for override in values:
            fault = self._not_chosen(config, override) or set_value(config, override)
            if fault:
                faults.append(fault)
        if faults:
            raise ConfigError(*faults)
        return config

    def config(self, overrides: Sequence[str]) -> Config:
        """The resolved and checked config of one run."""
        return resolve(self.untyped(overrides))

    def file(self, group: str, name: str, typed: str | None = None) -> dict[str, Any]:
        """The content of `conf/<group>/<name>.yaml`, for groups that are not part of a run's config.

        Args:
            typed: how a person writes it, for the message; 'group=name' unless given.

        Raises:
            ConfigError: if there is none.
        """
        known = self.values(group)
        if name not in known:
            raise ConfigError(f"{typed or f'{group}={name}'}: unknown value; {choose_from(name, known)}")
        found = self._load(f"{group}/{name}")
        assert found is not None
        content = OmegaConf.to_container(found.config, resolve=True)
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}

    def plain_file(self, group: str, name: str) -> dict[str, Any] | None:
        """What a file puts under the key of its group, if that is all it does: no defaults list, no package of its
        own, no interpolation."""
        loaded = self._load(f"{group}/{name}")
        if "/" in group or loaded is None or loaded.header.get("package") is not None or loaded.defaults_list:
            return None
        if not isinstance(loaded.config, DictConfig):
            return None
        content = OmegaConf.to_container(loaded.config, resolve=False)
        said = repr(content)
        return None if "${" in said or "???" in said or not isinstance(content, dict) else content  # type: ignore[return-value]

    def written_once(self, groups: Sequence[str]) -> set[str]:
        """The groups, of a composition, under whose key one file alone writes: the one that is chosen."""
        defaults = self.loader.compute_defaults_list("train", list(groups), RunMode.RUN).defaults
        written, chosen = Counter[str](), Counter[str]()
        for default in defaults:
            path, package = str(default.config_path), default.package or ""
            if package.split(".")[0] == "hydra":
                continue
            loaded = self._load(path)
            if loaded is None or "${" in str(loaded.defaults_list):
                return set()  # one file is chosen by another's name
            written.update([package.split(".")[0]] if package else map(str, loaded.config))
            chosen[path.rpartition("/")[0]] += 1
        return {group for group in chosen if written[group] == chosen[group] == 1}

    def _load(self, path: str) -> ConfigResult | None:
        if path not in self._loaded:
            self._loaded[path] = self.loader.repository.load_config(path)  # type: ignore[attr-defined]
        return self._loaded[path]

    def is_group(self, override: Override) -> bool:
        """Whether it chooses a file of a config group, or several."""
        name, value = override.key_or_group, override.value()
        if name not in self._known:
            self._known[name] = bool(self.loader.repository.group_exists(name))  # type: ignore[attr-defined]
        return self._known[name] and not isinstance(value, dict if name in LIST_GROUPS else dict | list)

    def group_fault(self, override: Override) -> str | None:
        """What is wrong with the value, or the list of values, of a config group."""
        name, value = override.key_or_group, override.value()
        known = self.values(name)
        chosen = value if isinstance(value, list) else [value]
        for each in chosen:
            if each not in known:
                which = f" '{each}'" if isinstance(value, list) else ""
                return f"unknown value{which}; {choose_from(each, known)}"
            if chosen.count(each) > 1:
                return f"'{each}' stands there twice; name each {name} once"
        if NONE in chosen and len(chosen) > 1:
            rest = ",".join(str(each) for each in chosen if each != NONE)
            return f"'{NONE}' stands alone; write {name}={NONE} or {name}=[{rest}]"
        return None

    def _not_chosen(self, config: DictConfig, override: Override) -> str | None:
        """The line for a key of a value that exists, but is not among those chosen."""
        group, _, key = override.key_or_group.partition(".")
        name = key.partition(".")[0]
        if group not in LIST_GROUPS or name not in self.values(group) or name in config[group]:
            return None
        others = [str(each) for each in config[group]]
        chosen = f"[{','.join([*others, name])}]" if others else name
        return f"{override.input_line}: {group} '{name}' is not chosen; choose it with {group}={chosen}"

    def _allowed(self, override: Override) -> str:
        return choose_from("", self.values(override.key_or_group))

    def _top(self) -> list[str]:
        return [str(key) for key in self._base(())]

    def _base(self, groups: tuple[str, ...]) -> DictConfig:
        if groups not in self._composed:
            try:
                self._composed[groups] = compose("train", overrides=list(groups))
            except (ConfigCompositionException, HydraException, OmegaConfBaseException) as error:
                self._composed[groups] = ConfigError(self._composition_fault(error, groups))
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark
                where = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
                self._composed[groups] = ConfigError(f"{where}: not YAML ({error.problem})")
        found = self._composed[groups]
        if isinstance(found, ConfigError):
            raise ConfigError(*found.lines)
        return found

    def _composition_fault(self, error: Exception, groups: tuple[str, ...]) -> str:
        """Hydra's message about a defaults list, with the nearest match where a file is missing."""
        wanted = getattr(error, "missing_cfg_file", None)
        first = str(error).strip().splitlines()[0]
        if wanted:
            group, _, name = str(wanted).rpartition("/")
            known = self.values(group) if group in self.loader.list_groups("") else list(self.groups())
            word = name if group in self.loader.list_groups("") else group
            return f"defaults list: no config file '{wanted}'; {choose_from(word, known)}"
        overridden = re.search(r"Could not override '([^'@]+)", first)
        if overridden:
            first = f"a defaults list overrides '{overridden[1]}'; {choose_from(overridden[1], self.groups())}"
        return f"{' '.join(groups) or 'conf/train.yaml'}: {first}"


@contextmanager
def composer(config_dir: str | None = None) -> Iterator[Composer]:
    """Start Hydra's composition; `config_dir` is a person's own folder, searched before gradflow's.

    Raises:
        ConfigError: if `config_dir` is not a folder.
    """
    GlobalHydra.instance().clear()
    path = create_config_search_path(str(conf_dir().resolve()))
    if config_dir is not None:
        own = Path(config_dir).resolve()
        if not own.is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder; it should hold folders such as activation/")
        path.prepend("own", f"file://{own}")
    try:
        Hydra.create_main_hydra2("gradflow", path)
        yield Composer(GlobalHydra.instance().config_loader(), config_dir)
    finally:
        GlobalHydra.instance().clear()


def resolve(config: DictConfig) -> Config:
    """Interpolations filled in, types checked.

    Raises:
        ConfigError: for an interpolation that leads nowhere, and everything `validate` refuses.
    """
    return validate(resolve_values(config))


def resolve_values(config: DictConfig) -> dict[str, Any]:
    """Interpolations filled in.

    Raises:
        ConfigError: for one that leads nowhere, and a value that is missing.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", "") or "config"
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def is_hidden(override: Override) -> bool:
    """Whether it is for Hydra or for a whole sweep, and not part of a run's config."""
    name = override.key_or_group
    return name.split(".")[0] == "hydra" or name.split("/")[0] in HIDDEN_GROUPS
