"""What is wrong with a configuration, one line per mistake: where, what was wanted, what was got."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latprof.config.overrides import reaches
from latprof.config.whole import Config

# What pydantic adds to a location to tell the members of a union, and a key from its value.
_TAG = re.compile(r"\[key\]|literal\[.*|function-.*|Station")
# What stands there may be a key: it is never repeated.
_UNTOLD = tuple((section, key) for section in ("target", "targets") for key in ("headers", "extra_body"))


def explain(error: ValidationError, path: Path | None, overrides: Mapping[str, Any]) -> Iterator[str]:
    """One line per mistake: where, what was wanted, what was got."""
    for mistake in error.errors():
        location = mistake["loc"]
        prefix = f"{path}: " if path is not None and not reaches(overrides, location) else ""
        where = ".".join(str(part) for part in location if not _TAG.fullmatch(str(part))) or "configuration"
        if mistake["type"] == "extra_forbidden":
            yield f"{prefix}{where} is not a known key{_nearest(location)}"
        else:
            wanted = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            wanted = "must be a mapping" if mistake["type"].startswith(("model_", "dict_")) else wanted
            key = (location[0], location[2]) if location[:1] == ("targets",) and len(location) > 2 else location[:2]
            is_told = "got " in wanted or isinstance(mistake["input"], dict) or key in _UNTOLD
            # What concerns the whole names its keys itself.
            yield (f"{prefix}{where}: {wanted}" if location else f"{prefix}{wanted}") + ("" if is_told else f", got {mistake['input']!r}")


def _nearest(location: tuple[int | str, ...]) -> str:
    known = _keys_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join([*map(str, location[:-1]), close[0]])}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    schema: dict[str, Any] = Config.model_json_schema()
    node = schema
    for part in location:
        if isinstance(part, int):
            node = next((one["items"] for one in (node, *node.get("anyOf", [])) if isinstance(one.get("items"), dict)), {})
        else:
            node = node.get("properties", {}).get(part, {})
        for wrapper in (node, *node.get("allOf", []), *node.get("anyOf", [])):
            if "$ref" in wrapper:
                node = schema["$defs"][wrapper["$ref"].rsplit("/", 1)[-1]]
                break
    return list(node.get("properties", {}))
