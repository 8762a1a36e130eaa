"""One file per API: how to ask, and how to read what it streams."""

from __future__ import annotations

from typing import Final

from latprof.client.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from latprof.client.dialects.dialect import Dialect
from latprof.client.dialects.openai_chat import OPENAI_CHAT
from latprof.client.dialects.openai_completions import OPENAI_COMPLETIONS
from latprof.client.dialects.openai_responses import OPENAI_RESPONSES, OPENAI_RESPONSES_WS

DIALECTS: Final[dict[str, Dialect]] = {
    dialect.name: dialect for dialect in (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, OPENAI_RESPONSES_WS, ANTHROPIC_MESSAGES)
}
