"""Statistics of runs: pure functions on labelled scores and arrays, seeded, so that the same records give the same
digits in every table, page and picture."""
