"""What is known of a load before it goes: which layer it asks too much of, and where nobody can say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latprof.config import Config, load_config
from latprof.errors import ConfigError
from latprof.pipeline import simulate
from latprof.pipeline.offered import can_overload, overloads
from latprof.schedule.build import build_plan

TOO_MUCH: dict[str, Any] = {"rate_per_s": 300, "num_requests": 600}
SLOW_TOKENS: dict[str, Any] = {"tokenize_model": {"per_token_ns": 1e6}}


def config(load: dict[str, Any], **sections: Any) -> Config:
    return load_config(None, {"load": load, **sections})


@pytest.mark.parametrize(
    ("settings", "layer", "utilisation"),
    [
        (config(TOO_MUCH), "prefill", 300 * 0.0812 / 16),
        (config({"rate_per_s": 20}, stub={"gateway": {"tokenize": {"service": "100ms", "workers": 1}}}), "gateway.tokenize", 2.0),
        (config({"rate_per_s": 20}, stub={"router": {"route": {"service": "60ms", "workers": 1}}}), "router", 1.2),
        (config({"rate_per_s": 5}, stub={"gateway": SLOW_TOKENS}), "gateway.tokenize", 5 * 256 * 1e-3),
        (
            config({"phases": [{"name": "a", "duration": "4s", "rate_per_s": 250}, {"name": "b", "duration": "4s", "rate_per_s": 350}]}),
            "prefill",
            300 * 0.0812 / 16,
        ),
    ],
    ids=["prefill", "tokenize", "router", "real tokenizer", "phases"],
)
def test_the_layer_that_a_load_asks_too_much_of_is_named(settings: Config, layer: str, utilisation: float) -> None:
    (found,) = overloads(settings)
    assert found.layer == layer
    assert found.utilisation == pytest.approx(utilisation, rel=0.05)
    assert f"times of what {layer} can do" in found.line
    assert f"lower the rate below {found.below_per_s:.3g}/s" in found.line
    assert can_overload(build_plan(settings))


@pytest.mark.parametrize(
    "settings",
    [
        config({"rate_per_s": 150}),
        config({"concurrency": 500, "num_requests": 20}),
        config({**TOO_MUCH, "max_concurrency": 64}),
        config({"rate_per_s": "inf", "num_requests": 600}),
        config({"phases": [{"name": "a", "duration": "1s", "rate_per_s": 300}, {"name": "b", "duration": "9s", "rate_per_s": 50}]}),
        config({"phases": [{"name": "warmup", "duration": "1s", "rate_per_s": 400}, {"name": "b", "duration": "1s", "rate_per_s": 50}]}),
        config({"rate_per_s": 5}, stub={"gateway": {**SLOW_TOKENS, "token_cache": 100}}),
        config({"rate_per_s": 5}, stub={"gateway": SLOW_TOKENS}, target={"dialect": "openai-responses-ws"}),
        config(TOO_MUCH, stub={"faults": [{"stage": "gateway", "kind": "status", "status": 429, "share": 0.5}]}),
    ],
    ids=["stable", "closed", "capped", "at once", "a burst", "warm-up", "kept tokens", "one connection", "turned away"],
)
def test_where_it_is_not_clear_nothing_is_said(settings: Config) -> None:
    assert overloads(settings) == ()


def test_sessions_that_are_not_all_there_in_a_short_run_ask_less_than_in_the_long_run(tmp_path: Path) -> None:
    settings = config({"rate_per_s": 20, "num_requests": 20}, workload={"turns": 30, "think": "10s"}, out=tmp_path / "run")
    assert overloads(settings) == ()
    with pytest.raises(ConfigError, match=r"times of what gateway\.tokenize can do"):
        simulate(settings)


def test_the_plan_tells_whether_looking_is_worth_it() -> None:
    assert not can_overload(build_plan(config({"concurrency": 4, "num_requests": 8})))
    assert not can_overload(build_plan(config({**TOO_MUCH, "num_requests": 8, "max_concurrency": 2})))
