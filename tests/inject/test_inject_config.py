"""What can be asked of the causal check, and what is said to the rest."""

from __future__ import annotations

from typing import Any

import pytest

from latprof.config import load_config
from latprof.config.inject import MOST_DELAYS
from latprof.errors import ConfigError
from latprof.units import NS_PER_MS, NS_PER_S

MS = NS_PER_MS


def inject(**said: Any) -> Any:
    return load_config(None, {"inject": said}).inject


def test_delays_are_written_as_people_write_them() -> None:
    assert inject(delays="0,5,20,50ms").delays_ns == (0, 5 * MS, 20 * MS, 50 * MS)
    assert inject(delays=["0ms", "5ms", "1s"]).delays_ns == (0, 5 * MS, NS_PER_S)
    assert inject(delays="0, 500us,2ms").delays_ns == (0, 500_000, 2 * MS)
    assert inject(delays=[0, "20ms"]).delays_ns == (0, 20 * MS)
    made = inject()
    assert (made.before, made.delays_ns, made.block_ns, made.per) == ("gateway", (0, 5 * MS, 20 * MS, 50 * MS), 5 * NS_PER_S, "both")
    assert load_config(None, {}).inject is None


def test_the_design_comes_back_from_its_json() -> None:
    made = load_config(None, {"inject": {"delays": "0,5ms", "before": "router", "per": "block", "block": "2s"}})
    again = load_config(None, {"inject": made.model_dump(mode="json", by_alias=True)["inject"]})
    assert again.inject == made.inject


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"delays": "0,5,20"}, r"inject\.delays: must be durations with a unit such as 0,5,20,50ms, got '5' without one"),
        ({"delays": "0ms,5"}, r"inject\.delays: must be durations with a unit .* got '5' without one"),
        ({"delays": "0,fast"}, r"inject\.delays.*: must be a duration such as 250ms, 10s or 2m, got 'fast'"),
        ({"delays": "20ms"}, r"inject: delays must hold at least two different durations"),
        ({"delays": "0,20,20ms"}, r"inject: delays must differ from each other"),
        ({"delays": [f"{n}ms" for n in range(MOST_DELAYS + 1)]}, rf"inject: delays must be {MOST_DELAYS} at most"),
        ({"before": "engine"}, r"inject\.before: must be 'gateway', 'router', 'prefill' or 'decode', got 'engine'"),
        ({"per": "session"}, r"inject\.per: must be 'request', 'block' or 'both'"),
        ({"block": "0s"}, r"inject\.block: must be greater than 0|inject\.block: .*greater than 0"),
        ({"delay": "5ms"}, r"inject\.delay is not a known key; did you mean inject\.delays\?"),
    ],
)
def test_what_cannot_be_meant_is_said(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        inject(**said)


def placed(**said: Any) -> Any:
    return load_config(None, {"target": {"url": "http://127.0.0.1:8000"}, "inject": {"before": "engine", **said}}).inject


@pytest.mark.parametrize(
    ("listen", "upstream", "told"),
    [
        (9100, "http://127.0.0.1:8001", (("127.0.0.1", 9100), ("127.0.0.1", 8001))),
        ("9100", "http://vllm", (("127.0.0.1", 9100), ("vllm", 80))),
        (":9100", "https://api.example/", (("127.0.0.1", 9100), ("api.example", 443))),
        ("0.0.0.0:9100", "http://127.0.0.1:8001/", (("0.0.0.0", 9100), ("127.0.0.1", 8001))),
        ("[::1]:9100", "http://[fe80::1]:8001", (("::1", 9100), ("fe80::1", 8001))),
    ],
)
def test_a_hop_inside_a_real_stack_has_an_address_and_an_upstream(listen: object, upstream: str, told: object) -> None:
    made = placed(listen=listen, upstream=upstream)
    assert (made.host_and_port("listen"), made.host_and_port("upstream")) == told
    assert made.has_own_address
    said = made.model_dump(mode="json", by_alias=True)
    assert placed(**said) == made


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"listen": "gateway"}, r"inject\.listen: must be a port from 1 to 65535, or host:port, such as 9100 .* got 'gateway'"),
        ({"listen": 0}, r"inject\.listen: must be a port from 1 to 65535"),
        ({"listen": "127.0.0.1:70000"}, r"inject\.listen: must be a port from 1 to 65535"),
        ({"upstream": "127.0.0.1:8001"}, r"inject\.upstream: must be such as http://127\.0\.0\.1:8001 .* got '127\.0\.0\.1:8001'"),
        ({"upstream": "http://a:99999"}, r"inject\.upstream: must be such as .* got an address that cannot be read"),
        ({"upstream": "http://a/v1"}, r"inject\.upstream: .* without a path, for the hop changes none; got 'http://a/v1'"),
        ({"upstream": None}, r"inject\.listen needs inject\.upstream, got none"),
        ({"listen": None}, r"inject\.upstream needs inject\.listen, got none"),
        ({"upstream": "http://127.0.0.1:9100"}, r"upstream must be another address than listen, got 127\.0\.0\.1:9100 for both"),
        ({"before": "the engine"}, r"before must be a name of letters, digits, dots and dashes such as engine, got 'the engine'"),
        (
            {"listen": None, "upstream": None},
            r"inject\.before: must be 'gateway', .* got 'engine'; .* say inject\.listen and inject\.upstream",
        ),
    ],
)
def test_where_no_hop_can_be_reached_is_said(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        placed(**{"listen": 9100, "upstream": "http://127.0.0.1:8001"} | said)


def test_an_upstream_with_a_key_in_it_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"inject\.upstream: must not hold credentials") as told:
        placed(listen=9100, upstream="http://me:secret@a")
    assert "secret" not in str(told.value)


def test_what_stands_behind_the_hop_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"inject\.before: must name what stands behind inject\.upstream, such as engine, got nothing"):
        load_config(None, {"target": {"url": "http://a"}, "inject": {"listen": 9100, "upstream": "http://b"}})


def test_the_stack_in_a_box_has_its_own_places() -> None:
    with pytest.raises(
        ConfigError, match=r"inject\.listen: the stack in a box is brought up by the run, with the hop in it where inject\.before"
    ):
        load_config(None, {"inject": {"before": "router", "listen": 9100, "upstream": "http://127.0.0.1:8001"}})


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {"targets": [{"name": "a", "url": "http://a"}, {"name": "b", "url": "http://b"}]},
            "one hop stands in front of one target, got 2 targets",
        ),
        (
            {"target": {"url": "http://a"}, "inject": {"before": "prefill"}},
            "prefill is a stage of the stack in a box, but target.url names",
        ),
        ({"target": {"url": "http://a", "proxy": "http://p:3128"}}, "the hop speaks through no proxy, but target.proxy is given"),
        ({"target": {"dialect": "openai-responses-ws"}}, "over a WebSocket .* there are none; say another dialect"),
    ],
)
def test_where_no_hop_can_stand_is_said(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(None, {"inject": {}, **config})
