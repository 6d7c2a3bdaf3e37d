"""The verdict on a run, with every sign behind it, and the cures. Nothing here needs torch."""
