r"""Words of strangers made harmless: what a server, a header or a file name says is shown, and never obeyed.

Model names, error bodies and hop names come from whoever answers. On a terminal an escape sequence in them would move the cursor, hide text or set
the window's title; a mark that turns the writing direction makes a line read as another. Both are written out instead (``\x1b``, ``\u202e``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

# Controls (C0, DEL, C1), halves of surrogate pairs, and what Unicode shows as nothing, as a new line or as a turn of direction. The two joiners
# stay, and the marks of Arabic and of hieroglyphs: emoji and those scripts are not written without them.
_ACTIVE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def plain(text: str, keep: str = "") -> str:
    """``text`` with every character that acts instead of showing written out as an escape; those in ``keep`` stay."""
    if text.isascii() and text.isprintable():  # nearly every text there is
        return text
    return _ACTIVE.sub(lambda found: found[0] if found[0] in keep else _written_out(found[0]), text)


def harmless(value: T) -> T:
    """``value`` with every text in it `plain`, however deep in dataclasses, mappings, tuples and lists; the same object where nothing changes.

    For values that are about to be shown: cleaned before they are laid out, so that columns keep their widths.
    """
    return cast("T", _harmless(value))


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        cleaned = plain(value)
        return value if cleaned == value else cleaned
    if isinstance(value, Path):
        cleaned = plain(str(value))
        return value if cleaned == str(value) else Path(cleaned)
    if isinstance(value, Mapping):
        pairs = [(_harmless(key), _harmless(held)) for key, held in value.items()]
        same = all(key is old_key and held is old for (key, held), (old_key, old) in zip(pairs, value.items(), strict=True))
        return value if same else dict(pairs)
    if isinstance(value, tuple | list):
        items = [_harmless(item) for item in value]
        return _like(value, items) if any(one is not other for one, other in zip(items, value, strict=True)) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        changed = {name: cleaned for name, item in held.items() if (cleaned := _harmless(item)) is not item}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _like(value: tuple[Any, ...] | list[Any], items: list[Any]) -> Any:
    """A sequence of ``value``'s type: named tuples take their items one by one."""
    if isinstance(value, list):
        return items
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
