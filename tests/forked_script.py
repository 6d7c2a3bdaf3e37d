"""A script of several processes, forked from a server that has imported torch: see `in_two_processes`."""

from __future__ import annotations

import os
import runpy
import sys

from gradflow.sweeps.forked import hear


def run(script: str, file: str, environment: dict[str, str], says: str) -> None:
    """`python SCRIPT FILE` in an environment; what it says on stderr goes into the file `says`."""
    hear()
    for number, target in ((1, os.devnull), (2, says)):
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    import torch
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    torch.set_num_threads(1)
    rank_zero_only.rank = int(environment["LOCAL_RANK"])  # read when Lightning is imported
    sys.argv = [script, file]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")
