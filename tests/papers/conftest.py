"""A small paper and runs of it, made by hand."""

from __future__ import annotations

import pytest

from gradflow.papers.paper import Paper

CONTENT = {
    "title": "On depth",
    "authors": "Ash and Birch",
    "year": 2001,
    "venue": "Woods",
    "link": "arXiv:0101.00001",
    "shows": "Table 1",
    "about": "Sigmoid and ReLU by depth",
    "protocol": ["SGD for 300 updates."],
    "ambiguities": ["The batch size is not stated; 64 is used."],
    "deviations": ["The digits are scikit-learn's."],
    "overrides": ["task=digits", "width=8", "trainer.max_steps=300", "hardware.device=cpu"],
    "axes": {
        "net": {"sigmoid": ["activation=sigmoid", "init=glorot_normal"], "relu": ["activation=relu"], "maxmin": None},
        "depth": {2: ["depth=2"], 10: ["depth=10"], 30: ["depth=30"]},
    },
    "where": "not (net == 'relu' and depth == 30)",
    "adjust": [{"where": "depth == 10", "overrides": ["optimizer.lr=0.02"]}],
    "measures": {
        "error": {"figure": "test/accuracy", "convert": "100 * (1 - x)", "unit": "%", "label": "test error"},
        "learned": {"figure": "test/accuracy", "share": "x > 0.5", "label": "share that learns"},
    },
    "published": [
        {"measure": "error", "provenance": "V", "figures": {"sigmoid": {2: 11.5, 10: 90.0}, "maxmin": {2: 2.5}}},
        {"measure": "error", "provenance": "M", "note": "from a poster", "figures": {"relu": {2: 7.0}}},
    ],
    "claims": [
        {"claim": "error(sigmoid,10) > error(relu,10)", "says": "Sigmoid fails.", "source": "Table 1"},
        {"claim": "learned(relu,2) > learned(sigmoid,10)", "says": "ReLU learns.", "source": "abstract"},
        {"claim": "error(sigmoid,30) > 50", "says": "At 30 nothing is learned.", "source": "section 4"},
    ],
    "full": {"seeds": 3},
    "small": {
        "seeds": 2,
        "minutes": 1,
        "where": "depth < 30",
        "overrides": ["trainer.max_steps=100", "optimizer.lr=0.1"],
        "why": "The order shows after 100 updates.",
    },
    "figure": {"x": "depth", "lines": "net"},
}


@pytest.fixture
def content() -> dict:
    import copy

    return copy.deepcopy(CONTENT)


@pytest.fixture
def paper(content) -> Paper:
    return Paper.model_validate(content)
