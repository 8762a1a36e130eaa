"""How the columns of a Parquet file are written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """What a Parquet writer is told for ``schema``.

    Stamps come nearly in order and counts are small: differences of a few bits where plain int64 takes eight bytes, and a third of the time of
    a dictionary, which stamps outgrow. (Not for int8, for which Parquet's own encodings are as short.)
    """
    ints = [column.name for column in schema if column.type in (pa.int64(), pa.int32())]
    return {
        "compression": "zstd",
        "column_encoding": dict.fromkeys(ints, "DELTA_BINARY_PACKED"),
        "use_dictionary": [path for column in schema if column.name not in ints for path in _leaf_paths(column)],
    }


def _leaf_paths(column: pa.Field) -> list[str]:
    """A column's leaves as Parquet names them."""
    if not pa.types.is_list(column.type):
        return [column.name]
    return [f"{column.name}.list.element.{part.name}" for part in column.type.value_type]
