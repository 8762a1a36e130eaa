from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from preset_tables import table

from latprof.config import Config, Stub, load_config
from latprof.errors import ConfigError
from latprof.stub.filling import filled
from latprof.stub.models.engines import costs_of, limits_of
from latprof.stub.models.stages import check
from latprof.stub.presets import KINDS, Kind, preset, presets
from latprof.stub.presets.used import presets_used, range_line

ALL = [(kind, name) for kind in KINDS for name in presets(kind)]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_number_has_a_unit_a_source_a_date_and_a_range(kind: Kind, name: str) -> None:
    found = preset(kind, name.upper(), "path")
    assert found.title
    assert found.numbers
    for number in found.numbers.values():
        assert 0 < number.low <= number.value <= number.high
        assert number.si > 0
        assert len(number.source) > 10
        assert number.tag in {"read", "secondary", "unchecked"}
        assert (number.read is None) == (number.tag == "unchecked")
        assert number.read is None or date(2026, 1, 1) <= number.read


def test_the_presets_that_were_promised_are_there() -> None:
    assert list(presets("hardware")) == ["H100", "H200", "B200", "TPU7x", "Trainium3", "Maia200"]
    assert {"llama-3-8b", "llama-3-70b"} <= set(presets("models"))
    assert {name.split("-")[0] for name in presets("rates")} == {"cerebras", "groq"}


def colocated(**engine: Any) -> Stub:
    return Stub.model_validate({"engine": {"mode": "colocated", **engine}})


@pytest.mark.parametrize("chip", list(presets("hardware")))
@pytest.mark.parametrize("shape", list(presets("models")))
def test_every_model_runs_on_every_chip_and_faster_memory_is_faster(chip: str, shape: str) -> None:
    stub = colocated(hardware=chip, model=shape, gpus=8, precision="fp8")
    check(stub)
    one_stream_ms = max(costs_of(stub).decode(1, 0)) / (1 << 30) / 1e6
    assert 2 < one_stream_ms < 10  # 2 ms of overhead, and 117 GB at most over eight chips
    assert limits_of(stub).kv_blocks > 1000
    full = filled(stub)
    assert filled(full) == full
    assert full.engine.hardware is None
    assert costs_of(full) == costs_of(stub)
    assert Stub.model_validate(full.model_dump(mode="json", by_alias=True)) == full


def test_a_roofline_by_hand() -> None:
    """Llama 3 8B on one H100: 2 * 8.03e9 FLOP a token at 45 % of 989 TFLOP/s; 16.06 GB of weights and 128 KiB of KV a token at 65 % of 3.35 TB/s."""
    full = filled(colocated(hardware="h100", model="llama-3-8b"))
    assert full.prefill.per_token_ns == pytest.approx(16.06e9 / (0.45 * 989e12) * 1e9)
    assert full.prefill.per_token_pair_ns == pytest.approx(4 * 32 * 4096 / (0.45 * 989e12) * 1e9)
    assert full.engine.weights_ns == pytest.approx(16.06e9 / (0.65 * 3.35e12) * 1e9)
    assert full.engine.kv_token_ns == pytest.approx(131_072 / (0.65 * 3.35e12) * 1e9)


def test_a_dense_70b_attends_as_much_as_it_multiplies_at_53_thousand_tokens() -> None:
    full = filled(colocated(hardware="H100", model="llama-3-70b", gpus=8))
    assert full.prefill.per_token_ns / full.prefill.per_token_pair_ns == pytest.approx(53_000, rel=0.02)


def test_pools_are_filled_by_the_chord_and_by_rates() -> None:
    pools = Stub.model_validate({"engine": {"hardware": "H100", "model": "llama-3-8b", "context_tokens": 2000}})
    decode = filled(pools).decode
    kv_ns = 131_072 / (0.65 * 3.35e12) * 1e9
    assert decode.per_sequence_ns == pytest.approx(2000 * kv_ns)
    assert decode.t1_ns == pytest.approx(2e6 + 16.06e9 / (0.65 * 3.35e12) * 1e9, abs=1)
    mixed = Stub.model_validate({"engine": {"hardware": "H100", "model": "llama-3-8b", "decode_rate": "cerebras-codex-spark"}})
    assert (filled(mixed).decode.t1_ns, filled(mixed).decode.per_sequence_ns) == (1_000_000, 0.0)
    assert filled(mixed).prefill == filled(pools).prefill
    speculating = Stub.model_validate({"engine": {"accepted_tokens": 2.5}})
    assert (filled(speculating).decode.t1_ns, filled(speculating).decode.per_sequence_ns) == (5_600_000, 40_000)
    linked = filled(Stub.model_validate({"engine": {"hardware": "H100", "model": "llama-3-8b", "context_tokens": 1, "link": "ib-ndr-400"}}))
    assert linked.decode.kv_per_token_ns == pytest.approx(131_072 / 40)
    assert linked.decode.kv_transfer.service.mean_ns == 1_000_000


def test_a_stub_without_presets_is_left_as_it_is() -> None:
    assert filled(Stub()) == Stub()
    assert presets_used(Stub()) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            {"engine": {"hardware": "H1OO", "model": "llama-3-8b"}},
            r"stub\.engine\.hardware: no preset 'H1OO'; did you mean H100\? Known: H100, H2",
        ),
        ({"engine": {"hardware": "H100", "model": "llama"}}, r"stub\.engine\.model: no preset 'llama'.*llama-3-70b"),
        ({"engine": {"decode_rate": "groq"}}, r"stub\.engine\.decode_rate: no preset 'groq'.*Known: cerebras-gpt-oss-120b"),
        ({"engine": {"hardware": "H100", "model": "llama-3-70b"}}, r"stub\.engine\.gpus: llama-3-70b in bf16 takes 141 GB, and 1 x H100"),
        ({"engine": {"hardware": "Maia200", "model": "llama-3-8b"}}, r"stub\.engine\.precision: no bf16 speed of Maia200.*set it to fp8"),
        ({"engine": {"hardware": "H100", "model": "llama-3-8b"}}, r"stub\.engine\.context_tokens: .*give the mean context"),
        ({"engine": {"link": "nvlink"}}, r"stub\.engine\.link: how much KV a token has is known from hardware and model only"),
        (
            {"engine": {"mode": "colocated", "hardware": "H100", "model": "llama-3-8b"}, "prefill": {"t0": "1ms"}},
            r"stub\.prefill\.t0: stub\.engine\.hardware says it too",
        ),
        (
            {"engine": {"decode_rate": "groq-llama-3.1-8b"}, "decode": {"t1": "1ms"}},
            r"stub\.decode\.t1: stub\.engine\.decode_rate says it too",
        ),
        ({"engine": {"decode_rate_per_s": 1000, "accepted_tokens": 2}}, r"stub\.engine\.accepted_tokens: a decode rate counts the tokens"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_before_anything_runs(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check(Stub.model_validate(said))


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ({"hardware": "H100"}, "hardware and model belong together"),
        ({"kv_tokens": 1000, "kv_blocks": 10}, "kv_tokens and kv_blocks say the same: drop one"),
        ({"token_budget": 16}, "token_budget must be at least max_sequences of 256, got 16"),
        ({"mode": "collocated"}, "stub.engine.mode: must be 'disaggregated' or 'colocated', got 'collocated'"),
        ({"hardwear": "H100"}, "stub.engine.hardwear is not a known key; did you mean stub.engine.hardware?"),
    ],
)
def test_an_engine_that_cannot_be_built_is_a_configuration_error(engine: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        load_config(None, {"stub": {"engine": engine}})


def test_the_ranges_of_what_was_used_can_be_stored_and_printed() -> None:
    used = presets_used(colocated(hardware="trainium3", model="llama-3-8b"))
    assert orjson.loads(orjson.dumps(used)) == used
    lines = [range_line(entry) for entry in used]
    assert lines[1] == (
        "Trainium3 bandwidth 4.9 TB/s [4.7-4.9], read 2026-11-21 at AWS Neuron documentation 2.29.1, Trainium3 architecture (4.9); its NKI guide (4.7)"
    )
    assert not any("fp8" in line for line in lines)
    assert any(line.startswith("stub.engine bandwidth_efficiency 0.65 of peak [0.5-0.8], to be calibrated") for line in lines)
    rated = presets_used(Stub.model_validate({"engine": {"decode_rate": "cerebras-gpt-oss-120b"}}))
    assert [(one["low"], one["value"], one["high"], one["tag"]) for one in rated] == [(1706, 2059, 3000, "unchecked")]


def test_the_stack_in_a_box_of_the_quickstart_has_not_changed() -> None:
    assert filled(Config().stub) == Config().stub
    assert (Config().stub.engine.mode, Config().stub.prefill.replicas, Config().stub.decode.replicas) == ("disaggregated", 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_documentation_shows_the_presets_as_they_are(kind: Kind) -> None:
    assert table(kind) in (Path(__file__).parents[2] / "docs" / "stub.md").read_text(encoding="utf-8")
