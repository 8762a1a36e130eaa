"""What the fuzzer holds against each other, without the fuzzer: real streams and random damage; and what the command says where it is not there."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fuzz import __main__ as command
from harness.fuzz.parsers import CONTROLS, PARSERS, DisagreementError, decoded, encoded
from harness.fuzz.seeds import seeds, streams
from latprof.client.dialects import DIALECTS


@pytest.mark.parametrize("name", PARSERS)
def test_real_streams_are_read_in_one_way(name: str) -> None:
    for seed in seeds(name):
        PARSERS[name](seed)


def test_seeds_are_answers_in_every_dialect() -> None:
    assert streams().keys() == DIALECTS.keys()
    assert all(b"token" in stream for stream in streams().values())


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_streams_are_read_in_one_way(name: str) -> None:
    rng = random.Random(5)
    made = list(seeds(name))
    for _ in range(150):
        seed = bytearray(rng.choice(made))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(seed))
            seed[at : at + rng.choice([0, 1, 3])] = rng.choice(
                [b"", b"\r", b"\n", b"\r\n", b"data: ", b"\xff", b"0", b'"', b"\xef\xbb\xbf"]
            )
            if not seed:
                break
        PARSERS[name](bytes(seed))


@pytest.mark.parametrize("name", CONTROLS)
def test_a_parser_that_was_made_wrong_is_told(name: str) -> None:
    assert not any(_disagrees(name, seed) for seed in seeds("sse"))  # the search has something to do
    stream = b"id: 7\ndata: a\n\n"
    assert _disagrees(name, encoded(0, [3], stream))


def _disagrees(name: str, given: bytes) -> bool:
    try:
        CONTROLS[name](given)
    except DisagreementError:
        return True
    return False


@given(st.binary(max_size=200), st.integers(0, 255), st.lists(st.integers(0, 65_535), max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_an_input(stream: bytes, choice: int, cuts: list[int]) -> None:
    variant, pieces = decoded(encoded(choice, cuts, stream))
    assert (variant, b"".join(pieces)) == (choice, stream)
    decoded(stream)


def test_where_the_fuzzer_is_not_to_be_had_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "HOME", Path("/nowhere"))
    monkeypatch.setitem(sys.modules, "atheris", None)
    with pytest.raises(SystemExit) as left:
        command.main(["--seconds", "1"])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert "python -m harness.fuzz ensure" in told
    assert "atheris is not here" in told


def test_an_unknown_parser_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "sse,xml"])
    assert "got xml" in capsys.readouterr().err


def test_a_finding_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input"
    path.write_bytes(encoded(0, [3], b"data: a\n\n"))
    command.main(["--only", "sse", "--input", str(path)])
    assert "is read in one way" in capsys.readouterr().out
