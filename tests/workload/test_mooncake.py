from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outlines import DATA, lengths, lines

from latprof import config
from latprof.errors import ConfigError
from latprof.units import NS_PER_S
from latprof.workload.figures import figures
from latprof.workload.load import load_workload
from latprof.workload.outline import Made
from latprof.workload.readers.mooncake import read_mooncake
from latprof.workload.sessions import joined

SHARED = DATA / "mooncake-conversation.jsonl"
real = pytest.mark.skipif(not SHARED.exists(), reason=f"the published trace is not at {SHARED}; see kvcache-ai/Mooncake")


def request(timestamp: float = 0, input_length: int = 600, output_length: int = 5, hash_ids: Any = (1, 2)) -> dict[str, Any]:
    return {"timestamp": timestamp, "input_length": input_length, "output_length": output_length, "hash_ids": hash_ids}


@real
def test_the_whole_published_trace() -> None:
    trace = read_mooncake(SHARED)
    assert len(trace.sessions) == 12_031
    assert trace.offsets_ns[-1] == pytest.approx(3_537 * NS_PER_S, rel=1e-3)
    found = figures(trace.sessions, len, is_timed=True)
    # The published shares count blocks (36.6 %) or tokens (37.4 %).
    assert found.cached_share == pytest.approx(0.37, abs=0.01)
    assert found.prompt_tokens.percentiles == pytest.approx((6909, 27_367, 85_399, 126_195), rel=1e-3)
    assert found.output_tokens.percentiles[:2] == pytest.approx((350, 597))


@real
def test_the_text_of_the_published_trace_is_shared_as_its_blocks_are() -> None:
    workload = load_workload(config.Workload(trace=SHARED), 1)
    trace = read_mooncake(SHARED)
    seen_ids: set[Any] = set()
    seen_text: set[int] = set()
    for number in range(300):
        turn = workload.session(number).turns[0]
        prompt = trace.sessions[number].turns[0].prompt
        assert isinstance(prompt, Made)
        words = joined(turn.prompt).split(" ")
        assert len(words) == turn.prompt_tokens == prompt.tokens
        for i, block in enumerate(prompt.blocks[: prompt.tokens // 512]):
            text = hash(tuple(words[: (i + 1) * 512]))
            assert (text in seen_text) == (block in seen_ids)
            seen_text.add(text)
            seen_ids.add(block)


@real
@pytest.mark.parametrize("time_scale", [0.5, 1, 10, 997])
def test_replay_keeps_relative_times(time_scale: float) -> None:
    trace = read_mooncake(SHARED)
    offsets_ns = load_workload(config.Workload(trace=SHARED, time_scale=time_scale), 1).trace_offsets_ns
    assert offsets_ns is not None
    assert max(abs(mine - theirs / time_scale) for mine, theirs in zip(offsets_ns, trace.offsets_ns, strict=True)) <= 1


def test_requests_become_sessions_of_shared_blocks(tmp_path: Path) -> None:
    trace = read_mooncake(lines(tmp_path, request(100), "", request(1600.5, 513, 0, [1, 3])))
    assert trace.offsets_ns == (0, 1_500_500_000)
    assert [lengths(session) for session in trace.sessions] == [[(600, 5)], [(513, 1)]]
    assert trace.sessions[1].turns[0].prompt == Made(513, (1, 3), 512)


def test_the_window_reads_no_further(tmp_path: Path) -> None:
    file = lines(tmp_path, request(50), request(9_049.9), request(10_050), "rubbish")
    assert len(read_mooncake(file, 10 * NS_PER_S).sessions) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"is not JSON"),
        ("[1]", r"wanted a JSON object, got '\[1\]'"),
        (request("soon"), r"timestamp must be a number of ms, got 'soon'"),  # type: ignore[arg-type]
        (request(-1), r"timestamp must be a number of ms, got '-1'"),
        ({"timestamp": 1, "output_length": 1, "hash_ids": []}, r"input_length must be a whole number of tokens, got 'None'"),
        (request(input_length=0, hash_ids=[]), r"input_length must be at least 1, got 0"),
        (request(output_length=-3), r"output_length must be a whole number of tokens, got '-3'"),
        (request(hash_ids=None), r"hash_ids must be a list of block ids, got 'None'"),
        (request(hash_ids=[1.5, 2]), r"hash_ids must be numbers or texts"),
        (request(hash_ids=[1, 2, 3]), r"3 hash_ids of 512 tokens are more than input_length 600 has room for"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, said: str) -> None:
    file = lines(tmp_path, request(), "", line)
    with pytest.raises(ConfigError, match=said) as refused:
        read_mooncake(file)
    assert str(refused.value).startswith(f"workload.trace {file}:3: ")


def test_a_request_before_the_last_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":2: its timestamp is earlier than the line above; sort the file by timestamp"):
        read_mooncake(lines(tmp_path, request(5), request(4)))


def test_a_file_without_requests(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":1: the file holds no JSON object"):
        read_mooncake(lines(tmp_path, ""))
