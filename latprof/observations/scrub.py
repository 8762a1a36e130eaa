"""The configuration as a run folder may hold it: everything that shapes the run, none of the secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from latprof.client.redact import REDACTED, Redactor, is_sensitive

_shapes = Redactor()


def scrub(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` (as `Config.model_dump(mode="json", by_alias=True)` gives it) without secrets; scrubbing twice changes nothing more.

    In ``target`` and ``targets``: every header value goes, its name stays; of the URL the userinfo and the values of secret query keys go; in ``extra_body``
    texts under a key that sounds like a secret go (numbers stay: ``max_tokens`` is none); any other text loses what has the shape of a key.
    """
    scrubbed = dict(config)
    if isinstance(target := config.get("target"), Mapping):
        scrubbed["target"] = _scrub_target(target)
    if isinstance(targets := config.get("targets"), list | tuple):
        scrubbed["targets"] = [_scrub_target(target) if isinstance(target, Mapping) else target for target in targets]
    return scrubbed


def _scrub_target(target: Mapping[str, Any]) -> dict[str, Any]:
    scrubbed = {key: _by_shape(value) for key, value in target.items()}
    if isinstance(headers := target.get("headers"), Mapping):
        scrubbed["headers"] = dict.fromkeys(headers, REDACTED)
    if isinstance(url := target.get("url"), str):
        scrubbed["url"] = scrub_url(url)
    if "extra_body" in target:
        scrubbed["extra_body"] = _by_key(target["extra_body"])
    return scrubbed


def scrub_url(url: str) -> str:
    """``url`` without userinfo and without the values of secret query keys; whatever else it says is kept."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL; the target's own check says so to the user
        return _shapes(url)
    user, at, host = parts.netloc.rpartition("@")
    query = "&".join(_scrub_pair(pair) for pair in parts.query.split("&"))
    return _shapes(urlunsplit(parts._replace(netloc=f"{REDACTED}@{host}" if at and user else host, query=query)))


def _scrub_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={REDACTED}" if equals and is_sensitive(unquote_plus(name)) else pair


def _by_key(value: Any, under_secret: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {key: _by_key(part, under_secret or is_sensitive(str(key))) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_by_key(part, under_secret) for part in value]
    return REDACTED if under_secret and isinstance(value, str) else _by_shape(value)


def _by_shape(value: Any) -> Any:
    return _shapes(value) if isinstance(value, str) else value
