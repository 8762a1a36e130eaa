"""The commands of docs/ci.md and action.yml are run, not trusted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import ROOT

from latprof.gates.budget import load_budget, read_budget
from latprof.pipeline import keep_stub_up_during

LATPROF = Path(sys.executable).parent
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)]
SHORT = ("--num-prompts", "4", "--request-rate", "inf", "--warmup", "0", "-q", "--osl", "3", "--set", "spans.grace=0s", "-R", "2")


def scripts(block: Any) -> Iterator[str]:
    """Every command line of a workflow, GitHub's or GitLab's."""
    if isinstance(block, dict):
        for key, value in block.items():
            if key in {"run", "script"}:
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(block, list):
        for value in block:
            yield from scripts(value)


def steps(block: Any) -> list[dict[str, Any]]:
    """Every step of a workflow of GitHub's that uses an action."""
    if isinstance(block, dict):
        return [block] if "uses" in block else [step for value in block.values() for step in steps(value)]
    return [step for value in block for step in steps(value)] if isinstance(block, list) else []


COMMANDS = sorted({line for block in BLOCKS for line in scripts(block) if line.startswith("latprof ")})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "staging-budget.yaml").write_text("budgets: [ttft p50 < 100s]")
    return tmp_path


def shell(command: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{LATPROF}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=os.environ | {"PATH": path} | environment,
    )


def test_there_are_workflows() -> None:
    assert len(COMMANDS) == 2
    assert all(len(shlex.split(command)) > 4 for command in COMMANDS)


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--simulate" in command])
def test_commands_of_workflows_in_virtual_time(command: str, place: Path) -> None:
    done = shell(command, place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "latprof-virtual" / "junit.xml").exists()


@pytest.mark.live
@pytest.mark.parametrize("command", [command for command in COMMANDS if "--simulate" not in command])
def test_commands_of_workflows_live(command: str, place: Path) -> None:
    with keep_stub_up_during() as url:
        done = shell(f"{command} {shlex.join(SHORT)} --otlp-grpc-port 0 --otlp-http-port 0", place, STAGING_URL=url)
    # So few requests say nothing; and a busy machine cannot be trusted.
    assert done.returncode in {3, 4}, done.stdout + done.stderr
    assert (place / "latprof-staging" / "gate.json").exists()


def checkouts(block: Any) -> set[str]:
    """Where latprof lies in a workflow, as `pip` and `uses` name it; GitLab checks out by itself."""
    places = [step.get("with", {}) for step in steps(block) if step["uses"].startswith("actions/checkout@")]
    elsewhere = {f"./{place['path']}" for place in places if "repository" in place}
    return elsewhere or {"."}


def test_workflows_install_latprof_from_a_checkout_of_it() -> None:
    """A name would be looked up on a package index, where another latprof, or none, is."""
    installed = [(block, shlex.split(line)) for block in BLOCKS for line in scripts(block) if "pip install" in line]
    assert len(installed) == 2
    for block, words in installed:
        assert words[:2] == ["pip", "install"]
        assert set(words[2:]) <= checkouts(block), words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "latprof"
    runs = [block for block in BLOCKS for line in scripts(block) if line.startswith("latprof ")]
    assert all(any(block is one for one, _ in installed) for block in runs)


def test_the_action_is_used_from_a_checkout_of_it_with_inputs_it_has() -> None:
    used = [(block, step) for block in BLOCKS for step in steps(block) if not step["uses"].startswith("actions/")]
    assert len(used) == 1
    for block, step in used:
        assert step["uses"] in checkouts(block)
        assert set(step["with"]) <= set(action()["inputs"])
        for named in (step["with"][name] for name in ("simulate", "budget")):
            assert (ROOT / named.removeprefix(f"{step['uses'].removeprefix('./')}/")).is_file()


def test_the_budget_of_the_document_can_be_meant() -> None:
    (shown,) = [block for block in BLOCKS if isinstance(block, dict) and "budgets" in block]
    budget = read_budget(shown)
    assert len(budget.every_limit) == 9
    assert len(budget.regressions) == 2


@pytest.mark.parametrize(
    "path", [ROOT / "configs" / "budgets" / "quickstart.yaml", ROOT / ".ci" / "budget.yaml", ROOT / ".ci" / "live.yaml"]
)
def test_budgets_of_this_repository_can_be_read(path: Path) -> None:
    load_budget(path)


def action() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return read


def test_the_action_runs_with_its_inputs(place: Path) -> None:
    (step,) = action()["runs"]["steps"]
    values = {name: str(one.get("default", "")) for name, one in action()["inputs"].items()}
    values |= {
        "package": "",
        "simulate": "configs/quickstart.yaml",
        "budget": "configs/budgets/quickstart.yaml",
        "files": "out $(touch pwned)",
    }
    environment = {name: values[re.sub(r"\$\{\{ inputs\.(\w+) \}\}", r"\1", text)] for name, text in step["env"].items()}
    done = shell(step["run"], place, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "out $(touch pwned)" / "junit.xml").exists()
    assert not (place / "pwned").exists()


def test_the_action_reads_no_input_as_a_command() -> None:
    assert all("${{" not in step["run"] for step in action()["runs"]["steps"])
