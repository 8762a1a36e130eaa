"""Layers kept in the run folder as they are known, where nothing has to be found from spans: ``layers.parquet`` of a simulated run.

One row per request that has them: ``request``, and per layer of the call its ``<layer>:wait`` and ``<layer>:service`` in ns (``<layer>:unsplit``
where a source does not tell the two apart), zero for a layer that the request lacks. Names, sources and hops stand in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.errors import ConfigError
from latprof.layers.call import AFTER_FIRST_TOKEN, first_token_layers
from latprof.layers.table import IntArray, Layers
from latprof.observations.columns import Requests
from latprof.observations.encodings import encodings

FILE = "layers.parquet"
_META = b"latprof.layers"
_PARTS = ("wait", "service", "unsplit")


class LayersWriter:
    """Writes the call's layers in batches. ``names`` in path order; ``unsplit`` are those whose wait and service are not told apart."""

    def __init__(
        self, folder: Path, names: Sequence[str], hops: Sequence[str] = (), source: str = "simulated", unsplit: Sequence[str] = ()
    ) -> None:
        self._names = tuple(names)
        fields = [("request", pa.int64())]
        fields += [(f"{name}:{part}", pa.int64()) for name in names for part in (("unsplit",) if name in unsplit else ("wait", "service"))]
        meta = json.dumps({"names": list(names), "hops": list(hops), "source": source})
        self._schema = pa.schema(fields, metadata={_META: meta.encode()})
        self._writer = pq.ParquetWriter(folder / FILE, self._schema, **encodings(self._schema))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to write, in order: ``request`` first."""
        return tuple(self._schema.names)

    def write(self, columns: Mapping[str, IntArray | Sequence[int]]) -> None:
        """One batch: every column of ``columns``, all of the same length."""
        self._writer.write_table(pa.table([pa.array(columns[name], pa.int64()) for name in self.columns], schema=self._schema))

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def has_layers(folder: Path) -> bool:
    """Whether the folder holds its layers."""
    return (folder / FILE).exists()


def load_layers(folder: Path, requests: Requests, metric: str = "ttft") -> Layers:
    """The layers of the measured requests that succeeded, for ``ttft`` or ``e2el``.

    Raises:
        ConfigError: the file is damaged, or tells of requests that are not there.
    """
    try:
        table = pq.read_table(folder / FILE)
        meta = json.loads(table.schema.metadata[_META])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{folder / FILE}: is damaged ({error}); wanted the file as latprof wrote it; copy the run folder again"
        ) from None
    wanted = np.flatnonzero(requests.success & requests.measured)
    at = _positions(folder, table["request"].to_numpy(), requests.request[wanted])
    call = _call(table, meta, wanted, at)
    return call if metric == "e2el" else first_token_layers(call)


def _positions(folder: Path, stored: IntArray, wanted: IntArray) -> IntArray:
    """Where each wanted request stands in the file, which is in any order."""
    order = np.argsort(stored, kind="stable")
    at = np.searchsorted(stored, wanted, sorter=order)
    found = order[np.minimum(at, len(order) - 1)] if len(order) else np.empty(0, np.int64)
    if len(wanted) and (not len(order) or (stored[found] != wanted).any()):
        raise ConfigError(f"{folder / FILE}: has no layers of some requests; wanted those of every success; copy the run folder again")
    return np.asarray(found, np.int64)


def _call(table: pa.Table, meta: Mapping[str, Sequence[str]], rows: IntArray, at: IntArray) -> Layers:
    names = tuple(meta["names"])
    parts: dict[str, IntArray] = {part: np.zeros((len(rows), len(names)), np.int64) for part in _PARTS}
    for index, name in enumerate(names):
        for part in _PARTS:
            if f"{name}:{part}" in table.schema.names:
                parts[part][:, index] = table[f"{name}:{part}"].to_numpy()[at]
    total_ns = parts["wait"] + parts["service"] + parts["unsplit"]
    return Layers(
        metric="e2el",
        names=names,
        rows=rows,
        total_ns=total_ns,
        wait_ns=parts["wait"],
        service_ns=parts["service"],
        # The simulator knows every layer of every request; the last two are there for every answer, if only as zero.
        present=(total_ns > 0) | np.isin(names, AFTER_FIRST_TOKEN),
        sources=tuple((str(meta["source"]),) for _ in names),
        hops=tuple(meta["hops"]),
    )
