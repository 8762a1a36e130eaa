"""What the report of a large live run takes: 100 000 requests, 20 million chunks, twenty spans a request.

    python -m harness.large_report [--requests 100000] [--keep FOLDER]

A run of the stack in a box is measured, a thousand requests of some 200 chunks, and told again with other names and later times until it is large:
every row, chunk and span is one that a live run wrote, and there are as many kinds of requests as a thousand had. Then ``latprof report`` reads it,
without and with the HTML page, each in a process of its own, whose processor time (all threads) and peak memory are the kernel's word. What it says
is held against the small run's report. The control takes requests one by one and samples as a whole, as reports of small runs may.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness import verdict
from harness.verdict import Figure
from latprof import cli
from latprof.analysis import quantiles
from latprof.config import load_config
from latprof.layers import alike
from latprof.observations.names import CHUNKS_PARQUET, REQUESTS_PARQUET
from latprof.pipeline import run
from latprof.spans.store import PARQUET as SPANS_PARQUET

REQUESTS, SMALL, SEED = 100_000, 1000, 1
TOKENS, RATE_PER_S = 210, 25.0
MOST_S, MOST_GB = 60.0, 4.0
SAME, NEAR = 1e-9, 0.05
_COPIES_AT_ONCE = 5
"""Copies of the small run that are written as one row group: a million chunks."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command took: processor time in user and kernel mode, wall time, peak memory; and the summary it wrote."""

    cpu_s: float
    wall_s: float
    peak_gb: float
    summary: dict[str, Any]


# --- the run ------------------------------------------------------------------------------------------------------------------------------


def measured(folder: Path, requests: int = SMALL) -> Path:
    """The small run, live."""
    config = {
        "out": folder,
        "load": {"rate_per_s": RATE_PER_S, "num_requests": requests, "seed": SEED, "warmup_requests": 5},
        "workload": {"prompt_tokens": 128, "output_tokens": TOKENS},
        "stub": {"prefill": {"t0": "5ms", "per_token_ns": 20_000}, "decode": {"t1": "2ms", "per_sequence_ns": 20_000}},
    }
    return run(load_config(None, config)).folder


def repeated(small: Path, folder: Path, copies: int) -> tuple[int, int]:
    """``small`` told ``copies`` times, one after the other in time; how many chunks that makes, and how many of them bear tokens."""
    folder.mkdir()
    requests = pq.read_table(small / REQUESTS_PARQUET)
    requests = requests.filter(pc.not_equal(requests["phase"], "warmup"))
    numbers = requests["request"].to_numpy()
    chunks = pq.read_table(small / CHUNKS_PARQUET)
    chunks = chunks.filter(pc.is_in(chunks["request"], pa.array(numbers)))
    spans = pq.read_table(small / SPANS_PARQUET)
    spans = spans.filter(pc.is_in(spans["trace_id"], requests["trace_id"].combine_chunks()))
    length_ns = int(pc.max(requests["end_ns"]).as_py() - pc.min(requests["intended_ns"]).as_py()) + 40_000_000
    for name, table in ((REQUESTS_PARQUET, requests), (CHUNKS_PARQUET, chunks), (SPANS_PARQUET, spans)):
        with pq.ParquetWriter(folder / name, table.schema, compression="zstd") as writer:
            for part in _copies(table, copies, int(numbers.max()) + 1, length_ns):
                writer.write_table(part)
    _write_meta(small, folder, len(numbers) * copies, length_ns * (copies - 1))
    return int(chunks.num_rows) * copies, int(pc.sum(requests["token_chunks"]).as_py()) * copies


def _copies(table: pa.Table, copies: int, numbers: int, length_ns: int) -> Iterator[pa.Table]:
    """``table`` again and again: requests, sessions and traces named anew, every stamp later by ``length_ns``."""
    for begin in range(0, copies, _COPIES_AT_ONCE):
        parts = [_copy(table, copy, numbers, length_ns) for copy in range(begin, min(copies, begin + _COPIES_AT_ONCE))]
        yield pa.concat_tables(parts).unify_dictionaries()


def _copy(table: pa.Table, copy: int, numbers: int, length_ns: int) -> pa.Table:
    for index, column in enumerate(table.schema):
        if column.name in {"request", "session"}:
            table = table.set_column(index, column, pc.add(table[column.name], copy * numbers))
        elif column.name.endswith("_ns") and column.name != "before_first_token_ns":
            table = table.set_column(index, column, pc.add(table[column.name], copy * length_ns))
        elif column.name == "trace_id":
            named = pc.binary_join_element_wise(f"{copy:08x}", pc.utf8_slice_codeunits(table[column.name], 8), "")
            table = table.set_column(index, column, named)
        elif column.name in {"response_id", "attributes"}:
            table = table.set_column(index, column, pc.replace_substring(table[column.name], "chatcmpl-", f"chatcmpl-{copy}-"))
        elif column.name == "events":
            told = [_later(text, copy * length_ns) for text in table[column.name].to_pylist()]
            table = table.set_column(index, column, pa.array(told, column.type))
    return table


def _later(events: str, by_ns: int) -> str:
    """The events of a span, all later."""
    return orjson.dumps([{**event, "unix_ns": event["unix_ns"] + by_ns} for event in orjson.loads(events)]).decode()


def _write_meta(small: Path, folder: Path, requests: int, longer_ns: int) -> None:
    meta = json.loads((small / "run.json").read_text(encoding="utf-8"))
    measured = meta["phases"][-1]
    meta["planned"][measured["name"]] = requests
    measured["end_ns"] += longer_ns
    for worker in measured["workers"]:
        worker["end_ns"] += longer_ns
    meta["config"]["load"]["num_requests"] = requests
    (folder / "run.json").write_text(json.dumps(meta), encoding="utf-8")


# --- the report ---------------------------------------------------------------------------------------------------------------------------


def report(folder: Path, *more: str, program: str = "latprof") -> Cost:
    """``latprof report`` in a process of its own."""
    summary = folder.parent / "summary.json"
    command = [sys.executable, "-m", program, "report", str(folder), "--json", str(summary), *more]
    before = os.times()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    after = os.times()
    if process.returncode not in (0, 4):  # 4: the small run was measured on a busy machine, and says so
        raise RuntimeError(f"latprof report left with {process.returncode}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(cpu_s, after.elapsed - before.elapsed, used.ru_maxrss * 1024 / 1e9, json.loads(summary.read_text(encoding="utf-8")))


def one_by_one() -> None:
    """``latprof`` without what makes large reports quick and small: the control."""
    alike.FEWEST = quantiles.LARGE = 1 << 62
    cli.main()


def figures(small: Cost, large: Cost, page: Cost, requests: int, chunks: int, tokens: int) -> list[Figure]:
    """The report's cost against its bounds, and what it says against what the small run's says."""
    mean_ms, wanted_ms = ({layer["layer"]: layer["mean_ms"] for layer in cost.summary["layers"]["e2el"]} for cost in (large, small))
    found = [
        *_costs(f"{requests:,} requests, {chunks / 1e6:.1f} million chunks", large),
        *_costs("with its page", page),
        Figure("requests told of", float(large.summary["counts"]["ok"]), requests, requests, ""),
        Figure("gaps told of", float(large.summary["n_itl"]), tokens - requests, tokens - requests, ""),
        Figure("layers, mean furthest from the small run's", max(abs(mean_ms[name] - wanted_ms[name]) for name in wanted_ms), high=0.001),
    ]
    # Means are those of the small run; percentiles lie between its order statistics.
    for name, near in (("mean_ttft_ms", SAME), ("mean_itl_ms", SAME), ("p50_ttft_ms", NEAR), ("p90_ttft_ms", NEAR), ("p99_itl_ms", NEAR)):
        found.append(Figure(f"{name}, times that of the small run", large.summary[name] / small.summary[name], 1 - near, 1 + near, ""))
    return found


def _costs(what: str, cost: Cost) -> list[Figure]:
    return [
        Figure(f"{what}: processor time", cost.cpu_s, high=MOST_S, unit="s"),
        Figure("  wall time", cost.wall_s, unit="s"),
        Figure("  peak memory", cost.peak_gb, high=MOST_GB, unit="GB"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the run, have it reported, and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the runs there, and leave them; take those that are there")
    options = parser.parse_args(arguments)
    kept = Path(tempfile.mkdtemp(prefix="latprof-large-")) if options.keep is None else options.keep
    try:
        small, large = kept / "small", kept / "large"
        if not small.exists():
            measured(small)
        copies = -(-options.requests // SMALL)
        chunks, tokens = repeated(small, large, copies)
        told = figures(report(small), report(large), report(large, "--html", str(kept / "page.html")), SMALL * copies, chunks, tokens)
        head = f"seed {SEED}: {SMALL} requests at {RATE_PER_S:g}/s, told {copies} times; asked: {MOST_S:g} s and {MOST_GB:g} GB"
        passed = verdict.show("the report of a large run", head, told)
        slow = report(large, program="harness.large_report")
        passed &= verdict.control("requests one by one, samples as a whole", _costs("report", slow))
    finally:
        if options.keep is None:
            shutil.rmtree(kept, ignore_errors=True)
    verdict.end(passed=passed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["report"]:
        one_by_one()
    else:
        main()
