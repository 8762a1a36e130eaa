"""docs/reading-a-run.md: its snippets are run, and say what the report says; its columns are those of the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from latprof import load_config, run
from latprof.observations.columns import CHUNKS_SCHEMA, REQUESTS_SCHEMA
from latprof.observations.graph import STEPS_SCHEMA
from latprof.observations.injected import INJECT_SCHEMA
from latprof.observations.segments import SEGMENTS_SCHEMA, STREAMED_SCHEMA
from latprof.pipeline import Outcome, simulate
from latprof.report.summary import summary
from latprof.spans.store import SCHEMA as SPANS_SCHEMA

DOC = (Path(__file__).parents[1] / "docs" / "reading-a-run.md").read_text(encoding="utf-8")
FREE_PORTS = {"grpc_port": 0, "http_port": 0}


def sections(mark: str) -> dict[str, str]:
    """Title -> text of the document's sections at that level."""
    _, *parts = re.split(rf"^{mark} ", DOC, flags=re.MULTILINE)
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def snippets(title: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", sections("##")[title], re.DOTALL)


def ran(snippet: str, folder: Path) -> dict[str, Any]:
    """The names a snippet leaves behind, as in a fresh interpreter in which the document's RUN is ``folder``."""
    names: dict[str, Any] = {"RUN": str(folder)}
    exec(compile(snippet, "docs/reading-a-run.md", "exec"), names)  # noqa: S102 - the document's own
    return names


def percentiles(outcome: Outcome, metric: str) -> list[float]:
    told = summary(outcome.report)
    return [told[f"p{p}_{metric}_ms"] for p in (50, 90, 99)]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    settings = {"load": {"rate_per_s": 20, "num_requests": 1_500, "warmup_requests": 100, "warmup": "0s"}}
    return simulate(load_config(None, {**settings, "out": tmp_path_factory.mktemp("simulated") / "run"}))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Sessions of two turns, a warm-up among them."""
    settings = {
        "load": {"rate_per_s": 20, "num_requests": 12, "warmup_requests": 3, "warmup": "0s"},
        "workload": {"prompt_tokens": 8, "output_tokens": 4, "turns": 2},
        "spans": FREE_PORTS,
    }
    return run(load_config(None, {**settings, "out": tmp_path_factory.mktemp("measured") / "run"}))


# --- what is written there ----------------------------------------------------------------------------------------------------------------

SCHEMAS = {
    "`requests.parquet`": REQUESTS_SCHEMA,
    "`chunks.parquet`": CHUNKS_SCHEMA,
    "`spans.parquet`": SPANS_SCHEMA,
    "`steps.parquet`": STEPS_SCHEMA,
    "`inject.parquet`": INJECT_SCHEMA,
}


def documented(title: str) -> Iterator[tuple[str, str]]:
    """(column, type) of a table in the document; one type said once is that of all the columns beside it."""
    table = sections("###")[title].split("\n## ")[0]
    for line in re.findall(r"^\| `.*", table, re.MULTILINE):
        columns, kinds, _ = (cell.strip() for cell in line.strip("| ").split(" | ", 2))
        names = re.findall(r"`(\w+)`", columns)
        types = kinds.split(", ") if not kinds.startswith("list") else [kinds]
        yield from zip(names, types * len(names) if len(types) == 1 else types, strict=True)


def in_words(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_list(kind):
        return "list of (name, value)" if pa.types.is_struct(kind.value_type) else f"list of {kind.value_type}"
    return str(kind)


@pytest.mark.parametrize("title", SCHEMAS)
def test_columns_are_those_of_the_file(title: str) -> None:
    assert list(documented(title)) == [(field.name, in_words(field.type)) for field in SCHEMAS[title]]


def test_columns_of_a_simulated_runs_tokens() -> None:
    every = {(field.name, str(field.type)) for schema in (SEGMENTS_SCHEMA, STREAMED_SCHEMA) for field in schema}
    assert set(documented("`segments.parquet` and `streamed.parquet`")) == every


def test_every_file_of_a_run_is_in_the_document(simulated: Outcome) -> None:
    for path in simulated.folder.iterdir():
        assert f"`{path.name}`" in DOC


# --- what is run --------------------------------------------------------------------------------------------------------------------------


def test_the_ttft_in_three_tools_is_the_reports(simulated: Outcome) -> None:
    found = [ran(snippet, simulated.folder) for snippet in snippets("Percentiles of the TTFT")]
    assert [next(tool for tool in ("duckdb", "pd", "pl") if tool in names) for names in found] == ["duckdb", "pd", "pl"]
    for names in found:
        assert list(names["ttft_ms"]) == pytest.approx(percentiles(simulated, "ttft"), rel=1e-12)


def test_simulated_gaps_are_the_reports(simulated: Outcome) -> None:
    (snippet,) = snippets("Tokens of a simulated run")
    assert ran(snippet, simulated.folder)["mean_itl_ms"] == pytest.approx(summary(simulated.report)["mean_itl_ms"], rel=1e-12)


def test_layers_are_the_reports(simulated: Outcome) -> None:
    found, kept = snippets("Layers")
    means = ran(found, simulated.folder)["mean_ms"].to_dict()
    assert means == pytest.approx({row["layer"]: row["mean_ms"] for row in summary(simulated.report)["layers"]["ttft"]})
    slowest = ran(kept, simulated.folder)["slowest"]
    assert len(slowest) == 10
    assert slowest == sorted(slowest, key=lambda row: -row[1])


def test_errors_are_counted_once_each(simulated: Outcome) -> None:
    (snippet,) = snippets("Errors by class over time")
    rows = ran(snippet, simulated.folder)["errors"]
    assert sum(count for _, _, count in rows) == 1_500
    assert [from_s for from_s, *_ in rows] == list(range(0, 10 * len(rows), 10))


@pytest.mark.live
def test_snippets_on_a_measured_run(measured: Outcome) -> None:
    told = summary(measured.report)
    for snippet in snippets("Percentiles of the TTFT"):
        assert list(ran(snippet, measured.folder)["ttft_ms"]) == pytest.approx(percentiles(measured, "ttft"), rel=1e-12)
    gaps = snippets("Gaps between tokens")
    assert len(gaps) == 2
    for snippet in gaps:
        assert list(ran(snippet, measured.folder)["itl_ms"]) == pytest.approx(percentiles(measured, "itl"), rel=1e-12)
    hops = {service: spans for service, spans, _ in ran(snippets("Spans beside requests")[0], measured.folder)["hops"]}
    assert hops["latprof-stub-gateway"] == told["counts"]["ok"]
    means = ran(snippets("Layers")[0], measured.folder)["mean_ms"].to_dict()
    assert means == pytest.approx({row["layer"]: row["mean_ms"] for row in told["layers"]["ttft"]})
    files = {path.name for path in measured.folder.iterdir()}
    assert {"run.json", "requests.parquet", "chunks.parquet", "spans.parquet", "steps.parquet"} <= files
    assert all(f"`{name}`" in DOC for name in files)
