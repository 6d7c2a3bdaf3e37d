"""One file per command: its SUMMARY, its HELP where a line does not do, its `arguments`, and `run`, which gives the
exit code. All are imported for a help page: what is slow is imported inside `run`."""
