"""`gradflow`, and `python -m gradflow`."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from gradflow import cli


def main() -> NoReturn:
    """Do what was typed, and leave at once: to take torch down piece by piece takes a second or two."""
    try:
        cli.main()
    except SystemExit as left:
        if "torch" not in sys.modules or not isinstance(left.code, int):
            raise
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(left.code)


if __name__ == "__main__":
    main()
