"""The gate's JUnit file against the schema that Jenkins' xUnit reads it by, as pytest ships it with its source."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import xmlschema

from latprof.errors import Exit

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SOURCE = "pytest==8.3.4"
BUDGET = """\
goodput: {ttft: 200ms, tpot: 50ms}
budgets:
  - ttft p50 < 130ms
  - ttft p95 < 1ms
  - {layer: router, at: p50, max: 0.1ms, level: warn}
"""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> xmlschema.XMLSchema:
    folder = tmp_path_factory.mktemp("source")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "pytest", "-d", str(folder), SOURCE]
    subprocess.run(command, check=True, timeout=200)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        name = next(name for name in source.getnames() if name.endswith("/junit-10.xsd"))
        source.extract(name, folder, filter="data")
    return xmlschema.XMLSchema(str(folder / name))


def test_what_a_ci_reads_is_valid_for_jenkins(tmp_path: Path, schema: xmlschema.XMLSchema) -> None:
    (tmp_path / "budget.yaml").write_text(BUDGET)
    command = [sys.executable, "-m", "latprof", "gate", "--simulate", "configs/quickstart.yaml", "--budget", str(tmp_path / "budget.yaml")]
    done = subprocess.run([*command, "--junit", str(tmp_path / "gate.xml")], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == Exit.GATE_FAILED, done.stdout + done.stderr
    text = (tmp_path / "gate.xml").read_text()
    assert "<failure" in text
    assert "<skipped" in text
    schema.validate(text)
    assert not schema.is_valid(text.replace("<testcase ", "<testcases ", 1))
