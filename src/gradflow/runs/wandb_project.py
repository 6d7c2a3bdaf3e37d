"""Which names W&B takes for a project: a run would train for hours before W&B refuses another. Needs no wandb."""

from __future__ import annotations

from gradflow.errors import ConfigError

REFUSED = "/\\#?%:"
LONGEST = 128


def project_name(name: str) -> str:
    """The name, if W&B takes it.

    Raises:
        ValueError: saying what is allowed.

    >>> project_name("gradflow 2")
    'gradflow 2'
    """
    if not name or len(name) > LONGEST or any(sign in name for sign in REFUSED):
        raise ValueError(f"must be a W&B project: 1 to {LONGEST} characters, none of {' '.join(REFUSED)}")
    return name


def check_project(name: str | None, typed: str) -> None:
    """Refuse a name that was typed; None, for none, is right.

    Args:
        name: of the project.
        typed: the words it stands in, e.g. '--project a/b'.

    Raises:
        ConfigError: naming it and what is allowed.
    """
    try:
        if name is not None:
            project_name(name)
    except ValueError as error:
        raise ConfigError(f"{typed}: {error}") from None
