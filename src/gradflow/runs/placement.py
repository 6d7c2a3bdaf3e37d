"""Where Lightning trains a run: on which device, as which of how many processes."""

from __future__ import annotations

from typing import Any

from gradflow.lightning import ClusterEnvironment, DDPStrategy, rank_zero_only
from gradflow.models.skips import StochasticDepth
from gradflow.runs.build import Pieces, factors
from gradflow.runs.config import Config
from gradflow.runs.hardware import device_of, gpu_of
from gradflow.runs.together import Together
from gradflow.training.remedy import Remedy


def where(config: Config, pieces: Pieces, together: Together) -> dict[str, Any]:
    """Arguments of Lightning's Trainer.

    Args:
        config: of the run.
        pieces: what it is made of, its remedies prepared.
        together: the run's processes.
    """
    device, alone = device_of(config.hardware), together.world == 1
    if alone:
        # Lightning takes it from a job's variables, and a run that it does not see as the first would not log.
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
        return {"accelerator": device, "devices": 1, "plugins": [Place(together)]}
    return {
        "accelerator": device,
        "devices": [gpu_of(together.local)] if device == "cuda" else 1,
        "num_nodes": together.world,
        "plugins": [Place(together)],
        "strategy": DDPStrategy(find_unused_parameters=_may_leave_out(config, pieces)),
    }


def _may_leave_out(config: Config, pieces: Pieces) -> bool:
    """Whether a backward pass may leave a parameter without a gradient, for which other processes would wait: in a
    stage of pre-training, in a part of a loss, in a block that is left out by chance, in what is not gradflow's own.

    To look for them walks through the graph of every step once more.
    """
    own = all(str(node["_target_"]).startswith("gradflow.") for node in factors(config).values())
    losses = any(type(remedy).losses is not Remedy.losses for remedy in pieces.remedies)
    pretrained = any(remedy.pretraining is not None for remedy in pieces.remedies)
    chance = any(isinstance(module, StochasticDepth) for module in pieces.network.modules())
    return not own or losses or pretrained or chance


class Place(ClusterEnvironment):
    """Tells Lightning where it runs: in one of `world` processes, which it sees as machines with one device each.

    Lightning asks nothing else, above all not the environment: a job's variables would make it take a run of one
    process for a rank, requeue jobs by itself, or start `sys.argv` once more for every device.
    """

    def __init__(self, together: Together) -> None:
        super().__init__()
        self._together = together

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise AssertionError("processes have met before Lightning is asked")

    @property
    def main_port(self) -> int:
        raise AssertionError("processes have met before Lightning is asked")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._together.world

    def set_world_size(self, size: int) -> None:
        assert size == self._together.world

    def global_rank(self) -> int:
        return self._together.rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self._together.rank

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self._together.rank
