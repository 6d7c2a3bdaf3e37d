"""Rows of a record's series, read for a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

COLUMNS = ("step", "block", "name", "time", "quantity", "value")


def read(path: Path, quantities: Sequence[str], columns: Sequence[str], timed: bool) -> dict[str, dict[str, Any]]:
    """quantity → column → values, of the blocks in a run's gradflow.parquet.

    Args:
        columns: of `COLUMNS`.
        timed: whether rows of single time steps are wanted, or those of a whole pass.
    """
    table = pq.ParquetFile(path / "gradflow.parquet").read(columns=["quantity", "block", "time", *columns])
    there = table["time"].is_valid() if timed else table["time"].is_null()
    table = table.filter(pc.and_(table["block"].is_valid(), there))
    found = {}
    for quantity in quantities:
        rows = table.filter(pc.equal(table["quantity"], quantity))
        if len(rows):
            found[quantity] = {name: _values(rows[name]) for name in columns}
    return found


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy())
