"""Figures on paper: whole, legible, the same everywhere, and honest about what must not be used."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hostile_words import HOSTILE
from made_pages import AGENTS, failed_shown, made_shown, made_sweep, partial_shown, played_shown
from made_run import made_layers

from latprof.analysis.validity.doubts import Doubt
from latprof.commands.report import report_and_print
from latprof.config import load_config
from latprof.errors import UsageError
from latprof.pages import figures as figures_room
from latprof.pages.figures import check_figures
from latprof.pipeline import simulate
from latprof.report.page import static
from latprof.report.page.figures import of_run, of_sweep
from latprof.report.page.static import WIDTH, Figure, drawn, png_of, text_width, wrapped

_SVG = "{http://www.w3.org/2000/svg}"
_NAMES = {
    "run": "budget-ttft budget-e2el tail waterfall-p50 waterfall-p95 waterfall-p99 tails-ttft tails-e2el heat",
    "partial": "budget-ttft tail waterfall-p50 waterfall-p95 waterfall-tail-mean tails-ttft tails-e2el heat",
    "failures": "heat",
    "agent": "budget-ttft budget-e2el budget-task tail waterfall-p50 waterfall-tail-mean tails-ttft tails-e2el heat gantt",
    "speed-up": " ".join(
        f"sweep-{metric}-{column}{state}" for metric in ("e2el", "ttft") for column in ("p50", "p99") for state in ("", "-shares")
    ),
    "rate": "load-rate",
    "hostile": "budget-ttft budget-e2el tail waterfall-p50 waterfall-tail-mean tails-ttft tails-e2el heat",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure, as it was drawn."""

    figure: Figure
    svg: str


@cache
def _of_kind(kind: str, folder: Path) -> tuple[Figure, ...]:
    match kind:
        case "agent":
            return tuple(of_run(played_shown(folder / "agent", workload=AGENTS)))
        case "speed-up":
            return tuple(of_sweep(made_sweep()))
        case "rate":
            return tuple(of_sweep(made_sweep("rate", (5, 10, 20))))
        case "hostile":
            return tuple(of_run(made_shown(60, hostile=True)))
        case _:
            return tuple(of_run({"run": made_shown, "partial": partial_shown, "failures": failed_shown}[kind]()))


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Drawn, ...]]:
    folder = tmp_path_factory.mktemp("runs")
    by_kind = {kind: _of_kind(kind, folder) for kind in _NAMES}
    made = iter([Drawn(*one) for one in drawn([figure for figures in by_kind.values() for figure in figures])])
    return {kind: tuple(next(made) for _ in figures) for kind, figures in by_kind.items()}


@pytest.mark.parametrize("kind", _NAMES)
def test_every_picture_has_a_figure(every: dict[str, tuple[Drawn, ...]], kind: str) -> None:
    assert [one.figure.name for one in every[kind]] == _NAMES[kind].split()


# --- legible ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """Where a text stands."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: Box) -> bool:
        """Whether one is over the other, by more than a pixel."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide > 1 and high > 1


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  # our own


def _boxes(svg: str) -> Iterator[Box]:
    root = _parsed(svg)
    for parent, down in [(root, 0.0), *((inner, float(inner.attrib["y"])) for inner in root.findall(f"{_SVG}svg"))]:
        for element in parent.iter(f"{_SVG}text") if parent is not root else root.findall(f"{_SVG}text"):
            yield _box(element, down)


def _box(element: ET.Element, down: float) -> Box:
    style = dict(part.split(":", 1) for part in element.get("style", "").split(";") if part)
    px = float((style.get("font-size") or element.get("font-size") or "").removesuffix("px"))
    weight = "bold" if "bold" in (style.get("font-weight", ""), element.get("font-weight")) else "normal"
    text = "".join(element.itertext())
    width = text_width(text, px, weight)
    shift = {"start": 0.0, "middle": -width / 2, "end": -width}[element.get("text-anchor", "start")]
    x, y = float(element.get("x", 0)), float(element.get("y", 0))
    # What is centred stands about its y, what is not stands on it.
    over, under = (0.5, 0.5) if element.get("dominant-baseline") == "central" else (0.75, 0.22)
    corners = [(x + shift + at * width, y + edge * px) for at in (0, 1) for edge in (-over, under)]
    numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", element.get("transform", ""))]
    a, b, c, d, e, f = numbers if len(numbers) == 6 else (1, 0, 0, 1, *(numbers or (0, 0)))
    placed = [(a * px_ + c * py_ + e, b * px_ + d * py_ + f + down) for px_, py_ in corners]
    xs, ys = [at for at, _ in placed], [at for _, at in placed]
    return Box(text, min(xs), min(ys), max(xs), max(ys))


@pytest.mark.parametrize("kind", _NAMES)
def test_no_text_is_cut_off_and_none_covers_another(every: dict[str, tuple[Drawn, ...]], kind: str) -> None:
    for one in every[kind]:
        height = float(_parsed(one.svg).attrib["height"])
        boxes = [box for box in _boxes(one.svg) if box.text.strip()]
        assert len(boxes) >= 4
        for box in boxes:
            assert box.left >= 0 <= box.top, (one.figure.name, box)
            assert box.right <= WIDTH, (one.figure.name, box)
            assert box.bottom <= height, (one.figure.name, box)
        over = [(a, b) for at, a in enumerate(boxes) for b in boxes[:at] if a.covers(b)]
        assert not over, one.figure.name


def test_a_text_over_another_would_be_seen() -> None:
    box = Box("a", 0, 0, 10, 10)
    assert box.covers(Box("b", 5, 5, 15, 15))
    assert not box.covers(Box("c", 10, 0, 20, 10))
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text x="5" y="50" font-size="10">iiii</text></svg>'
    (found,) = _boxes(svg)
    assert (found.left, found.right) == pytest.approx((5, 5 + 4 * 10 * 455 / 2048), abs=0.01)


def test_lines_are_no_wider_than_their_room() -> None:
    lines = wrapped("one two three four five six " * 10, 12.5, 300)
    assert len(lines) > 3
    assert max(text_width(line, 12.5) for line in lines) <= 300
    # Not a word less could have been taken.
    assert all(text_width(f"{one} {other.split()[0]}", 12.5) > 300 for one, other in pairwise(lines))
    assert wrapped("", 12.5, 300) == [""]
    broken = wrapped("a " + "x" * 100, 12.5, 300)
    assert broken[0] == "a"
    assert "".join(broken[1:]) == "x" * 100
    assert max(text_width(line, 12.5) for line in broken) <= 300
    assert wrapped("word " * 1000, 12.5, 300)[-1] == "…"
    assert text_width("W", 10, "bold") > text_width("i", 10, "bold")


# --- what they say of themselves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _NAMES)
def test_a_figure_says_what_it_is_and_of_what(every: dict[str, tuple[Drawn, ...]], kind: str) -> None:
    for one in every[kind]:
        words = " ".join("".join(element.itertext()) for element in _parsed(one.svg).iter(f"{_SVG}text"))
        assert ("simulated" in words.split()) == (kind in {"agent", "speed-up", "rate"})
        assert ("NOT VALID" in words) == (kind in {"failures", "hostile"})
        if kind == "run":
            assert "1200 requests" in words
            assert "run 0123456789abcdef" in words
            assert "Open loop, constant 50/s" in words
        if kind == "partial":
            assert "partial" in words


def test_an_invalid_sweep_says_so() -> None:
    doubts = (Doubt("lateness", "fatal", "requests went late", "slow down"),)
    (one,) = drawn(list(of_sweep(made_sweep("rate", (5, 10, 20), doubts=doubts))))
    assert "NOT VALID" in one[1]
    assert "only 0 of them count" in one[1]


# --- the files ----------------------------------------------------------------------------------------------------------------------------

_DRAWN_WITH = {
    "svg",
    "g",
    "defs",
    "path",
    "rect",
    "text",
    "title",
    "desc",
    "clipPath",
    "pattern",
    "linearGradient",
    "stop",
    "circle",
    "polygon",
}


@pytest.mark.parametrize("kind", _NAMES)
def test_svg_holds_shapes_and_texts_and_nothing_that_acts(every: dict[str, tuple[Drawn, ...]], kind: str) -> None:
    for one in every[kind]:
        assert not re.search(r"ecmeta|<style|class=", one.svg)
        for element in _parsed(one.svg).iter():
            assert element.tag.removeprefix(_SVG) in _DRAWN_WITH | {"polyline", "line"}
            for name, value in element.attrib.items():
                assert not name.lower().startswith("on"), name
                assert "javascript" not in value
                assert "http" not in value or value.startswith("http://www.w3.org/")
    if kind == "hostile":
        words = "".join(one.svg for one in every[kind])
        assert "&lt;script&gt;alert(1)" in words
        assert not any(character in words for character in "\x1b\x07\x00\u202e\u2028")
        assert HOSTILE[0] not in words


def test_a_png_has_two_pixels_for_one(every: dict[str, tuple[Drawn, ...]]) -> None:
    for one in (every["run"][0], every["speed-up"][0]):
        png = png_of(one.svg)
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert (width, height) == (2 * WIDTH, 2 * int(_parsed(one.svg).attrib["height"]))
        assert 10_000 < len(png) < 250_000


def test_texts_are_drawn_without_a_font_on_the_machine(every: dict[str, tuple[Drawn, ...]]) -> None:
    # None of the machine's is looked at; with no font at all the letters are gone, and much of the file with them.
    from resvg_py import svg_to_bytes

    (one, *_) = every["run"]
    bare = svg_to_bytes(svg_string=one.svg, zoom=2, skip_system_fonts=True)
    assert len(png_of(one.svg)) > 1.3 * len(bytes(bare))


def test_the_same_run_gives_the_same_bytes(every: dict[str, tuple[Drawn, ...]]) -> None:
    (one,) = drawn([every["run"][0].figure])
    assert Drawn(*one).svg == every["run"][0].svg
    assert png_of(one[1]) == png_of(one[1])


# --- the command --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load = {"rate_per_s": 20, "num_requests": 40, "warmup": "0s"}
    return simulate(load_config(None, {"out": tmp_path_factory.mktemp("run") / "run", "load": load})).folder


def test_the_command_writes_a_pair_for_every_picture(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "figures"
    report_and_print(run_folder, json_file=None, figures=folder)
    names = sorted(path.name for path in folder.iterdir())
    assert {"budget-ttft.svg", "budget-ttft.png", "tail.svg", "heat.png"} <= set(names)
    assert [name for name in names if name.endswith(".svg")] == [name.replace(".png", ".svg") for name in names if name.endswith(".png")]
    assert f"figures: {folder} has budget-ttft, " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_found_before_the_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--figures .*figures: .*file is a file; name a folder, or one to be made"):
        report_and_print(tmp_path / "no run", json_file=None, figures=tmp_path / "file" / "figures")
    assert not list(tmp_path.glob("*/*"))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(static, "find_spec", lambda name: None if name == "resvg_py" else object())
    with pytest.raises(UsageError, match=r"resvg-py is not installed.*pip install 'latprof\[figures\]'"):
        check_figures(tmp_path)


def test_a_run_without_a_request_has_nothing_to_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Path) -> None:
    from latprof.opening import open_run

    empty = made_shown(0, layers={"ttft": made_layers(0)})
    monkeypatch.setattr(figures_room, "shown_of", lambda *_: empty)
    with pytest.raises(UsageError, match="has no request that succeeded, so there is nothing to draw"):
        figures_room.write_figures(open_run(run_folder), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_sweep_of_which_nothing_counts_has_nothing_to_draw(tmp_path: Path) -> None:
    report = made_sweep(doubts=(Doubt("lateness", "fatal", "requests went late", "slow down"),))
    with pytest.raises(UsageError, match="has no two points along one axis that count, so there is nothing to draw"):
        figures_room.write_sweep_figures(report, tmp_path)


def test_half_a_figure_is_never_left(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_bytes

    def full(path: Path, text: bytes) -> int:
        if "tail" in path.name:
            written(path, text[:100])
            raise OSError(28, "No space left on device")
        return written(path, text)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"cannot be written \(No space left on device\)"):
        report_and_print(run_folder, json_file=None, figures=tmp_path)
    for path in tmp_path.iterdir():
        assert not path.name.startswith(".")
        if path.suffix == ".svg":
            _parsed(path.read_text())
