"""Runs that the agent of a W&B sweep starts, `wandb agent`: for each trial it begins a W&B run, whose id is no run id.

It names that, the sweep and the trial's parameters in the environment. Needs no wandb.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gradflow.errors import ConfigError
from gradflow.runs import wandb_keys as keys

if TYPE_CHECKING:
    from gradflow.runs.config import Config


def agent_run() -> str | None:
    """The id of the W&B run that an agent has begun; None without an agent."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def parameters() -> list[str]:
    """The names of what the sweep has chosen. W&B puts them into the run's config as they are."""
    try:
        content = yaml.safe_load(Path(os.environ.get("WANDB_SWEEP_PARAM_PATH", "")).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []
    return [str(name) for name in content] if isinstance(content, dict) else []


def without(names: Collection[str], config: dict[str, Any]) -> dict[str, Any]:
    """A config in which no choice that a sweep has made stands under two names.

    >>> without(["optimizer.lr", "depth"], {"optimizer-lr": 0.1, "optimizer": "sgd", "depth": 3})
    {'optimizer': 'sgd', 'depth': 3}
    """
    twice = {keys.config_key(name.lstrip("+")) for name in names}.difference(names)
    return {name: value for name, value in config.items() if name not in twice}


def tell_agent(path: Path, config: Config) -> None:
    """Give an agent the result of a run that was trained before: the W&B run that it has begun would stay empty.

    Without an agent nothing happens.

    Args:
        path: the record.
        config: what was asked for.

    Raises:
        ConfigError: if there is no account, or W&B does not take it.
    """
    name = agent_run()
    if name is None or config.logger.mode == "disabled":
        return
    from gradflow.runs.credentials import check_logger
    from gradflow.runs.wandb_replay import NotReplayed, replay

    check_logger(config)
    try:
        replay(path, name, config.logger.mode)
    except NotReplayed as error:
        raise ConfigError(str(error)) from None
