"""Thousands of mappings that share a few values, as JSON that is small and quick to read.

Every distinct value is written once, below its key. A mapping is then a line of small numbers: which keys it has, and
the place of each value among those of its key. Keys with one value all over need no number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def pack(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A JSON object from which `unpack` makes the same mappings, keys in the same order.

    >>> pack([{"a": 1, "b": [2]}, {"a": 1, "b": [3]}])
    {'keys': [['a', 'b']], 'values': {'a': [1], 'b': [[2], [3]]}, 'rows': ['0 0', '0 1']}
    """
    shapes: dict[tuple[str, ...], int] = {}
    values: dict[str, list[Any]] = {}
    places: dict[tuple[str, str], int] = {}  # a key, a value as text → its place
    seen: dict[tuple[str, Any], int] = {}  # the same by identity, which is quicker
    numbers: list[tuple[int, list[tuple[str, int]]]] = []
    for row in rows:
        line = []
        for key, value in row.items():
            same = (key, id(value) if isinstance(value, dict | list) else (type(value), value))
            if same not in seen:
                text = (key, json.dumps(value))
                if text not in places:
                    places[text] = len(values.setdefault(key, []))
                    values[key].append(value)
                seen[same] = places[text]
            line.append((key, seen[same]))
        numbers.append((shapes.setdefault(tuple(row), len(shapes)), line))
    vary = {key for key, found in values.items() if len(found) > 1}
    lines = [" ".join(map(str, [shape, *(n for key, n in line if key in vary)])) for shape, line in numbers]
    return {"keys": [list(shape) for shape in shapes], "values": values, "rows": lines}


def unpack(packed: dict[str, Any]) -> list[dict[str, Any]]:
    """What `pack` was given. Mappings share their values: change none of them.

    Raises:
        KeyError, TypeError, ValueError, IndexError: for something else.
    """
    values: dict[str, list[Any]] = packed["values"]
    shapes = [
        ({key: values[key][0] for key in keys}, [(key, values[key]) for key in keys if len(values[key]) > 1])
        for keys in packed["keys"]
    ]
    rows = []
    for line in packed["rows"]:
        first, *numbers = map(int, line.split())
        whole, vary = shapes[first]
        row = whole.copy()
        for (key, among), number in zip(vary, numbers, strict=True):
            row[key] = among[number]
        rows.append(row)
    return rows
