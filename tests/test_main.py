"""Leaving quickly leaves nothing behind."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("code", "left"), [("sys.exit(3)", 3), ("sys.exit(0)", 0), ("raise KeyError('gone')", 1)])
@pytest.mark.parametrize("torch", ["", "import torch"])
def test_exit_codes_output_and_exit_functions_are_those_of_an_ordinary_end(tmp_path, code, left, torch):
    script = f"""
import atexit, sys
{torch}
from gradflow import __main__, cli
atexit.register(lambda: open({str(tmp_path / "told")!r}, "w").write("told"))
def main():
    print("said", end="")
    print("warned", end="", file=sys.stderr)
    {code}
cli.main = main
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == left
    assert done.stdout == "said"
    assert done.stderr.startswith("warned")
    assert ("KeyError" in done.stderr) == ("KeyError" in code)
    assert (tmp_path / "told").read_text() == "told"
