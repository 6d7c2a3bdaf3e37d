"""How fast a sweep gets on, and how long it has still to go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WINDOWS = {"10 min": 600.0, "hour": 3600.0, "day": 86400.0}  # the first in which enough runs have ended is looked at
ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Stint:
    """What is known of one run's training.

    Attributes:
        work: of the whole run, in any unit that is the same for all.
        share: of the work that is done, 0 to 1.
        began, until: in seconds since 1970; until the end, or until it was heard of last.
        ended: whether it is done.
    """

    work: float
    share: float
    began: float
    until: float
    ended: bool


@dataclass(frozen=True)
class Pace:
    """Of the last while.

    Attributes:
        runs_per_minute: that have ended.
        window: how long the while is, in words.
        seconds_left: until the rest of the work is done, if it goes on like that; None if nothing can be said.
    """

    runs_per_minute: float
    window: str
    seconds_left: float | None


def pace(stints: Iterable[Stint], rest: float, now: float) -> Pace:
    """The rate at which work was done of late, by all workers together, and what it means for the `rest` of it.

    A run's work is taken to be done evenly over its time, so that long runs count before they end, and only as much of
    a run counts as falls into the while that is looked at.

    >>> done = [Stint(1.0, 1.0, 100.0 * i, 100.0 * (i + 1), True) for i in range(6)]
    >>> pace(done, rest=3.0, now=600.0)
    Pace(runs_per_minute=0.6, window='10 min', seconds_left=300.0)
    """
    known = [stint for stint in stints if stint.began <= stint.until <= now]
    lasting, length = next(
        (
            (name, seconds)
            for name, seconds in WINDOWS.items()
            if sum(stint.ended and stint.until > now - seconds for stint in known) >= ENOUGH
        ),
        ("day", WINDOWS["day"]),
    )
    recent = [stint for stint in known if stint.until > now - length]
    since = max(now - length, min((stint.began for stint in recent), default=now))
    if since >= now:
        return Pace(0.0, lasting, None)
    done = sum(_within(stint, since) for stint in recent)
    ended = sum(stint.ended for stint in recent)
    return Pace(60 * ended / (now - since), lasting, rest * (now - since) / done if done > 0 else None)


def _within(stint: Stint, since: float) -> float:
    """The work of a run that was done after `since`."""
    seconds = stint.until - stint.began
    return stint.work * stint.share * (min(1.0, (stint.until - since) / seconds) if seconds else 1.0)
