from __future__ import annotations

from typing import Any

import orjson
from made_run import made_report

from latprof.report.presets import lines
from latprof.report.summary import summary

USED = [
    {"preset": "B200", "quantity": "memory", "value": 180, "low": 180, "high": 192, "unit": "GB", "tag": "secondary"},
    {"preset": "B200", "quantity": "bandwidth", "value": 8.0, "low": 7.7, "high": 8.0, "unit": "TB/s", "tag": "read"},
    {"preset": "fast", "quantity": "decode", "value": 2059, "low": 1706, "high": 3000, "unit": "tokens/s", "tag": "secondary"},
]


def test_every_number_is_told_with_its_range() -> None:
    told = [
        "B200: memory 180 [180-192] GB, bandwidth 8 [7.7-8] TB/s (secondary, read)",
        "fast: decode 2059 [1706-3000] tokens/s (secondary)",
    ]
    assert list(lines(USED)) == told
    report: Any = made_report(presets=USED)
    assert summary(report)["presets"] == told
    assert orjson.dumps(summary(report))


def test_a_run_without_presets_says_nothing_of_them() -> None:
    assert summary(made_report())["presets"] == []
