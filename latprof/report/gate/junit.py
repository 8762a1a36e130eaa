"""A gate as JUnit XML: one case per assertion, and one for whether the runs can be trusted at all.

failed         failure: observed, bound, interval, MDE       inconclusive   skipped, with what is missing; failure by --inconclusive fail
not valid      error in the first case, all others skipped   warning        its own words, never a failure

Written to satisfy the strictest of the schemas in use (that of Ant's JUnit task) as well as Jenkins' and GitLab's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET

from latprof.analysis.verdicts.assertions import Verdict
from latprof.report.gate import words
from latprof.report.gate.values import Gated
from latprof.report.inert import harmless
from latprof.units import NS_PER_S

TRUST: Final = "the runs can be trusted"
"""The name of the first case."""


def junit(gated: Gated) -> bytes:
    """The document, UTF-8."""
    gated = harmless(gated)  # XML has no way to write control characters
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", _head(gated))
    ET.SubElement(suite, "properties").extend(_properties(gated))
    is_valid = gated.word != "invalid"
    trust = _case(suite, TRUST)
    if not is_valid:
        fatal = [doubt for doubt in gated.doubts if doubt.level == "fatal"]
        text = "\n".join(f"{doubt.text} -> {doubt.remedy}" for doubt in fatal)
        ET.SubElement(trust, "error", message=fatal[0].text, type="invalid").text = text
    for verdict in words.ordered(gated):
        _verdict(_case(suite, verdict.claim.name), verdict, gated)
    ET.SubElement(suite, "system-out").text = _told(gated)
    ET.SubElement(suite, "system-err")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'.encode()


def _head(gated: Gated) -> dict[str, str]:
    is_valid = gated.word != "invalid"
    failures = sum(map(gated.fails_by, gated.verdicts)) if is_valid else 0
    at = datetime.fromtimestamp(gated.when_unix_ns // NS_PER_S, UTC)
    return {
        "id": "0",
        "package": "latprof",
        "name": f"latprof gate {gated.title}",
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}",
        "hostname": "localhost",
        "tests": str(len(gated.verdicts) + 1),
        "failures": str(failures),
        "errors": str(int(not is_valid)),
        "skipped": str(sum(_is_skipped(verdict, gated) for verdict in gated.verdicts)),
        "time": "0",
    }


def _properties(gated: Gated) -> list[ET.Element]:
    told = {"verdict": gated.word, "replications": str(len(gated.runs)), "seeds": " ".join(str(run.seed) for run in gated.runs)}
    if gated.commit:
        told["commit"] = gated.commit
    return [ET.Element("property", name=name, value=value) for name, value in told.items()]


def _case(suite: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", name=name, classname="latprof.gate", time="0")


def _is_skipped(verdict: Verdict, gated: Gated) -> bool:
    return gated.word == "invalid" or (verdict.outcome != "pass" and not gated.fails_by(verdict))


def _verdict(case: ET.Element, verdict: Verdict, gated: Gated) -> None:
    text = words.sentence(verdict, gated.level)
    if gated.word == "invalid":
        ET.SubElement(case, "skipped", message=f"no verdict: a run cannot be trusted; {text}")
    elif verdict.breaks_the_gate:
        ET.SubElement(case, "failure", message=f"{words.slack(verdict)}: {text}", type="budget").text = text
    elif gated.fails_by(verdict):
        ET.SubElement(case, "failure", message=f"inconclusive, taken for a failure: {text}", type="inconclusive").text = text
    elif verdict.outcome == "fail":
        ET.SubElement(case, "skipped", message=f"warning, {words.slack(verdict)}: {text}")
    elif verdict.outcome == "inconclusive":
        ET.SubElement(case, "skipped", message=f"inconclusive: {text}")


def _told(gated: Gated) -> str:
    """What passed, too: with what room."""
    lines = [words.head(gated)]
    for verdict in words.ordered(gated):
        word = "not judged" if gated.word == "invalid" else verdict.outcome
        lines.append(f"{word}: {verdict.claim.name}: {words.sentence(verdict, gated.level)}")
    lines += [f"moved: {words.moved(one)}" for one in gated.moved]
    lines += [f"{run.folder}: seed {run.seed}, {run.requests} requests, {run.failed} failed; {run.cut}" for run in gated.runs]
    return "\n".join(lines)
