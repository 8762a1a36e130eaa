from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latprof import config
from latprof.errors import ConfigError, Exit
from latprof.units import NS_PER_S
from latprof.workload.formats import READERS
from latprof.workload.load import load_workload
from latprof.workload.outline import Trace
from latprof.workload.readers.azure import HEADER, read_azure
from latprof.workload.sessions import joined

SHARED = Path(__file__).parents[3] / "shared" / "data" / "azure-llm-2023-code.csv"
real = pytest.mark.skipif(not SHARED.exists(), reason=f"the published trace is not at {SHARED}; see Azure/AzurePublicDataset")

FIRST = "2023-11-16 18:17:03.9799600,4808,10"


def prompt_tokens(trace: Trace) -> tuple[int, ...]:
    prompts = (session.turns[0].prompt for session in trace.sessions)
    return tuple(prompt.tokens for prompt in prompts if not isinstance(prompt, str))


def output_tokens(trace: Trace) -> tuple[int | None, ...]:
    return tuple(session.turns[0].output_tokens for session in trace.sessions)


def written(tmp_path: Path, *lines: str, header: str = HEADER, end: str = "\r\n") -> Path:
    file = tmp_path / "trace.csv"
    file.write_bytes(end.join([header, *lines]).encode())
    return file


@real
def test_the_whole_published_trace() -> None:
    trace = read_azure(SHARED)
    assert len(trace.sessions) == len(prompt_tokens(trace)) == 8_819
    assert trace.offsets_ns[:3] == (0, 52_000_000, 98_189_000)
    assert list(trace.offsets_ns) == sorted(trace.offsets_ns)
    assert prompt_tokens(trace)[:3] == (4808, 3180, 110)
    assert sorted(prompt_tokens(trace))[4409] == pytest.approx(1469, abs=2)
    assert np.median(np.array(output_tokens(trace), np.int64)) == pytest.approx(13, abs=1)
    assert max(prompt_tokens(trace)) == 7437


@real
def test_its_first_ten_minutes_replayed_ten_times_faster() -> None:
    settings = config.Workload.model_validate({"trace": SHARED, "trace_window": "10m", "time_scale": 10})
    workload = load_workload(settings, 1)
    once = read_azure(SHARED, 600 * NS_PER_S)
    assert workload.trace_offsets_ns == tuple(round(offset_ns / 10) for offset_ns in once.offsets_ns)
    assert len(once.offsets_ns) == 1_482
    sessions = [workload.session(number) for number in range(1_482)]
    assert [session.turns[0].prompt_tokens for session in sessions] == list(prompt_tokens(once))
    assert [session.turns[0].output_tokens for session in sessions] == list(output_tokens(once))
    assert all(len(joined(session.turns[0].prompt).split()) == session.turns[0].prompt_tokens for session in sessions)


def test_all_seven_digits_of_a_stamp_count(tmp_path: Path) -> None:
    file = written(tmp_path, FIRST, "2023-11-16 18:17:03.9799601,1,1", "2023-11-16 18:17:04.0000000,1,1", "2023-11-17 18:17:03.9799600,1,1")
    assert read_azure(file).offsets_ns == (0, 100, 20_040_000, 86_400 * NS_PER_S)


def test_stamps_of_2024_and_other_line_ends(tmp_path: Path) -> None:
    file = written(tmp_path, "2024-05-10 00:00:00.009930+00:00,2162,5", "2024-05-10 00:00:01+00:00,1,1", "", end="\n")
    assert read_azure(file).offsets_ns == (0, 990_070_000)


def test_the_window_ends_before_the_call_that_lies_on_it_and_reads_no_further(tmp_path: Path) -> None:
    rows = ["2023-11-16 18:00:00,1,1", "2023-11-16 18:00:09.9999999,2,2", "2023-11-16 18:00:10,3,3", "rubbish"]
    assert read_azure(written(tmp_path, *rows), 10 * NS_PER_S).sessions[-1].offset_ns == 9_999_999_900


def test_a_call_that_generated_nothing_is_replayed_with_one_token(tmp_path: Path) -> None:
    assert read_azure(written(tmp_path, "2023-11-16 18:00:00,5,0")).sessions[0].turns[0].output_tokens == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2023-11-16 18:17:05,1", "wanted 3 fields .*, got 2"),
        ("2023-11-16 18:17:05,1,2,3", "wanted 3 fields .*, got 4"),
        ("2023-11-16 18:17:05,many,2", "ContextTokens must be a whole number of tokens, got 'many'"),
        ("2023-11-16 18:17:05,1,-2", "GeneratedTokens must be a whole number of tokens, got '-2'"),
        ("2023-11-16 18:17:05,1.5,2", "ContextTokens must be a whole number of tokens, got '1.5'"),
        ("2023-11-16 18:17:05,0,2", "ContextTokens must be at least 1, got 0"),
        ("2023-13-16 18:17:05,1,2", "TIMESTAMP must be a time such as .*, got '2023-13-16 18:17:05'"),
        ("1700158623,1,2", "TIMESTAMP must be a time such as .*, got '1700158623'"),
        ("2023-11-16 18:17:03.9799599,1,2", "is earlier than the line above; sort the file"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = written(tmp_path, FIRST, line)
    with pytest.raises(ConfigError, match=said) as refused:
        read_azure(file)
    assert str(refused.value).startswith(f"workload.trace {file}:3: ")
    assert refused.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("header", ["", "Timestamp,Request tokens,Response tokens", '{"timestamp": 0}'])
def test_another_header_is_not_guessed_at(tmp_path: Path, header: str) -> None:
    with pytest.raises(ConfigError, match=rf":1: wanted the header {HEADER}, got"):
        read_azure(written(tmp_path, FIRST, header=header))


def test_a_file_without_calls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":2: the file ends after its header"):
        read_azure(written(tmp_path))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "trace.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"workload\.trace .*trace\.csv: cannot be read"):
        read_azure(file)


def test_every_format_of_the_configuration_has_a_reader() -> None:
    assert {"auto", *READERS} == set(config.Workload.model_fields["trace_format"].annotation.__args__)  # type: ignore[union-attr]
