"""What a person sees on the terminal while something trains."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gradflow.runs.identity import title
from gradflow.sweeps.pool import Progress

MOST_LINES = 12  # of runs under way


class SweepDisplay:
    """One live display: done, running, failed, time left, and what each worker is on.

    Where the output is not a terminal, one line per finished run instead.
    """

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.name = console, name
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._told = self._told_again = 0

    def __enter__(self) -> SweepDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        for run, why in progress.again[self._told_again :]:
            self._told_again += 1
            self.console.print(Text(f"trying again {run.run_id} {title(run.labels)}: {why}"), soft_wrap=True)
        for run, state, error, seconds in progress.ended[self._told :]:
            self._told += 1
            if self._live is None or state == "failed":
                number = progress.done_before + self._told
                self.console.print(
                    Text(f"[{number}/{progress.total}] {state} {run.run_id} {title(run.labels)} ({seconds:.1f} s)"),
                    Text(f"  {error}") if error else "",
                    soft_wrap=True,
                )
        if self._live:
            self._live.update(self._render(progress))

    def _render(self, progress: Progress) -> Group:
        done = progress.done_before + progress.count("completed", "diverged", "done")
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(self.name, style="bold"),
            ProgressBar(total=max(1, progress.total), completed=done, width=30),
            Text(f"{done}/{progress.total} done"),
            Text(f"{len(progress.running)} running"),
            Text(f"{progress.count('failed')} failed", style="red" if progress.count("failed") else ""),
            Text(f"{_left(progress)} left"),
        )
        lines = Table.grid(padding=(0, 2))
        running_ones = list(progress.running.values())
        for running in running_ones[:MOST_LINES]:
            step = f"step {running.step}/{running.total}" if running.total else "starting"
            loss = "" if math.isnan(running.loss) else f"loss {running.loss:.3g}"
            lines.add_row(
                "", Text(step), Text(loss), Text(title(running.run.labels), overflow="ellipsis", no_wrap=True)
            )
        if len(running_ones) > MOST_LINES:
            lines.add_row("", Text(f"and {len(running_ones) - MOST_LINES} more", style="dim"))
        return Group(bar, lines)


def _left(progress: Progress) -> str:
    """Time left, if the runs to come take as long per block and step as those that are done."""
    done = sum(_work(run.labels) for run, *_ in progress.ended)
    under_way = sum(_work(r.run.labels) * (r.step / r.total if r.total else 0) for r in progress.running.values())
    to_come = progress.total - progress.done_before - len(progress.ended) - len(progress.running)
    if done + under_way <= 0:
        return "–"
    average = done / len(progress.ended) if progress.ended else under_way
    rest = sum(_work(r.run.labels) for r in progress.running.values()) - under_way + to_come * average
    seconds = int(rest * (time.monotonic() - progress.began) / (done + under_way))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _work(labels: dict[str, object]) -> float:
    steps = labels.get("trainer.max_steps") or 1
    return float(str(steps)) * (float(str(labels.get("depth", 1))) + 2)
