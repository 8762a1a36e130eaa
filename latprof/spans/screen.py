"""What a span may not bring into the run folder: credentials, and whole prompts.

An attribute whose key is a credential's is dropped; whatever has a credential's shape inside a text is blotted out; a long text is cut, and
says so (gateways put whole prompts and answers into attributes: 1.6 MB for 400 000 tokens).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from latprof.client.redact import REDACTED, Redactor, is_sensitive
from latprof.spans.span import Scalar, Span

LONGEST_TEXT = 2048
"""Characters of an attribute that are kept."""

# `token` alone is a credential, `prompt_tokens` and `time_to_first_token` are not: hence narrower than the rule for header names.
_CREDENTIAL = re.compile(
    r"authori[sz]ation|cookie|api_?key|passw|secret|credential|private_?key|signature|jwt"
    r"|(?:access|refresh|auth|bearer|session|csrf|xsrf|security)_?token(?!s)|(?:^|[._])id_?token"
    r"|(?:^|\.)(?:token|bearer|auth|pwd)$",
)
_HEADER = re.compile(r"(?:^|\.)(?:headers?|metadata)\.(?P<name>[^.]+)$")
# The same inside JSON or Python written as text, quotes escaped or not: "api_key": "...", ('x-api-key', '...'). The quote that ends the value is
# the one that began it, and not escaped once more.
_QUOTED_PAIR = re.compile(
    r"""(?ix)(?<!\\)(?P<key>\\*["']
    (?:[\w.\-]*(?:authori[sz]ation|cookie|api[_-]?key|passw|secret|credential|private[_-]?key|jwt)[\w.\-]*
    |(?:\w+[_-])?(?:access|refresh|auth|bearer|session|security)[_-]?token|token|bearer)
    \\*["']\s*[:,=]\s*b?)
    (?P<quote>\\*["']).*?(?:(?<!\\)(?P=quote)|$)"""
)
# Queries carry keys, command lines and environments carry them as arguments.
_DROPPED = frozenset({"url.query", "process.command_args", "process.command_line", "process.command"})
_URL_KEYS = frozenset({"url.full", "http.url", "http.target", "url.original"})
_redact_shapes = Redactor()


def screened(span: Span) -> Span:
    """``span`` without credentials and with its long texts cut."""
    return replace(
        span,
        name=screened_text(span.name),
        attributes=_screened(span.attributes),
        events=tuple(replace(event, attributes=_screened(event.attributes)) for event in span.events),
        resource=_screened(span.resource),
    )


def holds_credential(key: str) -> bool:
    """Whether an attribute of this key holds a credential: by its own name, or by the name of the header it quotes."""
    plain = key.lower().replace("-", "_")
    header = _HEADER.search(key)
    quoted = header is not None and "header" in plain and is_sensitive(header["name"])
    return quoted or key in _DROPPED or key.startswith("process.environment_variable.") or _CREDENTIAL.search(plain) is not None


def screened_text(text: str) -> str:
    """``text`` with credentials blotted out, cut to `LONGEST_TEXT` characters."""
    if len(text) <= LONGEST_TEXT:
        return _blotted(text)
    # Twice the length, so that a credential across the cut is seen whole.
    return f"{_blotted(text[: 2 * LONGEST_TEXT])[:LONGEST_TEXT]}… [cut: {len(text)} characters]"


def _screened(attributes: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key: _screened_value(key, value) for key, value in attributes.items() if not _drops(key)}


def _screened_value(key: str, value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    if key in _URL_KEYS:
        value = value.partition("?")[0]
    return screened_text(value)


_drops = lru_cache(maxsize=4096)(holds_credential)


# Attributes repeat from span to span; a hit costs 60 ns, the patterns some µs.
@lru_cache(maxsize=4096)
def _blotted(text: str) -> str:
    if '"' in text or "'" in text:
        text = _QUOTED_PAIR.sub(rf"\g<key>\g<quote>{REDACTED}\g<quote>", text)
    return _redact_shapes(text)
