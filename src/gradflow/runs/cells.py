"""Configs of thousands of cells that repeat the same few choices, each one equal to what `Composer.config` gives.

`Composer.config` takes a tenth of a second for a new combination of config files and ten milliseconds for one it
knows. Here a file that only fills its own key (`activation/relu.yaml`) is put in place of another of its group without
composing anew, plain values are set in plain dicts, and what pydantic has found right once is not looked at again.
Whatever is not as plain as that (interpolations, deleted keys, files that other files write into, every mistake) goes
through `Composer.config` itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import OverrideType
from omegaconf import OmegaConf

from gradflow.errors import ConfigError
from gradflow.runs.compose import LIST_GROUPS, OPTIONAL_GROUPS, Composer, is_hidden, resolve_values
from gradflow.runs.config import Config, validate
from gradflow.runs.setting import OPEN

Groups = tuple[str, ...]
PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")  # the interpolation that no key of the config has a say in
REQUIRED = frozenset(name for name, field in Config.model_fields.items() if field.is_required())


class Validated:
    """`gradflow.runs.config.validate` for many configs that share nodes: what was found right once is not looked at
    again. Each key's value is right or wrong whatever the others are."""

    def __init__(self) -> None:
        self._right: dict[tuple[str, Any], Any] = {}  # a key, a node → what pydantic makes of it
        self._kept: list[Any] = []  # nodes whose identity is a key: they must live

    def __call__(self, values: dict[str, Any]) -> Config:
        """The typed config.

        Raises:
            ConfigError: as `validate` does.
        """
        nodes = {key: (key, _identity(value)) for key, value in values.items()}
        if set(values) >= REQUIRED and all(node in self._right for node in nodes.values()):
            return Config.model_construct(
                _fields_set=set(values), **{key: self._right[node] for key, node in nodes.items()}
            )
        config = validate(values)
        for key, node in nodes.items():
            self._right[node] = getattr(config, key)
            self._kept.append(values[key])
        return config


@dataclass(frozen=True)
class _Word:
    """An override, and how it can be treated."""

    text: str
    kind: str  # 'group', 'absent', 'value', 'else' (sets, adds or deletes, but not plainly), 'wrong'
    path: tuple[str, ...] = ()
    value: Any = None
    adds: bool = False


@dataclass(frozen=True)
class _Base:
    """A composed config in plain values, into which values can be set; None where interpolations forbid it."""

    values: dict[str, Any] | None


class Cells:
    """Composes many configs. What is composed is as the files and the environment were when it was first asked for."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._words: dict[str, _Word] = {}
        self._bases: dict[tuple[Groups, Groups, Groups], _Base] = {}
        self._whole: dict[tuple[Groups, Groups, Groups], _Base] = {}
        self._written_once: dict[Groups, frozenset[str]] = {}
        self._files: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._altered: dict[tuple[int, str], Any] = {}  # a node's identity, an override → the node with it set
        self._kept: list[Any] = []  # nodes whose identity is a key: they must live
        self._validated = Validated()

    def config(self, overrides: Sequence[str]) -> Config:
        """The resolved and checked config of one cell.

        Raises:
            ConfigError: as `Composer.config` does.
        """
        values = self._values(overrides)
        if values is None:
            return self._composer.config(overrides)
        return self._validated(values)

    def _values(self, overrides: Sequence[str]) -> dict[str, Any] | None:
        """The resolved values, or None if they have to be composed with all the care that a mistake needs."""
        words = [self._word(text) for text in overrides]
        if any(word.kind == "wrong" for word in words):
            return None
        other = [word for word in words if word.kind == "else"]
        plain = [word for word in words if word.kind == "value"]
        if any(_overlap(a.path, b.path) for a in other for b in plain):
            return None  # their order matters
        base = self._base(
            [word for word in words if word.kind == "group"],
            tuple(word.text for word in words if word.kind == "absent"),
            other,
        )
        if base.values is None:
            return None
        values = dict(base.values)
        for word in plain:
            top = word.path[0]
            if len(word.path) == 1:
                if isinstance(values.get(top), dict) or not (word.adds or top in values):
                    return None
                values[top] = word.value
                continue
            if top not in values:
                return None
            found = (id(values[top]), word.text)
            if found not in self._altered:
                node = _with(values[top], word.path[1:], word)
                self._kept.append(values[top])
                self._altered[found] = node
            if self._altered[found] is None:
                return None
            values[top] = self._altered[found]
        return values

    def _word(self, text: str) -> _Word:
        if text not in self._words:
            self._words[text] = self._classified(text)
        return self._words[text]

    def _classified(self, text: str) -> _Word:
        try:
            (override,) = self._composer.parse([text])
        except ConfigError:
            return _Word(text, "wrong")
        if override.is_sweep_override() or override.package is not None or is_hidden(override):
            return _Word(text, "wrong")
        name, value = override.key_or_group, override.value()
        changes = override.type is OverrideType.CHANGE
        if self._composer.is_group(override):
            if value is None and name in OPTIONAL_GROUPS:
                return _Word(text, "absent", (name,))
            if not changes or self._composer.group_fault(override):
                return _Word(text, "wrong")
            return _Word(text, "group", (name,), value)
        if not PLAIN_KEY.fullmatch(name):
            return _Word(text, "wrong")
        path = tuple(name.split("."))
        adds = override.type in (OverrideType.ADD, OverrideType.FORCE_ADD)
        plain = (changes or adds) and name not in OPEN and not (adds and path[0] in LIST_GROUPS)
        if plain and _is_plain(value):
            return _Word(text, "value", path, value, adds)
        return _Word(text, "else", path)

    # --- bases ------------------------------------------------------------------------------------------------

    def _base(self, groups: Sequence[_Word], absent: Groups, other: Sequence[_Word]) -> _Base:
        texts, others = tuple(word.text for word in groups), tuple(word.text for word in other)
        key = (texts, absent, others)
        if key not in self._bases:
            self._bases[key] = self._made(groups, absent, other)
        return self._bases[key]

    def _made(self, groups: Sequence[_Word], absent: Groups, other: Sequence[_Word]) -> _Base:
        """From another combination of files that Hydra has composed, if the two differ only in files of which each
        fills its own key and no other file writes there."""
        names = [word.path[0] for word in groups]
        touched = {word.path[0] for word in other}
        exchanged = {
            word.path[0]: word
            for word in groups
            if names.count(word.path[0]) == 1 and word.path[0] not in touched and self._file(word) is not None
        }
        others = tuple(word.text for word in other)
        while True:
            stand_in = {name: self._first(name) for name in exchanged}
            texts = tuple(f"{w.path[0]}={stand_in[w.path[0]]}" if w.path[0] in exchanged else w.text for w in groups)
            base = self._composed(texts, absent, others)
            if base.values is None:
                return base
            alone = self._alone(texts) if exchanged else frozenset()
            shared = [
                name
                for name in exchanged
                if name not in alone or base.values.get(name) != self._files[name, stand_in[name]]
            ]
            if not shared:
                return _Base({**base.values, **{name: self._file(word) for name, word in exchanged.items()}})
            for name in shared:
                del exchanged[name]

    def _alone(self, groups: Groups) -> frozenset[str]:
        if groups not in self._written_once:
            self._written_once[groups] = frozenset(self._composer.written_once(groups))
        return self._written_once[groups]

    def _composed(self, groups: Groups, absent: Groups, others: Groups) -> _Base:
        key = (groups, absent, others)
        if key not in self._whole:
            try:
                config = self._composer.untyped([*groups, *absent, *others])
                whole = resolve_values(config)
            except ConfigError:
                self._whole[key] = _Base(None)  # told with all that is wrong by `Composer.config`
            else:
                literal = not any(map(_refers, _strings(OmegaConf.to_container(config, resolve=False))))
                self._whole[key] = _Base(whole if literal else None)
        return self._whole[key]

    def _file(self, word: _Word) -> dict[str, Any] | None:
        """What the file of a group's value puts under the group's own key, if it does nothing else."""
        group, value = word.path[0], word.value
        if group in LIST_GROUPS or not isinstance(value, str):
            return None
        if (group, value) not in self._files:
            self._files[group, value] = self._composer.plain_file(group, value)
        return self._files[group, value]

    def _first(self, group: str) -> str:
        """The value that stands for all that can be put in its place."""
        return next(value for (name, value), file in self._files.items() if name == group and file is not None)


def _with(node: Any, path: tuple[str, ...], word: _Word) -> Any:
    """A copy of a node with one value set; None where Hydra would do more, or refuse."""
    if not isinstance(node, dict):
        return None
    first, *rest = path
    if not rest:
        if isinstance(node.get(first), dict) or not (word.adds or first in node):
            return None
        return {**node, first: word.value}
    if first not in node:
        return None
    inner = _with(node[first], tuple(rest), word)
    return None if inner is None else {**node, first: inner}


def _identity(value: Any) -> Any:
    """Two equal nodes may have two identities, never one identity two different nodes: 1 is not 1.0, nor true."""
    if isinstance(value, float):
        return float, value.hex()  # 0.0 is not -0.0
    return (type(value), value) if value is None or isinstance(value, bool | int | str) else id(value)


def _overlap(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    shorter = min(len(a), len(b))
    return a[:shorter] == b[:shorter]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, bool | int | float)


def _strings(values: Any) -> list[str]:
    if isinstance(values, dict):
        return [text for inner in values.values() for text in _strings(inner)]
    if isinstance(values, list):
        return [text for inner in values for text in _strings(inner)]
    return [values] if isinstance(values, str) else []


def _refers(text: str) -> bool:
    """Whether a string takes its value from another key."""
    return "${" in ENVIRONMENT.sub("", text)
