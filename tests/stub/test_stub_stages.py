from __future__ import annotations

from typing import Any

import pytest

from latprof.config import STAGES, Stage, Stub
from latprof.errors import ConfigError
from latprof.layers.vocabulary import is_known
from latprof.stub.models.draws import Key
from latprof.stub.models.faults import WARMUP_SESSION_BASE, Freezes, answer_fault
from latprof.stub.models.stages import STAGE_LAYERS, check, layer_of, speedup_of

KEY = Key(1, 5, 0)
MS = 1_000_000
SERVED: list[tuple[Stage, str]] = [(stage, name) for stage in STAGES for name in STAGE_LAYERS[stage] if name != "engine.queue"]


def stub(**said: Any) -> Stub:
    return Stub.model_validate(said)


def test_every_layer_is_in_the_vocabulary() -> None:
    assert all(is_known(name) for names in STAGE_LAYERS.values() for name in names)


@pytest.mark.parametrize("name", sorted({name for _, name in SERVED}))
def test_a_plant_is_added_to_its_own_layer_alone(name: str) -> None:
    plain, planted = Stub(), stub(plant={name: "40ms"})
    check(planted)
    for other_stage, other in SERVED:
        added = layer_of(planted, other_stage, other).service_ns(KEY) - layer_of(plain, other_stage, other).service_ns(KEY)
        once = other == name and (name != "proxy.hold" or other_stage == "gateway")
        assert added == (40 * MS if once else 0)


def test_a_planted_hold_keeps_the_first_chunk_at_the_gateway_only() -> None:
    planted = stub(plant={"proxy.hold": "40ms"}, gateway={"per_chunk": "1ms"})
    hold = layer_of(planted, "gateway", "proxy.hold")
    assert [hold.hold_ns(KEY, "gateway", nth) for nth in range(3)] == [41 * MS, MS, MS]
    assert layer_of(planted, "router", "proxy.hold").hold_ns(KEY, "router", 0) == 0


def test_a_speedup_divides_a_layer_and_whatever_its_prefix_covers() -> None:
    fast = stub(
        speedup={"gateway": 2, "gateway.auth": 4, "prefill": 3, "decode": 8}, gateway={"tokenize": "1ms"}, plant={"prefill": "30ms"}
    )
    check(fast)
    assert speedup_of(fast, "gateway.auth") == 8
    assert speedup_of(fast, "gateway.render") == 2
    assert speedup_of(fast, "router") == 1
    assert speedup_of(fast, "decode.first") == 8
    assert layer_of(fast, "prefill", "prefill").adjust_ns(60 * MS, KEY) == 30 * MS


def test_a_stall_adds_to_its_share_and_no_speedup_touches_it() -> None:
    stalled = stub(speedup={"router": 2}, faults=[{"kind": "stall", "stage": "router", "share": 0.25, "for": "150ms"}])
    check(stalled)
    layer, plain = layer_of(stalled, "router", "router"), layer_of(stub(speedup={"router": 2}), "router", "router")
    added = [layer.service_ns(Key(1, session, 0)) - plain.service_ns(Key(1, session, 0)) for session in range(4000)]
    assert set(added) == {0, 150 * MS}
    assert added.count(150 * MS) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"plant": {"engine.queue": "1ms"}}, r"stub\.plant\.engine\.queue.*known here: gateway\.validate"),
        ({"plant": {"gateway": "1ms"}}, r"'gateway' is not a layer"),
        ({"speedup": {"decode.first": 2}}, r"stub\.speedup\.decode\.first.*known here: gateway, decode"),
        ({"speedup": {"gateway": 2}}, r"stub\.gateway\.tokenize is real"),
        ({"faults": [{"kind": "status", "stage": "router"}]}, r"stub\.faults\.0: status can be planted in stage gateway only"),
        ({"faults": [{"kind": "freeze"}]}, r"stub\.faults\.0\.for: a freeze needs a duration"),
        ({"faults": [{"kind": "stall", "layer": "prefill", "for": "1ms"}]}, r"'prefill' is not a layer"),
        ({"faults": [{"kind": "drop", "layer": "router"}]}, r"only a stall has a layer"),
    ],
)
def test_what_the_stack_cannot_do_is_refused_by_name(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(stub(**said))


def test_the_first_fault_that_hits_is_the_one() -> None:
    both = stub(faults=[{"kind": "status", "status": 429, "share": 0.5}, {"kind": "drop"}])
    kinds = [fault.kind for session in range(1000) if (fault := answer_fault(both, Key(1, session, 0))) is not None]
    assert len(kinds) == 1000
    assert kinds.count("status") == pytest.approx(500, rel=0.15)
    assert answer_fault(Stub(), KEY) is None


def test_a_freeze_is_timed_from_the_first_measured_request_and_happens_once() -> None:
    freezes = Freezes.of(stub(faults=[{"kind": "freeze", "stage": "decode", "for": "2s", "at": "3s"}]), "decode")
    assert freezes.on_request(10, Key(1, WARMUP_SESSION_BASE, 0)) == ()
    assert freezes.on_request(20, KEY) == ((20 + 3000 * MS, 2000 * MS),)
    assert freezes.on_request(30, KEY) == ()
    assert Freezes.of(Stub(), "decode").on_request(0, KEY) == ()
