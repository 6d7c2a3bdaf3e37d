"""Which runs of a sweep are trained at once, and how many of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from gradflow.runs.graph import graph_key
from gradflow.runs.planfile import PlannedRun
from gradflow.sweeps.allotment import Allotment

Queue = deque[tuple[float, PlannedRun]]  # with the earliest time at which a run may begin
SHARE = 0.5  # of the memory that is free, for all workers' packs: data and libraries need some too


class Packing:
    """Puts together runs that can be trained at once: see `gradflow.runs.graph`.

    A pack has at most `allotment.pack` runs, and no more than memory holds by the plan's estimate. On a GPU, which this
    process does not ask, the worker halves a pack that does not fit.
    """

    def __init__(self, runs: Sequence[PlannedRun], allotment: Allotment, free: int | None = None) -> None:
        packs = allotment.pack > 1
        self._keys = {run.run_id: graph_key(run.labels, run.config) for run in runs} if packs else {}
        room = free_memory() if packs and not allotment.gpus and free is None else free
        self._room = None if room is None else SHARE * room / max(1, min(allotment.jobs, len(runs)))
        self._most = allotment.pack

    def take(self, queue: Queue, died: Iterable[str], idle: int) -> list[PlannedRun]:
        """Take the first run whose time has come off the queue, and of what goes with it one idle worker's part.

        Args:
            died: ids of runs whose process has died, which are tried again alone.
            idle: workers that will share what there is.
        """
        now, alone = time.monotonic(), set(died)
        first = next((i for i, (earliest, _) in enumerate(queue) if earliest <= now), None)
        if first is None:
            return []
        run = queue[first][1]
        del queue[first]
        key = self._keys.get(run.run_id)
        if key is None or run.run_id in alone:
            return [run]
        like = [
            i
            for i, (earliest, other) in enumerate(queue)
            if earliest <= now and other.run_id not in alone and self._keys.get(other.run_id) == key
        ]
        taken = like[: min(self._at_most(run), -(-(len(like) + 1) // idle)) - 1]
        runs = [run, *(queue[i][1] for i in taken)]
        for i in reversed(taken):
            del queue[i]
        return runs

    def _at_most(self, run: PlannedRun) -> int:
        memory = (run.estimate or {}).get("memory")
        if self._room is None or not memory:
            return self._most
        return max(1, min(self._most, int(self._room // memory)))


def free_memory() -> int | None:
    """Bytes that this machine has left, or a control group that this process is in; None if nothing says."""
    found: list[int | None] = [
        int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")
    ]
    for line in _lines("/proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inside = Path(group.lstrip("/"))
        found += [_left(root / part, *names) for part in (inside, *inside.parents)]  # a job's limit is its parent's
    return min((number for number in found if number is not None), default=None)


def _left(folder: Path, limit: str, used: str) -> int | None:
    texts = [" ".join(_lines(folder / name)) for name in (limit, used)]
    return int(texts[0]) - int(texts[1]) if all(map(str.isdigit, texts)) else None


def _lines(file: Path | str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return []
