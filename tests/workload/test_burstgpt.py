from __future__ import annotations

from pathlib import Path

import pytest
from outlines import graph, lengths

from latprof.errors import ConfigError
from latprof.units import NS_PER_S
from latprof.workload.formats import guessed, read_trace
from latprof.workload.readers.burstgpt import COLUMNS, WITHOUT_SESSIONS, read_burstgpt


def written(tmp_path: Path, *rows: str, columns: tuple[str, ...] = COLUMNS) -> Path:
    file = tmp_path / "burst.csv"
    file.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return file


def test_rows_of_a_session_continue_their_conversation(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "5,31,12.4,ChatGPT,472,18,490,Conversation log",
        "6.5,,1,GPT-4,10,0,10,API log",
        "45,31,12.4,ChatGPT,500,20,520,Conversation log",
        "50,31,12.4,ChatGPT,100,7,107,Conversation log",
        "50,,1,GPT-4,11,1,12,API log",
    )
    chat, one, other = read_burstgpt(file).sessions
    assert lengths(chat) == [(472, 18), (10, 20), (100, 7)]
    assert graph(chat) == [("turn", (), -1), ("turn", (0,), 0), ("turn", (1,), -1)]
    assert [turn.at_ns for turn in chat.turns] == [None, 40 * NS_PER_S, 45 * NS_PER_S]
    assert (lengths(one), one.offset_ns) == ([(10, 1)], 1_500_000_000)
    assert (lengths(other), other.offset_ns) == ([(11, 1)], 45 * NS_PER_S)


def test_without_session_columns_every_row_is_a_session(tmp_path: Path) -> None:
    file = written(tmp_path, "5,ChatGPT,472,18,490,API log", "5,ChatGPT,500,18,518,API log", columns=WITHOUT_SESSIONS)
    assert guessed(file) == "burstgpt"
    assert [lengths(session) for session in read_trace(file).sessions] == [[(472, 18)], [(500, 18)]]


def test_the_window_reads_no_further(tmp_path: Path) -> None:
    file = written(tmp_path, "5,1,1,m,4,1,5,l", "14.9,1,1,m,40,1,41,l", "15,1,1,m,80,1,81,l", "rubbish")
    assert sum(len(session.turns) for session in read_burstgpt(file, 10 * NS_PER_S).sessions) == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x,1,1,m,4,1,5,l", "Timestamp must be a number of s, got 'x'"),
        ("nan,1,1,m,4,1,5,l", "Timestamp must be a number of s, got 'nan'"),
        ("6,1,1,m,0,1,5,l", "Request tokens must be at least 1, got 0"),
        ("6,1,1,m,4,many,5,l", "Response tokens must be a whole number of tokens, got 'many'"),
        ("6,1,1,m,4,1", r"wanted 8 fields \(Timestamp,.*\), got 6"),
        ("4,1,1,m,4,1,5,l", "its Timestamp is earlier than the line above"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, said: str) -> None:
    file = written(tmp_path, "5,1,1,m,4,1,5,l", row)
    with pytest.raises(ConfigError, match=rf"burst\.csv:3: {said}"):
        read_burstgpt(file)


def test_a_file_that_ends_after_its_header(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no session with a request"):
        read_trace(written(tmp_path))
