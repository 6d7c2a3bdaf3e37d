"""One run, for people who prefer `python scripts/train.py depth=30`: the same as `gradflow train`."""

import sys

from gradflow.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
