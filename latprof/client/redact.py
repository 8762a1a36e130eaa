"""Keeps secrets out of everything that is written or shown: rows, messages, logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, unquote_plus

REDACTED = "[redacted]"

ERROR_TEXT_LENGTH = 300
"""Characters of an error text that a row keeps."""

# Below this a value is more likely a word of ordinary text than a key ("x", "1", "dev"); `Bearer x` is still caught by its shape.
_SHORTEST_SECRET = 4

_SENSITIVE_NAME = re.compile(r"auth|key|token|secret|cookie|passw|credential|session|signature|^sig$|^code$", re.IGNORECASE)
_SCHEMES = frozenset({"bearer", "basic", "digest", "token", "apikey", "api-key"})
_SHAPES = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), rf"\1 {REDACTED}"),
    # Keys by their well-known prefixes; servers echo them shortened with stars or dots: sk-abc***xyz.
    (re.compile(r"\b(?:sk|pk|hf|gsk|csk|xai|nvapi|AIza)[-_][\w*.\-]{4,}"), REDACTED),
    (re.compile(r"(?<=://)[^/\s@\"']+@"), f"{REDACTED}@"),
    (re.compile(r"(?i)([?&](?:api[-_]?key|key|token|access_token|sig|code|secret)=)[^&\s\"']+"), rf"\1{REDACTED}"),
)

# Without one of these no shape can match. Every alternative begins with a character of its own, case spelled out and what stands before it looked
# back at: so `re` looks for one of seven characters, and passes over an id in 0.5 µs instead of 2.
_SUSPECT = re.compile(r"b(?=[eE][aA]|[aA][sS\u017f])|B(?=[eE][aA]|[aA][sS\u017f])|-(?<=[kfia]-)|_(?<=[kfia]_)|:(?=//)|\?|&")


class Redactor:
    """Replaces the run's own secrets, and whatever has the shape of one, in a text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may contain another.
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """``text`` without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        if _SUSPECT.search(text) is None:  # nearly every text there is
            return text
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text

    def excerpt(self, text: str | bytes) -> str:
        """One line of at most ``ERROR_TEXT_LENGTH`` characters; redacted before it is cut, so that no half of a secret is left at the end."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        line = self(" ".join(text.split()))
        if len(line) <= ERROR_TEXT_LENGTH:
            return line
        begun = line.rfind(REDACTED[0], 0, ERROR_TEXT_LENGTH)
        splits = begun >= 0 and line.startswith(REDACTED, begun) and begun + len(REDACTED) > ERROR_TEXT_LENGTH
        return line[: begun if splits else ERROR_TEXT_LENGTH]


def is_sensitive(name: str) -> bool:
    """Whether a header or a query key of this name holds a secret."""
    return _SENSITIVE_NAME.search(name) is not None


def secrets_in_headers(headers: Mapping[str, str]) -> list[str]:
    """The secret values among request headers, whole and in their parts: ``Bearer abc`` is also ``abc``, ``a=1; b=2`` also ``1`` and ``2``."""
    values = [value for name, value in headers.items() if is_sensitive(name)]
    parts = [part for value in values for part in re.split(r"[;,\s]+", value) if part.lower() not in _SCHEMES]
    return [*values, *parts, *(part.partition("=")[2] for part in parts)]


def secrets_in_body(body: object, *, named: bool = False) -> list[str]:
    """Every text in a JSON value that stands, however deep, under a key that names a secret: servers echo what they refuse."""
    if isinstance(body, Mapping):
        return [found for key, value in body.items() for found in secrets_in_body(value, named=named or is_sensitive(str(key)))]
    if isinstance(body, list | tuple):
        return [found for value in body for found in secrets_in_body(value, named=named)]
    return [str(body)] if named and isinstance(body, str | int) and not isinstance(body, bool) else []


def secrets_in_query(query: str) -> list[str]:
    """The secret values in a URL's query, as they stand there and as they read: a server may echo either."""
    pairs = [pair.partition("=") for pair in query.split("&")]
    secret = [value for name, _, value in pairs if is_sensitive(unquote_plus(name))]
    return list(dict.fromkeys(form for value in secret for form in (value, unquote_plus(value), unquote(value)) if form))
