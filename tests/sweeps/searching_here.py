"""A search whose trials are made in the test's own process, one after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from gradflow.runs.compose import Composer
from gradflow.runs.stop import Stop
from gradflow.sweeps.tuning.ask import make_search
from gradflow.sweeps.tuning.attempt import attempt
from gradflow.sweeps.tuning.desk import Desk, trials_of
from gradflow.sweeps.tuning.presence import present
from gradflow.sweeps.tuning.search import Search, read_search, write_search
from gradflow.sweeps.tuning.settings import read_words

LR = "optimizer.lr=tag(log,interval(1e-3,1))"
TINY = (
    *("depth=1", "width=4", "task=gaussian_teacher", "task.inputs=4", "task.outputs=2", "task.train_size=128"),
    *("task.batch_size=32", "trainer.max_steps=4", "trainer.val_every_n_steps=2", "hardware=cpu", "instruments=none"),
    *("logger.mode=disabled",),
)


class Here:
    """Searches below one folder, whose runs are tiny unless words say otherwise."""

    def __init__(self, compose: Composer, folder: Path) -> None:
        self.compose, self.folder = compose, folder
        self.paths = f"paths.runs={folder / 'runs'}", f"paths.sweeps={folder / 'sweeps'}"

    def ask(self, *words: str, command: str = "gradflow tune …") -> tuple[Search, Path]:
        """Written down, and read back."""
        asked = read_words(self.compose, [*TINY, *self.paths, *words])
        search, folder = make_search(self.compose, asked, command)
        write_search(folder, search)
        found = read_search(folder)
        assert found is not None
        search.runs_dir.mkdir(exist_ok=True)
        return found, folder

    def make(
        self,
        search: Search,
        folder: Path,
        most: float = math.inf,
        max_attempts: int = 3,
        value: Callable[[dict[str, object]], float | None] | None = None,
    ) -> Desk:
        """Trials until every technique has had its budget, or there are so many; the desk they were taken from.

        `value` stands for training where a test is of trials and not of runs; None is a run that diverged.
        """
        with present(folder) as name:
            desk = Desk(folder, search, name, max_attempts)
            made = 0
            while made < most and (task := desk.take()) is not None:
                if value is None:
                    attempt(desk, task, Stop(), lambda *_: None)
                elif (worth := value(task.params)) is None:
                    desk.diverge(task, "so it is said")
                else:
                    desk.complete(task, [worth])
                made += 1
        return desk

    def __call__(self, *words: str) -> Desk:
        return self.make(*self.ask(*words))


def states(desk: Desk, technique: str = "all") -> list[str]:
    return [trial.state.name for trial in trials_of(desk.studies[technique])]


def params(desk: Desk, technique: str = "all") -> list[dict[str, object]]:
    return [trial.params for trial in trials_of(desk.studies[technique])]
