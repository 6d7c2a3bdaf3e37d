"""Processes that share work end with whoever started them."""

import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, time
from gradflow.results.processes import processes

def work(_):
    return os.getpid(), time.sleep(0.5)

def wait(_):
    time.sleep(600)

if __name__ == "__main__":
    with processes(2) as pool:
        print(*{pid for pid, _ in pool.map(work, range(2))}, flush=True)
        list(pool.map(wait, range(2)))
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(tmp_path, wait_until, by):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(by)
    parent.communicate()
    wait_until(lambda: not any(map(is_there, pids)))
