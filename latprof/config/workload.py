"""``workload``: what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from latprof.config.values import DurationNs, PositiveInt, Section, ServiceTime, Share, ShareLaw, Shares, TokenCount, law

BUNDLED_TOKENIZER = Path(__file__).parent.parent / "assets" / "tokenizer.json"
"""The small byte-level BPE that ships with latprof: the stub's tokenizer, and the default for prompts of exact length."""


class Workload(Section):
    """What is asked: synthetic sessions with prompts of exact token length, or a trace replayed."""

    trace: Path | None = None
    trace_format: Annotated[
        Literal["auto", "azure", "bailian", "burstgpt", "copilot", "dag_jsonl", "mooncake", "native", "otel", "sharegpt"],
        Field(description="auto: the file says which"),
    ] = "auto"
    trace_window_ns: Annotated[DurationNs | None, Field(alias="trace_window", description="only this much of the trace's beginning")] = None
    trace_times: Annotated[bool, Field(description="false: the trace says what is asked, and the load section when")] = True
    time_scale: Annotated[float, Field(gt=0, description="10 replays ten times faster: starts, think times and tools alike")] = 1.0
    answers: Annotated[
        Literal["planned", "real"],
        Field(description="what stands for an answer in the turns that continue it: text of its length, or itself"),
    ] = "planned"
    preset: Annotated[
        Literal["chat", "code", "agent"] | None, Field(description="laws fitted to a published trace; keys given beside it come first")
    ] = None
    prompt_tokens: Annotated[TokenCount, Field(description="the message that begins a conversation")] = TokenCount(mean=256)
    cached_share: Annotated[Shares, Field(description="this much of a conversation's beginning is the same text in all sessions")] = (
        ShareLaw(mean=0.0)
    )
    output_tokens: TokenCount = TokenCount(mean=8)
    turns: Annotated[TokenCount, Field(description="messages of the user in a session")] = TokenCount(mean=1)
    reply_tokens: Annotated[TokenCount | None, Field(description="the user's later messages; as prompt_tokens when absent")] = None
    think: Annotated[ServiceTime, Field(description="from an answer to the user's next message")] = ServiceTime()
    restart_share: Annotated[Share, Field(description="of the user's later messages: begin the conversation anew, by prompt_tokens")] = 0.0
    calls: Annotated[TokenCount, Field(description="calls of the model for one message of the user; tools run between them")] = TokenCount(
        mean=1
    )
    tools: Annotated[TokenCount, Field(description="tools side by side between two calls")] = TokenCount(mean=1)
    tool_time: ServiceTime = law("1s")
    tool_tokens: Annotated[TokenCount, Field(description="what each tool adds to the conversation")] = TokenCount(mean=512)
    subagents: Annotated[Share, Field(description="of the tools: agents with a conversation of their own")] = 0.0
    subagent_calls: Annotated[TokenCount, Field(description="calls of the model by one of them")] = TokenCount(mean=3)
    subagent_forks: Annotated[Share, Field(description="of them: begin with the conversation of the agent that called them")] = 0.5
    max_context_tokens: Annotated[PositiveInt, Field(description="a conversation that would grow beyond begins anew")] = 400_000
    tokenizer: Annotated[Path | None, Field(description="a tokenizer.json; the bundled one when absent")] = None
