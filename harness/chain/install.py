"""Installs the real chain's components on demand: a locked environment of their own, and HAProxy from Debian."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_HAPROXY_PLACES = ("/usr/sbin/haproxy", "/usr/local/sbin/haproxy")  # sbin is not on everybody's PATH

# The lock is complete: resolving again could only disagree with it.
_PIP_OPTIONS = ("--quiet", "--no-deps", "--disable-pip-version-check")


class InstallError(RuntimeError):
    """A component is missing and could not be installed."""


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the components are."""

    bin: Path
    haproxy: Path

    @property
    def python(self) -> Path:
        """The Python of the chain's own environment."""
        return self.bin / "python"


def cache_folder() -> Path:
    """Where the components live: ``real-chain`` in ``LATPROF_CACHE``, by default in the repository's ``.cache``."""
    return Path(os.environ.get("LATPROF_CACHE") or ROOT / ".cache").resolve() / "real-chain"


def ensure() -> Installed:
    """Install what is missing (a minute or two, 1 GB) and say where everything is; at once when nothing is missing.

    Raises:
        InstallError: a component could not be installed; says what to do.
    """
    return Installed(bin=_ensure_environment() / "bin", haproxy=ensure_haproxy())


def ensure_haproxy() -> Path:
    """HAProxy's program, installed with apt when it is missing and we are root.

    Raises:
        InstallError: it is missing and could not be installed.
    """
    found = _find_haproxy()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install("haproxy")
        found = _find_haproxy()
    if found is None:
        raise InstallError("haproxy is not installed; as root: apt-get install haproxy")
    return found


def _find_haproxy() -> Path | None:
    found = shutil.which("haproxy") or next((place for place in _HAPROXY_PLACES if os.access(place, os.X_OK)), None)
    return Path(found) if found else None


def _apt_install(package: str) -> None:
    # RUNLEVEL=1 keeps Debian from starting the service it has just installed.
    environment = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    if subprocess.run(install, env=environment, check=False, capture_output=True).returncode:
        _run(["apt-get", "update", "-qq"], environment)  # a fresh image has no package lists
        _run(install, environment)


def _ensure_environment() -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    environment, stamp = folder / "venv", folder / "installed"
    wanted = _lock_digest()
    with _exclusive(folder / "lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(environment, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(environment)])
            _run([str(environment / "bin" / "pip"), "install", *_PIP_OPTIONS, "--requirement", str(REQUIREMENTS)])
            stamp.write_text(wanted)
    return environment


def _lock_digest() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Two test runs on one machine must not install into one folder at once."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InstallError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
