"""One run: its config, its identity, its execution and its record."""

import logging

# Lightning's metrics import matplotlib, which would announce on a run's terminal that it builds its font cache.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
