"""What a person types. Heavy imports wait until they are needed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gradflow import usage
from gradflow.errors import ConfigError, choose_from
from gradflow.usage import FAILED, USAGE


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code: 0 done, 1 something failed, 2 a mistake in what was asked for,
    130 or 143 stopped by Ctrl-C or SIGTERM."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a _target_ may name a module in the working folder
    try:
        name = usage.parser().parse_args(typed[:1]).command
        if name not in usage.NAMES:
            raise ConfigError(f"{name}: unknown command; {choose_from(name, usage.COMMANDS)}")
        command = usage.load(name)
        options = usage.command_parser(name, command).parse_intermixed_args(typed[1:])
        sys.exit(command.run(options, typed))
    except ConfigError as error:
        for line in error.lines:
            print(f"gradflow: {line}", file=sys.stderr)
        sys.exit(USAGE)
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        print(f"gradflow: {error.filename or 'disk'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
