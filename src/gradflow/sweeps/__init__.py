"""Many runs: planned, then trained by worker processes."""
