"""One file per API: how to ask, and how to read what it streams."""

from __future__ import annotations

from typing import Final

from latprof.client.dialects.dialect import Dialect
from latprof.client.dialects.openai_chat import OPENAI_CHAT

DIALECTS: Final[dict[str, Dialect]] = {"openai-chat": OPENAI_CHAT}
