"""The figures of run folders and sweeps as files, for papers and pull requests: read from the folders alone, like every report."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.errors import UsageError
from latprof.pages.html import shown_of

if TYPE_CHECKING:
    from latprof.gates.budget import Budget
    from latprof.opening import Opened
    from latprof.report.page.static import Figure
    from latprof.report.sweep.values import SweepReport


def write_figures(opened: Opened, folder: Path, budget: Budget | None = None) -> list[Path]:
    """Write every figure of a run into ``folder``, as SVG and as PNG; the files. What ``budget`` promises end to end is a tick on its bars.

    Raises:
        UsageError: there is nothing to draw, what draws is not installed, or the folder cannot be written.
    """
    from latprof.report.page.figures import of_run

    why = f"{opened.observed.folder} has no request that succeeded"
    return write_pictures(of_run(shown_of(opened, budget)), folder, why)


def write_sweep_figures(report: SweepReport, folder: Path) -> list[Path]:
    """Write every figure of a sweep; as `write_figures`."""
    from latprof.report.page.figures import of_sweep

    why = f"{report.folder or 'the sweep'} has no two points along one axis that count"
    return write_pictures(of_sweep(report), folder, why)


def check_figures(folder: Path) -> None:
    """Find out before anything is read whether figures can be drawn, and written there; the folder is made later.

    Raises:
        UsageError: they cannot.
    """
    from latprof.report.page.static import check_installed

    check_installed()
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"--figures {folder}: {nearest} is a file; name a folder, or one to be made")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"--figures {folder}: {nearest} cannot be written; name a folder that can be, or one to be made")


def write_pictures(figures: Iterable[Figure], folder: Path, why_none: str = "no figure was given") -> list[Path]:
    """Write ``figures`` into ``folder``; the files. All are drawn before the first is written, and each is put in place as a whole.

    Raises:
        UsageError: there is none (``why_none``), or the folder cannot be written.
    """
    from latprof.report.page.static import drawn, png_of

    texts: dict[Path, bytes] = {}
    for figure, svg in drawn(list(figures)):
        texts |= {folder / f"{figure.name}.svg": svg.encode(), folder / f"{figure.name}.png": png_of(svg)}
    if not texts:
        raise UsageError(f"--figures: {why_none}, so there is nothing to draw; latprof report without --figures says why")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            part = file.with_name(f".{file.name}-{os.getpid()}")
            try:
                part.write_bytes(text)
                part.replace(file)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    part.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None
    return list(texts)


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"--figures {folder}: cannot be written ({error.strerror}); name a folder that can be, or one to be made")
