"""One run: its config, its identity, its execution and its record."""
