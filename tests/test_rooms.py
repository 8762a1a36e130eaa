"""Rooms do not look back: the imports are read, not trusted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "latprof"
SHARED = {"units", "errors", "clock", "config"}
PATH = ["workload", "schedule", "client", "observations", "spans", "layers", "analysis", "report"]
# Lazy imports inside functions count as well: a room that needs another one later still needs it.
MAY_IMPORT: dict[str, set[str]] = {
    **{room: SHARED | set(PATH[: index + 1]) for index, room in enumerate(PATH)},
    **{room: SHARED | set(PATH[: PATH.index(room) + 1]) | {"queues"} for room in ("analysis", "report")},
    "queues": {"units", "queues"},
    "stub": SHARED | {"queues", "stub", "layers.vocabulary"},
    "units": set(),
    "errors": set(),
    "clock": {"units"},
    "testing": {"units"},
    "yaml_text": {"errors"},
    "config": {"units", "errors", "yaml_text", "config"},
    "cli": {"config", "errors", "yaml_text", "report.gate_values", "report.inert", "cli", "commands"},
    "gates": SHARED | {"analysis", "gates", "layers", "opening", "report", "yaml_text"},
    "commands": SHARED
    | set(PATH)
    | {
        "commands",
        "doctor",
        "gates",
        "opening",
        "pages",
        "pipeline",
        "stub",
        "sweep",
    },
    "simulated": SHARED | set(PATH) | {"simulated", "stub"},
    "sweep": SHARED | set(PATH) | {"opening", "pipeline", "stub", "sweep"},
    "pages": SHARED | set(PATH) | {"gates", "opening", "pages", "sweep"},
    "__main__": {"cli"},
    "live": SHARED | set(PATH) | {"live"},
    "opening": SHARED | set(PATH),
    "pipeline": SHARED | set(PATH) | {"inject", "live", "opening", "pipeline", "simulated", "stub"},
    "doctor": SHARED | set(PATH) | {"doctor"},
    "inject": SHARED | {"schedule", "client", "observations", "inject"},
    "worker": {"units", "errors", "clock", "schedule", "client", "observations"},
    "__init__": {"config", "opening", "pipeline"},
}


def imported(path: Path) -> Iterator[str]:
    """What a file imports from latprof, as dotted names below it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("latprof.") for alias in node.names if alias.name.startswith("latprof."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "latprof":
                yield from (
                    alias.name for alias in node.names if (PACKAGE / alias.name).exists() or (PACKAGE / f"{alias.name}.py").exists()
                )
            elif node.module.startswith("latprof."):
                yield node.module.removeprefix("latprof.")


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
