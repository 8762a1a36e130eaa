"""Rooms do not look back: the imports are read, not trusted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "latprof"
SHARED = {"units", "errors", "clock", "config"}
PATH = ["workload", "schedule", "client", "observations", "spans", "layers", "analysis", "report"]
# Lazy imports inside functions count as well: a room that needs another one later still needs it.
MAY_IMPORT: dict[str, set[str]] = {
    **{room: SHARED | set(PATH[: index + 1]) for index, room in enumerate(PATH)},
    **{room: SHARED | set(PATH[: PATH.index(room) + 1]) | {"queues"} for room in ("analysis", "report")},
    # What everything stands on.
    "units": set(),
    "errors": set(),
    "clock": {"units"},
    "testing": {"units"},
    "yaml_text": {"errors"},
    "config": {"units", "errors", "yaml_text", "config"},
    # Beside the path.
    "queues": {"units", "queues"},
    "stub": SHARED | {"queues", "stub", "layers.vocabulary"},
    "simulated": SHARED | set(PATH) | {"simulated", "stub"},
    "worker": {"units", "errors", "clock", "schedule", "client", "observations"},
    "inject": SHARED | {"schedule", "client", "observations", "inject"},
    "live": SHARED | set(PATH) | {"live"},
    "doctor": SHARED | set(PATH) | {"doctor"},
    # One run, several, and what is made of them.
    "opening": SHARED | set(PATH),
    "pipeline": SHARED | set(PATH) | {"inject", "live", "opening", "pipeline", "simulated", "stub"},
    "sweep": SHARED | set(PATH) | {"opening", "pipeline", "stub", "sweep"},
    "gates": SHARED | {"analysis", "gates", "layers", "opening", "report", "yaml_text"},
    "pages": SHARED | set(PATH) | {"gates", "opening", "pages", "sweep"},
    # Whoever asks for it.
    "commands": SHARED | set(PATH) | {"commands", "doctor", "gates", "opening", "pages", "pipeline", "stub", "sweep"},
    "cli": {"config", "errors", "yaml_text", "report.gate.values", "report.inert", "cli", "commands"},
    "__main__": {"cli"},
    "__init__": {"config", "opening", "pipeline"},
}


def imported(path: Path) -> Iterator[str]:
    """What a file imports from latprof, as dotted names below it: modules, also where a room is asked for them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("latprof.") for alias in node.names if alias.name.startswith("latprof."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "latprof" or node.module.startswith("latprof."):
                room = node.module.removeprefix("latprof").removeprefix(".")
                found = [".".join(filter(None, (room, alias.name))) for alias in node.names]
                yield from filter(None, (name if is_module(name) else room for name in found))


def is_module(name: str) -> bool:
    place = PACKAGE / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_data(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    allowed = MAY_IMPORT[parts[0]]
    for name in imported(path):
        assert name.split(".")[0] in allowed or name in allowed, f"{'/'.join(parts)} imports {name}"


def test_every_room_says_what_it_is_for() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), f"{init} has no docstring"


def test_no_room_is_called_by_a_name_that_explains_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "misc", "manager", "base"}
    assert not [path for path in FILES if path.stem in vague or vague & set(path.relative_to(PACKAGE).parts)]


# A gateway speaks to whoever comes over a WebSocket, and such a connection asks the gateway's stations for each of its turns.
BOTH_WAYS = {("stub.websocket", "stub.gateway")}


def test_no_file_needs_one_that_needs_it() -> None:
    needed: dict[str, set[str]] = {}
    for path in FILES:
        me = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        others = (f"{name}.__init__" if (PACKAGE / name.replace(".", "/")).is_dir() else name for name in imported(path))
        needed[me] = {other for other in others if other != me and (me, other) not in BOTH_WAYS}
    tuple(TopologicalSorter(needed).static_order())  # a CycleError names the files of a circle
