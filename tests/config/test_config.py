"""The configuration: what it refuses and how it says so, where its paths lead, and what its fingerprint stands for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from latprof.config import STAGES, Config, Fault, Load, ServiceTime, Station, TokenCount, load_config
from latprof.errors import ConfigError
from latprof.units import NS_PER_MS, NS_PER_S, NS_PER_US


def refused(said: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(None, said)
    return str(error.value).splitlines()


# --- what cannot be meant ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"laod": {}}, "laod is not a known key; did you mean load?"),
        ({"load": {"rate": 5}}, "load.rate is not a known key; did you mean load.rate_per_s?"),
        ({"target": {"timeout_ns": 5}}, "target.timeout_ns is not a known key; did you mean target.timeout?"),
        ({"stub": {"gateway": {"autth": "5ms"}}}, "stub.gateway.autth is not a known key; did you mean stub.gateway.auth?"),
        ({"stub": {"prefill": {"t0_ns": 5}}}, "stub.prefill.t0_ns is not a known key; did you mean stub.prefill.t0?"),
        ({"stub": {"faults": [{"kind": "drop", "sahre": 1}]}}, "stub.faults.0.sahre is not a known key; did you mean stub.faults.0.share?"),
        (
            {"spans": {"zzz": 1}},
            "spans.zzz is not a known key; known here: otlp_host, grpc_port, http_port, grace, hops",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(said: dict[str, Any], told: str) -> None:
    assert refused(said) == [told]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"load": {"rate_per_s": -1}}, "load.rate_per_s: must be greater than 0, got -1"),
        ({"load": {"rate_per_s": "nan"}}, "load.rate_per_s: must be greater than 0, got 'nan'"),
        ({"load": {"num_requests": 2.5}}, "load.num_requests: must be a valid integer, got a number with a fractional part"),
        ({"load": {"num_requests": 0}}, "load.num_requests: must be greater than 0, got 0"),
        ({"load": {"duration": True}}, "load.duration: must be a duration such as 250ms, 10s or 2m, got True"),
        ({"load": {"duration": "-5s"}}, "load.duration: must be a duration such as 250ms, 10s or 2m, got '-5s'"),
        ({"load": {"arrival": "weibull"}}, "load.arrival: must be 'poisson', 'constant', 'gamma' or 'trace', got 'weibull'"),
        ({"load": [1]}, "load: must be a mapping, got [1]"),
        ({"target": {"timeout": "0s"}}, "target.timeout: must be greater than 0, got '0s'"),
        ({"workload": {"prompt_tokens": "many"}}, "workload.prompt_tokens: must be a mapping, got 'many'"),
        ({"goodput": {"ttfx": 5}}, "goodput.ttfx: must be 'ttft', 'tpot', 'itl' or 'e2el', got 'ttfx'"),
        ({"stub": {"faults": [{"kind": "stal"}]}}, "stub.faults.0.kind: must be 'stall', 'freeze', "),
        ({"stub": {"gateway": {"auth": {"service": {"dist": "empirical"}}}}}, "stub.gateway.auth.service: values must list at least one"),
    ],
)
def test_a_wrong_value_says_what_was_wanted_and_got(said: dict[str, Any], told: str) -> None:
    lines = refused(said)
    assert len(lines) == 1
    assert lines[0].startswith(told)


def test_every_mistake_is_told_at_once() -> None:
    assert len(refused({"load": {"rate": 5, "seed": "x"}, "spans": {"grpc_port": -1}})) == 3


def test_two_loops_at_once() -> None:
    (line,) = refused({"load": {"rate_per_s": 5, "concurrency": 2}})
    assert "load.concurrency makes a closed loop and load.rate_per_s an open one: they exclude each other, drop one" in line


@pytest.mark.parametrize("headers", [{"Authorization": 81726354}, {"Authorization": ["81726354"]}, {"Authorization": {"a": 81726354}}])
def test_a_header_that_cannot_be_read_is_not_repeated(headers: dict[str, Any]) -> None:
    assert refused({"target": {"headers": headers}}) == ["target.headers.Authorization: must be a valid string"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=25)  # the first refusal builds the schema, in 0.1 s
@given(st.dictionaries(st.sampled_from([*Config.model_fields, "x"]), _JSON, max_size=4))
def test_whatever_is_written_is_read_or_refused_as_a_configuration_error(said: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        load_config(None, said)


# --- files -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("load: {rate_per_s: 5", "is not YAML: while parsing a flow mapping"),
        ("load:\n\t- 1", "is not YAML: while scanning"),
        ("- load", "must be a mapping with keys such as target, load, workload; got a list"),
        ("5", "must be a mapping with keys such as target, load, workload; got a int"),
        ("load: {rate_per_s: 5}\nload: {rate_per_s: 50}", "load stands twice in one mapping, in lines 1 and 2"),
        ("load: !!python/object/apply:os.system [ls]", "is not YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert str(error.value).startswith(f"{file}: {told}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, why in (("absent.yaml", "No such file or directory"), ("", "Is a directory"), ("binary.yaml", "not UTF-8 text, at byte 0")):
        with pytest.raises(ConfigError, match=rf"cannot be read \({why}\); give the path of a YAML file, or none for the quickstart"):
            load_config(tmp_path / name)


def test_an_empty_file_is_the_quickstart(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_config(str(tmp_path / "empty.yaml")) == load_config() == Config()


def test_overrides_lie_over_the_file_key_by_key_and_null_takes_away(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("load: {rate_per_s: 5, seed: 7, duration: 10s}\ntarget: {headers: {A: a, B: b}}\n")
    config = load_config(file, {"load": {"rate_per_s": None, "concurrency": 3}, "target": {"headers": {"B": "c"}}})
    assert (config.load.rate_per_s, config.load.concurrency, config.load.seed, config.load.duration_ns) == (None, 3, 7, 10 * NS_PER_S)
    assert config.target.headers == {"A": "a", "B": "c"}


def test_a_mistake_names_the_file_only_where_the_file_made_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("load: {seed: x}\n")
    with pytest.raises(ConfigError) as error:
        load_config(file, {"load": {"rate_per_s": -1}})
    assert str(error.value).splitlines() == [
        "load.rate_per_s: must be greater than 0, got -1",
        f"{file}: load.seed: must be a valid integer, unable to parse string as an integer, got 'x'",
    ]


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "configs" / "c.yaml"
    file.write_text(f"workload: {{trace: ../data/t.csv, tokenizer: {tmp_path}/t.json}}\ntarget: {{ca_file: ca.pem}}\n")
    config = load_config(file)
    assert config.workload.trace == tmp_path / "configs" / ".." / "data" / "t.csv"
    assert config.workload.tokenizer == tmp_path / "t.json"
    assert config.target.ca_file == tmp_path / "configs" / "ca.pem"
    # A flag's is relative to where the command is typed, like any other; and so is one that is there.
    assert load_config(file, {"workload": {"trace": Path("u.csv")}}).workload.trace == Path("u.csv")
    Path("ca.pem").touch()
    assert load_config(file).target.ca_file == Path("ca.pem")


# --- values ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "ns"), [("250ms", 250 * NS_PER_MS), ("3us", 3 * NS_PER_US), ("2m", 120 * NS_PER_S), (2.5, 2_500_000_000), ("7ns", 7)]
)
def test_durations_carry_their_unit(written: str | float, ns: int) -> None:
    assert Load.model_validate({"duration": written}).duration_ns == ns


def test_short_forms() -> None:
    assert ServiceTime.model_validate("5ms") == ServiceTime.model_validate({"dist": "constant", "mean": "5ms"})
    assert Station.model_validate("5ms") == Station.model_validate({"service": {"mean": "5ms"}})
    assert TokenCount.model_validate(12) == TokenCount.model_validate({"dist": "constant", "mean": 12})
    assert {Fault.model_validate({"kind": "drop", "stage": stage}).stage for stage in STAGES} == set(STAGES)


def test_a_configuration_is_frozen() -> None:
    config = Config()
    for section, key in ((config, "out"), (config.load, "seed"), (config.stub.gateway, "auth"), (config.stub.prefill, "t0_ns")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, None)


def test_a_dump_reads_back_the_same() -> None:
    """`run.json` holds a dump: nothing of the configuration may be lost in it."""
    config = load_config(
        None,
        {
            "load": {"arrival": "gamma", "burstiness": 0.5, "duration": "1500ms", "warmup": "0s"},
            "workload": {"prompt_tokens": {"dist": "lognormal", "mean": 100, "cv": 0.3}},
            "stub": {
                "plant": {"gateway.auth": "40ms"},
                "faults": [{"kind": "stall", "for": "150ms", "share": 0.02}],
                "decode": {"t1": "1ms"},
            },
            "goodput": {"ttft": 200},
            "spans": {"hops": ["envoy", "litellm"]},
        },
    )
    assert Config.model_validate(config.model_dump(mode="json", by_alias=True)) == config


# --- the fingerprint ---------------------------------------------------------------------------------------------------------------------


def test_the_fingerprint_stands_for_what_is_meant_not_how_it_is_written(tmp_path: Path) -> None:
    plain = {"load": {"rate_per_s": 50, "duration": "90s"}, "workload": {"prompt_tokens": 100}, "stub": {"plant": {"a": "1ms", "b": "2ms"}}}
    other = {
        "stub": {"plant": {"b": "2000us", "a": 0.001}},
        "workload": {"prompt_tokens": {"mean": 100.0, "dist": "constant"}},
        "load": {"duration": "1.5m", "rate_per_s": "50", "seed": 1},
        "out": "elsewhere",
    }
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(other))
    assert load_config(None, plain).hash() == load_config(file).hash()


@pytest.mark.parametrize(
    "changed",
    [
        {"load": {"seed": 2}},
        {"target": {"model": "m"}},
        {"stub": {"gateway": {"auth": "2ms"}}},
        {"goodput": {"ttft": 1}},
        {"spans": {"grace": "1s"}},
    ],
    ids=str,
)
def test_any_change_of_meaning_changes_the_fingerprint(changed: dict[str, Any]) -> None:
    assert load_config(None, changed).hash() != Config().hash()


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """No hash of Python's own is in it: those change from process to process."""
    assert Config().hash() == Config.model_validate({}).hash()
    assert len(Config().hash()) == 16
    assert set(Config().hash()) <= set("0123456789abcdef")
