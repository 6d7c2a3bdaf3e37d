"""One run, for people who prefer `python scripts/train.py depth=30`: the same as `gradflow train`.

With --multirun (or -m) it is a plain Hydra application, so that Hydra's own launchers and sweepers work:

    python scripts/train.py --multirun depth=2,10 hydra/launcher=joblib
"""

import sys

if __name__ == "__main__":
    if {"-m", "--multirun"} & set(sys.argv):
        from gradflow.hydra_main import main

        main()
    else:
        from gradflow import cli

        cli.main(["train", *sys.argv[1:]])
