"""Whether a cell agrees."""

import pytest

from gradflow.papers.paper import Published
from gradflow.papers.verdicts import tolerance, verdict
from gradflow.results.statistics.interval import Interval

PLAIN = Published(measure="m", provenance="V", figures={})
LOOSE = Published(measure="m", provenance="D", tolerance=0.5, figures={})
OURS = Interval(9.0, 8.8, 9.2, 5, True)


@pytest.mark.parametrize(
    ("ours", "published", "block", "reduced", "told"),
    [
        (OURS, 8.75, PLAIN, False, "differs"),
        (OURS, 8.8, PLAIN, False, "agrees"),
        (OURS, 8.75, LOOSE, False, "agrees"),
        (OURS, 9.24, PLAIN, False, "differs"),  # 9.235 at least
        (OURS, 9.2, PLAIN, False, "agrees"),
        (OURS, 9.0, PLAIN, True, "run at reduced scale"),
        (Interval(9.0, None, None, 1), 9.0, PLAIN, False, "one seed"),
        (None, 9.0, PLAIN, True, "not run"),
    ],
)
def test_a_cell_agrees_where_the_published_figure_is_in_the_interval(ours, published, block, reduced, told):
    assert verdict(ours, published, block, reduced) == told


def test_a_printed_figure_is_as_exact_as_its_last_digit():
    assert [tolerance(x) for x in (8.75, 97.0, 0.0197, 5.3e-5, 12.0)] == pytest.approx([0.005, 0.05, 5e-5, 5e-7, 0.05])
