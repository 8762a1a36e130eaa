"""What a gate leaves for a CI: valid by schema, small enough, and nothing that a stranger wrote in it is obeyed."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from made_gate import made_gate, seen
from markdown_it import MarkdownIt
from rich.console import Console

from latprof.analysis.verdicts.assertions import Claim
from latprof.analysis.verdicts.estimates import without_interval
from latprof.errors import ConfigError, Exit
from latprof.report.gate.exports import benchmark_json, gate_json, otava_csv
from latprof.report.gate.junit import TRUST, junit
from latprof.report.gate.markdown import MOST_BYTES, escaped, markdown
from latprof.report.gate.terminal import write
from latprof.report.gate.values import Gated

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))
HOSTILE = "</testcase>]]>|<script>alert(1)</script>`x` [a](http://evil) @team #1 \x1b[2J\u202e *b* ![i](x) www.evil.org\n## h"


def suite(gated: Gated) -> ET.Element:
    document = junit(gated)
    SCHEMA.validate(document.decode())
    found = ET.fromstring(document).find("testsuite")  # noqa: S314 - our own document
    assert found is not None
    return found


def cases(gated: Gated) -> dict[str, ET.Element]:
    return {case.attrib["name"]: case for case in suite(gated).iter("testcase")}


# --- JUnit --------------------------------------------------------------------------------------------------------------------------------


def test_junit_has_a_case_per_assertion_and_is_valid() -> None:
    gated = made_gate()
    head = suite(gated).attrib
    assert head["tests"] == "8"
    assert (head["failures"], head["errors"], head["skipped"]) == ("1", "0", "2")
    found = cases(gated)
    assert list(found["ttft p95 < 600ms"]) == []
    failure = found["gateway p95 < 50ms"].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == failure.attrib["message"].strip()
    for told in ("11.20 ms over", "observed 61.20 ms", "bound 50.00 ms", "95 % interval [59.24 .. 63.16]", "(MDE)"):
        assert told in failure.attrib["message"]


def test_junit_skips_what_is_inconclusive_and_never_fails_a_warning() -> None:
    found = cases(made_gate())
    skipped = found["ttft p99 < 900ms"].find("skipped")
    assert skipped is not None
    assert "inconclusive: observed 850.00 ms; bound 900.00 ms; the sample is too small for p99" in skipped.attrib["message"]
    warning = found["router p95 < 5ms"].find("skipped")
    assert warning is not None
    assert warning.attrib["message"].startswith("warning, 4.00 ms over")


def test_junit_fails_what_is_open_where_that_is_taken_for_a_failure() -> None:
    gated = replace(made_gate(), inconclusive="fail")
    assert (suite(gated).attrib["failures"], suite(gated).attrib["skipped"]) == ("2", "1")  # the warning is skipped as before
    failure = cases(gated)["ttft p99 < 900ms"].find("failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("inconclusive, taken for a failure: observed 850.00 ms")
    invalid = replace(made_gate(invalid=True), inconclusive="fail")
    assert (suite(invalid).attrib["failures"], suite(invalid).attrib["skipped"]) == ("0", "7")


def test_junit_of_runs_that_cannot_be_trusted() -> None:
    gated = made_gate(invalid=True)
    found = cases(gated)
    error = found[TRUST].find("error")
    assert error is not None
    assert "requests went late" in error.attrib["message"]
    assert all(case.find("skipped") is not None for name, case in found.items() if name != TRUST)
    assert (suite(gated).attrib["failures"], suite(gated).attrib["errors"], suite(gated).attrib["skipped"]) == ("0", "1", "7")


def test_junit_is_valid_whatever_strangers_wrote() -> None:
    gated = made_gate(title=HOSTILE, claims_=[Claim(HOSTILE, seen(9), 5e6)])
    (name,) = set(cases(gated)) - {TRUST}
    assert "<script>" in name  # shown, as text
    assert "\x1b" not in junit(gated).decode()


# --- Markdown -----------------------------------------------------------------------------------------------------------------------------


def html(text: str) -> str:
    page: str = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    return page


def test_markdown_shows_every_assertion() -> None:
    page = html(markdown(made_gate()))
    assert "GATE FAILED" in page
    assert page.count("<tr>") >= 1 + 7
    for told in ("gateway p95 &lt; 50ms", "11.20 ms over", "[59.24 .. 63.16]", "moved from prefill to gateway", "Latency budget"):
        assert told in page
    assert page.index("gateway p95") < page.index("ttft p95 &lt; 600ms")  # what broke comes first


def test_markdown_obeys_no_stranger() -> None:
    text = markdown(made_gate(title=HOSTILE, claims_=[Claim(HOSTILE, seen(9), 5e6)]))
    page = html(text)
    for tag in ("<script", "<a ", "<img", "<h2>h", "<em>", "<code"):
        assert tag not in page
    assert "@team" not in text  # nobody is called
    assert "http://" not in text
    assert "www." not in text
    row = next(line for line in text.splitlines() if "alert" in line)
    assert row.count("|") == 7  # one cell
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_escaped_text_shows_as_itself() -> None:
    for text in ("a|b", "1. x", "- y", "<b>", "a_b_c", "~~s~~", "&amp;", "`c`", "x@y.z", "https://h/p"):
        shown = re.sub(r"<[^>]+>", "", html(escaped(text))).strip()
        assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&") == text


def test_markdown_stays_small_and_keeps_what_broke() -> None:
    many = [Claim(f"layer{index} p95 < 600ms {'x' * 200}", seen(512), 600e6) for index in range(2_000)] + [
        Claim("broken p95 < 5ms", seen(9), 5e6)
    ]
    text = markdown(made_gate(claims_=many))
    assert len(text.encode()) <= MOST_BYTES
    assert "broken p95" in text
    assert "more assertions are not shown" in text


# --- other programs -----------------------------------------------------------------------------------------------------------------------


def test_json_holds_every_figure_and_no_time_of_day() -> None:
    told = json.loads(json.dumps(gate_json(made_gate()), allow_nan=False))
    assert (told["verdict"], told["exit_code"]) == ("fail", Exit.GATE_FAILED)
    gateway = told["assertions"][1]
    assert (gateway["name"], gateway["outcome"], gateway["observed"], gateway["bound"]) == ("gateway p95 < 50ms", "fail", 61.2, 50.0)
    assert gateway["low"] < 61.2 < gateway["high"]
    assert told["assertions"][2]["low"] is None
    assert told["latency_budget"]["layers"]["gateway"] == {"promised_ms": 50.0, "spent_ms": 61.2, "left_ms": -11.2}
    assert "1800000000" not in json.dumps(told)


def test_benchmark_entries_are_smaller_is_better_under_names_without_bounds() -> None:
    entries = {entry["name"]: entry for entry in benchmark_json(made_gate())}
    assert entries["ttft p95"]["value"] == 512.0
    assert entries["ttft p95"]["unit"] == "ms"
    assert re.fullmatch(r"± 1\.96\d*", entries["ttft p95"]["range"])
    assert "range" not in entries["ttft p99"]
    assert entries["missed goodput"]["value"] == pytest.approx(1.0)
    assert not [name for name in entries if "baseline" in name]


def test_otava_rows_are_added_with_new_columns_at_the_end() -> None:
    first = otava_csv(made_gate(claims_=[Claim("ttft p95 < 600ms", seen(512), 600e6)]))
    rows = list(csv.DictReader(io.StringIO(otava_csv(made_gate(), first))))
    assert [row["ttft_p95_ms"] for row in rows] == ["512.0000", "512.0000"]
    assert [row["gateway_p95_ms"] for row in rows] == ["", "61.2000"]
    assert rows[0]["time"] == "2027-01-15 08:00:00 +0000"
    assert rows[0]["commit"] == "0123abc"
    with pytest.raises(ConfigError, match="is not a CSV that latprof gate wrote"):
        otava_csv(made_gate(), "a,b\n1,2\n")


def test_a_percentile_of_too_few_requests_is_given_to_nobody() -> None:
    few = without_interval(157.3e6, 1, 60, "p99 needs 3 replications, got 1", 60.0)
    gated = made_gate(claims_=[Claim("ttft p99 < 600ms", few, 600e6, p=0.99), Claim("ttft p50 < 600ms", few, 600e6, p=0.5)])
    assert [entry["name"] for entry in benchmark_json(gated)] == ["ttft p50"]
    (row,) = csv.DictReader(io.StringIO(otava_csv(gated)))
    assert (row["ttft_p99_ms"], row["ttft_p50_ms"]) == ("", "157.3000")
    told = {one["name"]: (one["observed"], one["slack"]) for one in gate_json(gated)["assertions"]}
    assert told == {"ttft p99 < 600ms": (None, None), "ttft p50 < 600ms": (157.3, 442.7)}
    for text in (printed(gated), markdown(gated)):
        (line,) = (line for line in text.splitlines() if "157.30 ms" in line)
        assert "p50" in line
        assert "too few of 60 requests lie beyond the percentile" in " ".join(text.split())
    message = cases(gated)["ttft p99 < 600ms"].find("skipped")
    assert message is not None
    assert "observed -; bound 600.00 ms; p99 needs 3 replications, got 1; no figure is shown" in message.attrib["message"]


def test_runs_that_cannot_be_trusted_are_no_part_of_a_history() -> None:
    gated = made_gate(invalid=True)
    assert benchmark_json(gated) == []
    before = otava_csv(made_gate())
    good, bad = csv.DictReader(io.StringIO(otava_csv(gated, before)))
    assert (good["ttft_p95_ms"], bad["verdict"]) == ("512.0000", "invalid")
    assert {name for name, cell in bad.items() if cell} == {"time", "commit", "verdict"}
    first = next(csv.DictReader(io.StringIO(otava_csv(gated))))  # its columns are there for the rows to come
    assert first["ttft_p95_ms"] == ""


def test_no_row_of_runs_that_cannot_be_trusted_says_that_it_passed() -> None:
    gated = made_gate(invalid=True)
    text = markdown(gated)
    assert text.startswith("## ⛔ latprof: NOT VALID, no verdict counts&#58; 7 assertions not judged")
    assert not [mark for mark in ("✅", "❌", "❔", "⚠️") if mark in text]
    shown = printed(gated)
    assert not {"✓", "✗"} & set(shown)
    assert "passed" not in shown
    told = suite(gated).findtext("system-out") or ""
    assert "not judged: ttft p95 < 600ms" in told
    assert "pass" not in told


@pytest.mark.parametrize("row", ["1,2,3,4", "1,2"], ids=["long", "short"])
def test_an_otava_file_with_a_row_of_another_length_is_refused(row: str) -> None:
    with pytest.raises(ConfigError, match="line 3 has not as many cells"):
        otava_csv(made_gate(), f"time,commit,verdict\n1,2,pass\n{row}\n")


# --- the terminal -------------------------------------------------------------------------------------------------------------------------


def printed(gated: Gated, width: int = 140, *, ascii_only: bool = False) -> str:
    console = Console(
        file=io.TextIOWrapper(io.BytesIO(), "ascii" if ascii_only else "utf-8", errors="replace"), width=width, highlight=False
    )
    with console.capture() as capture:
        write(gated, console)
    return capture.get()


def test_the_terminal_begins_with_the_verdict_and_its_assertions() -> None:
    lines = printed(made_gate()).splitlines()
    assert lines[0].strip() == "GATE FAILED: 2 failed, 1 inconclusive, 4 passed of 7 assertions"
    assert re.search(r"✗ +gateway p95 < 50ms +61.20 ms +\[59.24 .. 63.16\] +11.20 ms over", lines[2])
    assert any("router p95 < 5ms (warning)" in line for line in lines)
    assert any(re.search(r"\+3\.00 ms", line) for line in lines)


def test_a_terminal_without_marks_has_words() -> None:
    text = printed(made_gate(), ascii_only=True)
    assert "FAIL" in text
    assert "✗" not in text


def test_the_terminal_obeys_no_stranger() -> None:
    assert "\x1b" not in printed(made_gate(title=HOSTILE, claims_=[Claim(HOSTILE, seen(9), 5e6)]))


def test_narrow_terminals_lose_nothing() -> None:
    text = printed(made_gate(), width=80)
    assert "61.20 ms" in text
    assert "11.20 ms over" in text
