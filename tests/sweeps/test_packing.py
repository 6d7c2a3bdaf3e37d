"""How runs are put together into packs."""

from collections import deque

import pytest

from gradflow.runs.planfile import PlannedRun
from gradflow.sweeps import packing
from gradflow.sweeps.allotment import Allotment
from gradflow.sweeps.packing import Packing, free_memory


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    """Runs of one letter have one graph; those of '-' are always alone."""
    monkeypatch.setattr(packing, "graph_key", lambda labels, _: None if labels["kind"] == "-" else labels["kind"])


def queue_of(kinds, memory=None):
    estimate = None if memory is None else {"memory": memory}
    runs = [PlannedRun(f"{i:012x}", [], {"kind": kind}, {}, estimate) for i, kind in enumerate(kinds)]
    return runs, deque((0.0, run) for run in runs)


def test_the_runs_of_a_graph_are_shared_out_evenly_among_idle_workers():
    runs, queue = queue_of("ab" * 6)
    packs = Packing(runs, Allotment(2, pack=64))
    taken = [packs.take(queue, [], idle) for idle in (2, 1)]
    assert taken == [[runs[i] for i in (0, 2, 4)], [runs[i] for i in (1, 3, 5, 7, 9, 11)]]
    assert [run for _, run in queue] == [runs[i] for i in (6, 8, 10)]


def test_a_pack_has_a_most_and_one_that_died_in_it_is_tried_alone():
    runs, queue = queue_of("aaaaaa-")
    packs, died = Packing(runs, Allotment(1, pack=3)), [runs[0].run_id, runs[2].run_id]
    taken = [packs.take(queue, died, 1) for _ in range(6)]
    assert taken == [[runs[0]], [runs[1], runs[3], runs[4]], [runs[2]], [runs[5]], [runs[6]], []]


@pytest.mark.parametrize(("memory", "size"), [(5, 8), (10, 5), (12, 4), (13, 3), (51, 1), (1000, 1), (0, 8), (None, 8)])
def test_no_more_runs_are_trained_at_once_than_half_of_the_memory_holds(memory, size):
    """200 bytes are free, two workers share half of them: 50 each."""
    runs, queue = queue_of("a" * 16, memory)
    assert len(Packing(runs, Allotment(2, pack=8), free=200).take(queue, [], 1)) == size


def test_memory_of_a_gpu_is_not_asked_here(monkeypatch):
    monkeypatch.setattr(packing, "free_memory", lambda: 1)
    runs, queue = queue_of("aaaa", memory=100)
    assert len(Packing(runs, Allotment(1, gpus=("0",), pack=8)).take(queue, [], 1)) == 4
    runs, queue = queue_of("aaaa", memory=100)
    assert len(Packing(runs, Allotment(1, pack=8)).take(queue, [], 1)) == 1


def test_what_a_control_group_or_one_above_it_has_left_counts(tmp_path, monkeypatch):
    """A job's limit stands in a group above the one that its processes are in."""
    files = {
        "/proc/meminfo": ["MemTotal: 900 kB", "MemAvailable: 700 kB"],
        "/proc/self/cgroup": ["3:cpu:/other", "0::/job_7/step_0"],
        "/sys/fs/cgroup/job_7/memory.max": ["500000"],
        "/sys/fs/cgroup/job_7/memory.current": ["100000"],
        "/sys/fs/cgroup/job_7/step_0/memory.max": ["max"],
        "/sys/fs/cgroup/job_7/step_0/memory.current": ["1"],
    }
    monkeypatch.setattr(packing, "_lines", lambda file: files.get(str(file), []))
    assert free_memory() == 400_000
    del files["/proc/self/cgroup"]
    assert free_memory() == 700 * 1024
    files.clear()
    assert free_memory() is None


def test_this_machine_says_how_much_memory_is_free():
    found = free_memory()
    assert found is None or found > 0
