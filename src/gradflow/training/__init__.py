"""How it learns: the Lightning module, optimisers and schedules."""
