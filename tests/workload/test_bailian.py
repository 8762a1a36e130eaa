from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outlines import graph, lengths, lines

from latprof.errors import ConfigError
from latprof.units import NS_PER_S
from latprof.workload.outline import Made
from latprof.workload.readers.bailian import read_bailian


def request(chat: int, parent: int, timestamp: float, ids: list[int], output_length: int = 9) -> dict[str, Any]:
    return {
        "chat_id": chat, "parent_chat_id": parent, "timestamp": timestamp, "input_length": 16 * len(ids) - 3, "output_length": output_length,
        "type": "text", "turn": 1, "hash_ids": ids,
    }  # fmt: skip


def test_descendants_of_a_chat_are_one_session(tmp_path: Path) -> None:
    file = lines(
        tmp_path, request(1, -1, 10.5, [1, 2]), request(2, -1, 11, [9]), request(3, 1, 12.25, [1, 2, 3]), request(4, 1, 13, [1, 2, 4]),
        request(5, 3, 20, [1, 2, 3, 5]),
    )  # fmt: skip
    one, other = read_bailian(file).sessions
    assert (one.name, one.offset_ns, other.name, other.offset_ns) == ("1", 0, "2", NS_PER_S // 2)
    assert graph(one) == [("turn", (), -1), ("turn", (0,), -1), ("turn", (0,), -1), ("turn", (1,), -1)]
    assert [turn.at_ns for turn in one.turns] == [None, 1_750_000_000, 2_500_000_000, 9_500_000_000]
    assert one.turns[1].prompt == Made(45, (1, 2, 3), 16)
    assert lengths(other) == [(13, 9)]


def test_a_child_whose_parent_is_not_in_the_trace_is_a_root(tmp_path: Path) -> None:
    assert [session.name for session in read_bailian(lines(tmp_path, request(7, 6, 1, [1]))).sessions] == ["7"]


def test_the_window_cuts_a_session(tmp_path: Path) -> None:
    file = lines(tmp_path, request(1, -1, 5, [1]), request(2, 1, 14, [1, 2]), request(3, 2, 15, [1, 2, 3]), "rubbish")
    (session,) = read_bailian(file, 10 * NS_PER_S).sessions
    assert len(session.turns) == 2


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    bad = request(2, 1, 2, [1]) | {"input_length": 999, "hash_ids": list(range(70))}
    with pytest.raises(ConfigError, match=r"trace\.jsonl:2: 70 hash_ids of 16 tokens are more than input_length 999"):
        read_bailian(lines(tmp_path, request(1, -1, 1, [1]), bad))
    with pytest.raises(ConfigError, match=r"trace\.jsonl:2: timestamp must be a number of s, got 'None'"):
        read_bailian(lines(tmp_path, request(1, -1, 1, [1]), {"chat_id": 2}))
