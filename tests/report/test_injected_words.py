"""What is said of a hop that a gateway was pointed at."""

from __future__ import annotations

from dataclasses import replace

from made_run import made_injection

from latprof.analysis.causal.injection import Site
from latprof.report.injected import as_json, design, warnings

SITE = Site("127.0.0.1:9100 -> http://127.0.0.1:8001", 3, ("litellm",), ("vllm",), ("haproxy",))


def test_where_it_stood_and_what_tells() -> None:
    told = design(replace(made_injection(), before="vllm", site=SITE))
    assert "ms before vllm, drawn" in told
    assert told.endswith(
        "), at 127.0.0.1:9100 -> http://127.0.0.1:8001; in front of it (no delay moves when they begin): litellm;"
        " behind it (they begin later by the delay): vllm; 3 requests of others passed undelayed"
    )
    assert "127.0.0.1" not in design(made_injection())


def test_what_keeps_the_place_from_being_believed() -> None:
    told = list(warnings(replace(made_injection(), before="litellm", site=SITE, again=4)))
    assert any(line.startswith("4 times a request passed the hop once more") for line in told)
    assert "litellm began without waiting for the delay: the hop does not stand in front of it" in told
    assert any(line.startswith("where haproxy is, before the hop or behind it, is taken from its name") for line in told)
    assert not any("litellm" in line or "haproxy" in line for line in warnings(made_injection()))


def test_a_program_reads_the_same() -> None:
    told = as_json(replace(made_injection(), site=SITE, again=4))
    assert told["again"] == 4
    assert told["site"] == {
        "address": SITE.address,
        "others": 3,
        "in_front": ("litellm",),
        "behind": ("vllm",),
        "untold": ("haproxy",),
    }
    assert as_json(made_injection())["site"] is None
