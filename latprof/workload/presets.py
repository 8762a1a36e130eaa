"""Laws fitted to published traces, written as the workload section of a configuration; keys that are given beside a preset come first.

chat    Mooncake's conversations (FAST'25): prompts of 6 909 / 27 367 / 85 400 tokens at p50 / p90 / p99, answers of 350 / 597 at p50 / p90,
        and 37 % of the tokens in an infinite prefix cache
code    Azure's code completions of 2023 (Splitwise): prompts of 1 469 tokens at p50, answers of 13; one call a session, nothing shared
agent   GitHub Copilot's coding agent of 2026: 3.95 messages of the user in a session and 7.83 calls for each, 67.8 k prompt and 527 output
        tokens a call in the mean, 85.7 % of the prompt tokens cached; tool times with a heavy tail

The figures of a trace are not independent of each other: these laws reach those named here and promise no more. Cache misses of the agent that
came from eviction are planted as conversations begun anew.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "chat": {
        "prompt_tokens": {"dist": "lognormal", "mean": 10_700, "cv": 1.9, "min": 32, "max": 126_000},
        "cached_share": 0.05,
        "output_tokens": {"dist": "lognormal", "mean": 382, "cv": 0.436, "max": 2_000},
        "turns": {"dist": "geometric", "mean": 1.56, "max": 40},
        "reply_tokens": {"dist": "lognormal", "mean": 3_000, "cv": 2.2, "min": 4, "max": 60_000},
        "think": {"dist": "lognormal", "mean": "30s", "cv": 1.5},
        "max_context_tokens": 128_000,
    },
    "code": {
        "prompt_tokens": {"dist": "lognormal", "mean": 2_400, "cv": 1.3, "min": 17, "max": 7_437},
        "output_tokens": {"dist": "lognormal", "mean": 24, "cv": 1.5, "min": 6, "max": 1_900},
    },
    "agent": {
        "prompt_tokens": {"dist": "lognormal", "mean": 59_000, "cv": 0.5, "min": 8_000, "max": 300_000},
        "cached_share": 0.15,
        "output_tokens": {"dist": "lognormal", "mean": 527, "cv": 1.5, "max": 16_000},
        "turns": {"dist": "geometric", "mean": 3.95, "max": 60},
        "reply_tokens": {"dist": "lognormal", "mean": 300, "cv": 1.5, "min": 4, "max": 20_000},
        "think": {"dist": "lognormal", "mean": "60s", "cv": 2.0},
        "restart_share": 1.0,
        "calls": {"dist": "geometric", "mean": 5.9, "max": 120},
        "tools": {"dist": "geometric", "mean": 1.3, "max": 8},
        "tool_time": {"dist": "lognormal", "mean": "3s", "cv": 3.0},
        "tool_tokens": {"dist": "lognormal", "mean": 900, "cv": 2.0, "min": 8, "max": 50_000},
        "subagents": 0.1,
        "subagent_calls": {"dist": "geometric", "mean": 3.0, "max": 40},
        "subagent_forks": 0.5,
    },
}
"""Workload sections by preset name."""
