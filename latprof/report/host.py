"""What a run was measured on and with, in words: the host facts of `run.json`, each part left out where it is not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def host(facts: Mapping[str, Any]) -> str:
    """Processor, cores, kernel, Python, and latprof's own version."""
    where = facts.get("cpu_model") or " ".join(str(facts[key]) for key in ("platform", "machine") if facts.get(key))
    cpus = facts.get("cpus")
    cores = "" if not cpus else "1 core" if cpus == 1 else f"{cpus} cores"
    parts = (where, cores, facts.get("kernel"), facts.get("python"), *_own(facts))
    return ", ".join(str(part) for part in parts if part)


def versions(facts: Mapping[str, Any]) -> str:
    """Of latprof, Python, and the libraries that measure."""
    libraries = (f"{name} {version}" for name, version in (facts.get("libraries") or {}).items())
    return ", ".join([*_own(facts), *([str(facts["python"])] if facts.get("python") else []), *libraries])


def _own(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("latprof"):
        yield f"latprof {facts['latprof']}"
