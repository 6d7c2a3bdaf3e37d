"""Which W&B server is meant, and whether there is an account, without reading the key into anything of ours."""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from gradflow.errors import ConfigError
from gradflow.runs.config import Config

PUBLIC = "https://api.wandb.ai"


def base_url() -> str:
    """The address of the server, as W&B's own client finds it: in the environment, or in the file that
    'wandb login --host' writes."""
    if address := os.environ.get("WANDB_BASE_URL"):
        return address.rstrip("/")
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read([folder.expanduser() / "settings", Path("wandb") / "settings"], encoding="utf-8")
        return settings.get("default", "base_url", fallback=PUBLIC).rstrip("/")
    except (configparser.Error, UnicodeDecodeError):
        return PUBLIC


def has_wandb_key() -> bool:
    """Whether W&B will find an API key for that server in the environment or in the file that 'wandb login' writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc.netrc(Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser())
        found = known.authenticators(urlsplit(base_url()).netloc)  # with its port, as W&B's own client asks
        return found is not None and bool(found[2])
    except (OSError, netrc.NetrcParseError):
        return False


def check_logger(config: Config) -> None:
    """Refuse to start what would stop at W&B's prompt for a key.

    Raises:
        ConfigError: if `logger.mode` is 'online' and there is no key.
    """
    if config.logger.mode == "online" and not has_wandb_key():
        raise ConfigError("logger.mode=online: no W&B API key found; run 'wandb login', or logger.mode=offline")
