"""YAML as people write it, read strictly: a key that stands twice is a mistake, where YAML libraries keep the last and say nothing."""

from __future__ import annotations

from typing import Any

import yaml

from latprof.errors import ConfigError


def read_yaml(text: str) -> Any:
    """What ``text`` says, as plain values.

    Raises:
        ConfigError: it is not YAML, or a mapping in it has a key twice; the text names key and lines.
    """
    try:
        return yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {' '.join(str(error).split())}") from None


_MERGE = "tag:yaml.org,2002:merge"


class _Strict(yaml.SafeLoader):
    """Looks before merge keys (``<<``) are laid out: what they bring may be said again, that is what they are for."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                line = key.start_mark.line + 1
                if (key.tag, key.value) in lines:
                    raise ConfigError(_twice(key.value, lines[key.tag, key.value], line))
                lines[key.tag, key.value] = line
        return node


def _twice(key: str, first: int, line: int) -> str:
    return f"{key} stands twice in one mapping, in lines {first} and {line}, and only one can be meant; join the two or drop one"
