"""`python -m gradflow`."""

from gradflow.cli import main

if __name__ == "__main__":
    main()
