"""Instruments from their names: the class of `grad_norm` is `GradNorm`, in `gradflow.instruments.grad_norm`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from gradflow.errors import ConfigError, choose_from
from gradflow.instruments.instrument import Instrument
from gradflow.instruments.names import NAMES, PRESETS

Choice = str | Sequence[str | Instrument] | Mapping[str, int | None]


def make_instruments(choice: Choice, every: int, clipped: bool = False) -> list[Instrument]:
    """Instruments, each with its interval.

    Args:
        choice: a preset ('none', 'cheap', 'full'); a list of names or of instruments made by hand; or intervals by
            name, where None stands for `every`. A name with dots is the path of a class of one's own.
        every: steps between two measurements where `choice` does not say.
        clipped: whether `grad_norm` measures after clipping too.

    Raises:
        ValueError: for an unknown name, or an interval below 1.

    >>> [instrument.name for instrument in make_instruments(["grad_norm", "delta_norm"], every=5)]
    ['grad_norm', 'delta_norm']
    """
    if isinstance(choice, str):
        if choice not in PRESETS:
            raise ConfigError(f"instruments={choice}: unknown preset; {choose_from(choice, PRESETS)}")
        choice = {name: every * times for name, times in PRESETS[choice].items()}
    intervals = choice if isinstance(choice, Mapping) else {}
    made = []
    for each in choice:
        instrument = each if isinstance(each, Instrument) else _class(each)()
        if not isinstance(each, Instrument):
            instrument.every = every
        if isinstance(each, str) and (own := intervals.get(each)) is not None:
            instrument.every = own
        if instrument.every < 1:
            raise ValueError(f"{instrument.name}: an interval of {instrument.every} steps; it must be at least 1")
        if hasattr(instrument, "clipped"):
            instrument.clipped = instrument.clipped or clipped
        made.append(instrument)
    return made


def _class(name: str) -> type[Instrument]:
    module, _, word = name.rpartition(".")
    if not module:
        if name not in NAMES:
            raise ConfigError(f"instruments={name}: unknown; {choose_from(name, NAMES)}")
        module, word = f"gradflow.instruments.{name}", "".join(part.capitalize() for part in name.split("_"))
    try:
        found = getattr(import_module(module), word)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"instruments={name}: no such Python definition ({error})") from None
    if not (isinstance(found, type) and issubclass(found, Instrument)):
        raise ConfigError(f"instruments={name}: not a class derived from gradflow.instruments.instrument.Instrument")
    return found
