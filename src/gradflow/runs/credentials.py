"""Whether W&B can be reached with an account, without reading the key into anything of ours."""

from __future__ import annotations

import netrc
import os
from pathlib import Path

from gradflow.errors import ConfigError
from gradflow.runs.config import Config


def has_wandb_key() -> bool:
    """Whether W&B will find an API key in the environment or in the file that 'wandb login' writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        file = os.environ.get("NETRC") or str(Path.home() / ".netrc")
        return any("wandb" in host for host in netrc.netrc(file).hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def check_logger(config: Config) -> None:
    """Refuse to start what would stop at W&B's prompt for a key.

    Raises:
        ConfigError: if `logger.mode` is 'online' and there is no key.
    """
    if config.logger.mode == "online" and not has_wandb_key():
        raise ConfigError("logger.mode=online: no W&B API key found; run 'wandb login', or logger.mode=offline")
