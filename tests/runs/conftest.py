"""What tests of thousands of configs share: one composition by Hydra, and one look at each file, for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from gradflow.resources import conf_dir
from gradflow.runs import build


@pytest.fixture(scope="session")
def node() -> Callable[[str, str], dict[str, Any]]:
    """The node that a file gives a config. Hydra takes a third of a second for each combination of files; nodes put
    into the place of a composed config's own make the same config."""

    @cache
    def read(group: str, word: str) -> dict[str, Any]:
        content = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{word}.yaml"))
        assert isinstance(content, dict)
        found: dict[str, Any] = content.get(group, content)
        return found

    return read


@pytest.fixture(scope="session")
def _definitions() -> Callable[..., Any]:
    """Hydra's `instantiate`, which looks into equal nodes once."""
    real, made = build.instantiate, dict[str, Callable[..., Any]]()

    def instantiate(node: dict[str, Any], *given: Any) -> Any:
        key = repr({name: value for name, value in node.items() if name != "_partial_"})
        if key not in made:
            found = real({**node, "_partial_": True})
            made[key] = partial(found.func, *found.args, **found.keywords)
        if node.get("_partial_"):
            return made[key]
        try:
            return made[key](*given)
        except Exception as error:
            raise InstantiationException(repr(error)) from error

    return instantiate


@pytest.fixture
def _definitions_once(_definitions: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Building a small network is mostly Hydra's looking into nodes, which the config before had as well."""
    monkeypatch.setattr(build, "instantiate", _definitions)
