"""The two Parquet files of a record: rows collected in memory, written as a whole, read back when a run goes on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradflow.runs.record import write_bytes

_WORD = pa.dictionary(pa.int32(), pa.string())
METRICS = pa.schema(
    [("step", pa.int64()), ("epoch", pa.int32()), ("split", _WORD), ("name", _WORD), ("value", pa.float64())]
)
GRADFLOW = pa.schema(
    [
        ("step", pa.int64()),
        ("block", pa.int32()),  # null for what is not a block: stem, head, parameter groups
        ("name", _WORD),
        ("time", pa.int32()),  # time step of a recurrent network; null elsewhere
        ("quantity", _WORD),
        ("value", pa.float64()),
    ]
)


def readable(path: Path) -> bool:
    """Whether the series of a record, where there are any, can be read: without them its checkpoint is of no use."""
    try:
        for file in (path / "metrics.parquet", path / "gradflow.parquet"):
            if file.exists():
                pq.read_table(file)
    except (pa.ArrowException, OSError):
        return False
    return True


class Series:
    """Rows of one file. `schema` says which columns it has; a row may leave out those that are null.

    Args:
        file: where it is kept.
        schema: `METRICS` or `GRADFLOW`.
        before: rows of an earlier attempt are kept if their step is below this.
    """

    def __init__(self, file: Path, schema: pa.Schema, before: int = 0) -> None:
        self.file, self.schema = file, schema
        self._rows: list[dict[str, Any]] = []
        self._kept = schema.empty_table()
        if before and file.exists():
            earlier = pq.read_table(file).cast(schema)
            self._kept = earlier.filter(pc.less(earlier["step"], before))

    def add(self, **row: Any) -> None:
        self._rows.append(row)

    def table(self) -> pa.Table:
        if self._rows:
            new = pa.table({name: [r.get(name) for r in self._rows] for name in self.schema.names}, schema=self.schema)
            self._kept = _by_step(pa.concat_tables([self._kept, new]).unify_dictionaries())
            self._rows.clear()
        return self._kept

    def write(self) -> None:
        buffer = io.BytesIO()
        pq.write_table(self.table(), buffer, compression="zstd")
        write_bytes(self.file, buffer.getvalue())


def _by_step(table: pa.Table) -> pa.Table:
    """Rows in the order of steps, and within a step as they came: that of a run which was stopped within a chunk of
    steps, too."""
    order = np.argsort(table["step"].to_numpy(), kind="stable")
    return table if (order == np.arange(len(order))).all() else table.take(order)
