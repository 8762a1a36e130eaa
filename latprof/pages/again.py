"""How a run, a sweep or a comparison is made again: the configuration as a file, and the command that takes it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from latprof.client.redact import REDACTED
from latprof.config import Config
from latprof.observations.scrub import scrub
from latprof.units import ms

if TYPE_CHECKING:
    from latprof.analysis.verdicts.compare import Comparison

CONFIG: Final = "config.yaml"
_REDACTED_PAIR: Final = re.compile(rf"[?&][^?&=]+={re.escape(REDACTED)}")


def run_again(folder: Path, meta: Mapping[str, Any]) -> str:
    """The command that makes a run again, from its folder's own configuration where that is there."""
    command = "latprof simulate" if meta.get("is_simulated") else "latprof run"
    unstable = " --allow-unstable" if meta.get("allow_unstable") else ""
    if (folder / CONFIG).exists():
        return f"{command} {shlex.quote(str(folder / CONFIG))}{unstable}"
    return f"{command} {CONFIG}{unstable}   # the configuration below, saved under that name"


def sweep_again(folder: Path, flags: Sequence[str] | None) -> str:
    """The command that makes a sweep again; empty where its folder does not tell."""
    known = flags is not None and (folder / CONFIG).exists()
    return shlex.join(["latprof", "sweep", str(folder / CONFIG), *(flags or ())]) if known else ""


def comparison_again(arms: tuple[Path, Path], told: Comparison) -> str:
    """The command that holds the same arms against each other again."""
    tolerance = told.tolerance
    flags = [f"--tolerance={100 * tolerance.share:g}%"] * (tolerance.share > 0)
    flags += [f"--min-abs={ms(tolerance.least_ns):g}ms"] * (tolerance.least_ns > 0)
    return shlex.join(["latprof", "compare", *map(str, arms), f"--metric={told.metric}", *flags])


def config_text(config: Config, of: str = "run") -> str:
    """A configuration as a file: only what differs from the defaults, without where it writes to, and without secrets, which a comment names."""
    told = scrub(config.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"out"}))
    missing: list[str] = []
    told = _without_placeholders(told, "", missing)
    text: str = yaml.safe_dump(told, sort_keys=False, allow_unicode=True) if told else "{}\n"
    left_out = "".join(f"# left out, for it may be a secret; give it again: {path}\n" for path in missing)
    return f"# latprof {of}\n{left_out}{text}"


def _without_placeholders(value: Any, path: str, missing: list[str]) -> Any:
    """``value`` without what was redacted in it: a placeholder must never be sent as if it were the secret."""
    if isinstance(value, Mapping):
        return dict(_kept(((key, one, f"{path}.{key}" if path else str(key)) for key, one in value.items()), missing))
    if isinstance(value, list):
        return [one for _, one in _kept(((at, one, f"{path}.{at}") for at, one in enumerate(value)), missing)]
    if isinstance(value, str) and REDACTED in value:
        missing.append(path)
        return re.sub(r"^([^?]*)&", r"\1?", _REDACTED_PAIR.sub("", value)).replace(f"{REDACTED}@", "")
    return value


def _kept(parts: Iterator[tuple[Any, Any, str]], missing: list[str]) -> Iterator[tuple[Any, Any]]:
    for key, one, path in parts:
        if one == REDACTED:
            missing.append(path)
        else:
            yield key, _without_placeholders(one, path, missing)
