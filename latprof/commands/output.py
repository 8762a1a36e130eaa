"""What every command does with what it has to say: printed, as JSON beside it or in its place, and where the files are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latprof.errors import UsageError
from latprof.report.inert import plain


def check_writable(json_file: Path | None, flag: str = "--json") -> None:
    """Found out before the run, not after it."""
    if json_file is None or str(json_file) == "-":
        return
    try:
        existed = json_file.exists()
        json_file.open("ab").close()
    except OSError as error:
        raise UsageError(f"{flag} {json_file}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    if not existed:
        json_file.unlink()


def json_bytes(value: Any) -> bytes:
    """A summary as the bytes of a file."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def print_with_json(render: Callable[[bool], None], summary: Any, json_file: Path | None, otherwise: str = "") -> None:
    """What ``render`` prints, and ``summary`` in ``json_file``; where that is ``-`` (standard output), ``render`` is told to take standard error.

    Raises:
        UsageError: the file cannot be written; ``otherwise`` is what to do about it.
    """
    text = json_bytes(summary)
    on_stdout = str(json_file) == "-"
    # The reader of our output may leave (`| head`); rich then ends the process with 1, which stands for a failed gate.
    with contextlib.suppress(BrokenPipeError, SystemExit):
        if on_stdout:
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        render(on_stdout)
    if json_file is not None and not on_stdout:
        try:
            json_file.write_bytes(text)
        except OSError as error:
            raise UsageError(f"--json {json_file}: cannot be written ({error.strerror}){otherwise}") from None


def tell_page(file: Path, *, quiet: bool) -> None:
    """Where a page is, on standard error."""
    if not quiet:
        sys.stderr.write(f"page: {plain(str(file))}\n")


def tell_figures(files: Sequence[Path], folder: Path) -> None:
    """Where the figures are, on standard error."""
    names = ", ".join(dict.fromkeys(file.stem for file in files))
    sys.stderr.write(plain(f"figures: {folder} has {names}, each as SVG and PNG") + "\n")
