"""gradflow as a plain Hydra application, for people who use Hydra's own launchers and sweepers.

    python scripts/train.py --multirun depth=2,10 activation=relu,tanh hydra/launcher=joblib
    python scripts/train.py --multirun hydra/launcher=submitit_slurm hydra.launcher.partition=gpu 'seed=range(5)'

Each job is an ordinary gradflow run with an ordinary record: 'gradflow table runs' shows them. What `gradflow sweep`
adds (a plan that is checked before anything starts, runs that go on, one array that returns at once) is not here.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gradflow.resources import conf_dir

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(conf_dir().resolve()), config_name="train")
def main(config: DictConfig) -> float:
    """Train one run; its test metric, for a sweeper to optimise, NaN where there is none.

    A run that fails leaves its traceback in its record and in Hydra's log, and never ends the jobs beside it.

    Raises:
        ConfigError: for a run that cannot start.
    """
    from gradflow.errors import ConfigError
    from gradflow.runs.build import prepare_data
    from gradflow.runs.compose import resolve
    from gradflow.runs.credentials import check_logger
    from gradflow.runs.execute import execute
    from gradflow.runs.preflight import preflight
    from gradflow.runs.record import read
    from gradflow.runs.stop import Stop

    resolved = resolve(config)
    check_logger(resolved)
    faults = preflight(resolved) or prepare_data([resolved])
    if faults:
        raise ConfigError(*faults)
    stop = Stop()
    with stop.on_signals():
        outcome = execute(resolved, list(HydraConfig.get().overrides.task), stop)
    if outcome.state == "preempted":
        raise KeyboardInterrupt
    if outcome.error is not None:
        log.error("run %s failed: %s", outcome.run_id, outcome.error)
    else:
        log.info("run %s: %s", outcome.run_id, outcome.state)
    record = read(Path(resolved.paths.runs) / outcome.run_id)
    result = record.result if record is not None else None
    return math.nan if result is None else float(result["metrics"].get(result["metric"], math.nan))
