"""The words of a verdict, in the order in which a table tells them. A table needs no more of a diagnosis than these."""

VERDICTS = (
    "healthy",
    "stagnant",
    "rank_collapse",
    "saturated",
    "vanishing",
    "exploding",
    "dead",
    "diverged",
    "gradient-free",
    "unwatched",
)
