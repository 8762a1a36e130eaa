"""A configuration from its file: YAML with overrides laid over it, and paths beside the file that names them."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latprof.config.load import LoadPhase
from latprof.config.mistakes import explain
from latprof.config.overrides import laid_over, reaches
from latprof.config.target import NamedTarget
from latprof.config.whole import Config
from latprof.errors import ConfigError, unreadable
from latprof.yaml_text import read_yaml


def load_config(path: str | PathLike[str] | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``path`` (or nothing), lay ``overrides`` (nested like the file) over it, and validate.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or says something that cannot be meant.
    """
    file = None if path is None else Path(path)
    over = overrides or {}
    try:
        config = Config.model_validate(laid_over({} if file is None else _read_yaml(file), over))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, file, over))) from None
    return _with_paths_from(config, file, over)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({unreadable(error)}); give the path of a YAML file, or none for the quickstart"
        ) from None
    try:
        written = read_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: must be a mapping with keys such as target, load, workload; got a {type(written).__name__}")
    return written


_FILES = (("workload", "trace"), ("workload", "tokenizer"), ("target", "ca_file"), ("target", "client_cert"), ("target", "client_key"))


def _with_paths_from(config: Config, path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Relative file names in a configuration are relative to the file that names them (or to here, when they exist here)."""
    for section_name, key in _FILES:
        section = getattr(config, section_name)
        named = getattr(section, key)
        in_file = path is not None and named is not None and not reaches(overrides, (section_name, key))
        if path is not None and in_file and not named.exists():  # an absolute name stays itself below any parent
            config = config.model_copy(update={section_name: section.model_copy(update={key: path.parent / named})})
    if path is not None and not reaches(overrides, ("targets",)):
        targets = tuple(_with_files_beside(path, target) for target in config.targets)
        config = config.model_copy(update={"targets": targets})
    if path is not None and config.load.phases is not None and not reaches(overrides, ("load", "phases")):
        phases = tuple(_with_series_beside(path, phase) for phase in config.load.phases)
        config = config.model_copy(update={"load": config.load.model_copy(update={"phases": phases})})
    return config


def _with_files_beside(path: Path, target: NamedTarget) -> NamedTarget:
    files = {key: getattr(target, key) for section, key in _FILES if section == "target" and key in target.model_fields_set}
    return target.model_copy(update={key: path.parent / file for key, file in files.items() if file is not None and not file.exists()})


def _with_series_beside(path: Path, phase: LoadPhase) -> LoadPhase:
    if phase.series_file is None or phase.series_file.exists():
        return phase
    return phase.model_copy(update={"series_file": path.parent / phase.series_file})
