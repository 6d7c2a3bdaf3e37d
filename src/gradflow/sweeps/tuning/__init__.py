"""A search for the best settings of each technique: what is searched, by whom, and what it found."""
