"""A sweep's processes are found while they live, and nobody else is ever taken for one of them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gradflow.runs.launches import announced, born, launches


@pytest.fixture
def child() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_process_is_announced_for_as_long_as_it_works(tmp_path):
    with announced(tmp_path, "gradflow sweep depth=2"):
        (launch,) = launches(tmp_path)
        assert (launch.host, launch.pid) == (socket.gethostname(), os.getpid())
        assert launch.command == "gradflow sweep depth=2"
        assert launch.is_here
        assert launch.is_alive()
    assert launches(tmp_path) == []
    assert list((tmp_path / "launches").iterdir()) == []


def test_an_announcement_is_taken_back_when_the_work_fails(tmp_path):
    with pytest.raises(RuntimeError), announced(tmp_path, ""):
        raise RuntimeError
    assert launches(tmp_path) == []


def edit(folder, **changes):
    (file,) = (folder / "launches").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file


def test_a_number_that_was_given_to_another_process_is_not_hit(tmp_path, child):
    with announced(tmp_path, ""):
        (launch,) = launches(tmp_path)
        file = edit(tmp_path, pid=child.pid)  # born at another time
        assert launches(tmp_path) == []
        assert not file.exists()  # and is not looked at again
    stranger = type(launch)(launch.host, launch.space, child.pid, launch.birth, "", 0.0)
    assert not stranger.terminate()
    assert child.poll() is None
    known = type(launch)(launch.host, launch.space, child.pid, born(child.pid), "", 0.0)
    assert known.terminate()
    assert child.wait(30) == -signal.SIGTERM
    assert not known.is_alive()
    assert not known.terminate()


@pytest.mark.parametrize("changes", [{"host": "node7"}, {"space": "pid:[1]"}])
def test_one_on_another_machine_is_kept_and_not_asked(tmp_path, changes):
    with announced(tmp_path, ""):
        edit(tmp_path, **changes)
        (launch,) = launches(tmp_path)
        assert (launch.is_here, launch.is_alive(), launch.terminate()) == (False, None, False)


def test_a_process_that_has_ended_but_was_not_waited_for_is_dead(child):
    assert born(child.pid) is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert born(child.pid) is None


def test_what_is_no_announcement_is_passed_over(tmp_path):
    (tmp_path / "launches").mkdir()
    for name, text in {"a": "{", "b": '{"format": 1}', "c": '{"format": 1, "host": "x", "pid": "y"}'}.items():
        (tmp_path / "launches" / f"{name}.json").write_text(text)
    assert launches(tmp_path) == []
    assert launches(tmp_path / "nowhere") == []
