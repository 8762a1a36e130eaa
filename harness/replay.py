"""A real trace against the stub: the first ten minutes of the Azure LLM 2023 code trace, prompts and answers exact to the token.

    python -m harness.replay [--time-scale 10] [--trace ../shared/data/azure-llm-2023-code.csv]

At time scale 1 it takes ten minutes. Shown: lateness of the generator and the tokenizer's queue; asked: every row of the trace sent once at its own
time, prompt and output lengths as the trace says and as the stub counted them. The control reads the rows of the trace shifted by one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from harness import verdict
from harness.arms import Arm, arm
from harness.verdict import Figure
from latprof.analysis.metrics import lateness_ns, present
from latprof.analysis.quantiles import percentile
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.outline import Made
from latprof.workload.readers.azure import read_azure

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "azure-code.yaml"
TRACE = ROOT.parent / "shared" / "data" / "azure-llm-2023-code.csv"
WINDOW_NS = 600 * NS_PER_S
ROWS = 1482


def figures(told: Arm, trace: Path, time_scale: float, shift: int = 0) -> list[Figure]:
    """The run held against the trace, row by row; ``shift`` misreads the trace on purpose."""
    rows = read_azure(trace, WINDOW_NS)
    calls = [session.turns[0] for session in rows.sessions]
    prompt_tokens = [call.prompt.tokens for call in calls if isinstance(call.prompt, Made)]
    output_tokens = [call.output_tokens or 1 for call in calls]
    requests = told.observed.requests.select(told.observed.requests.measured)
    requests = requests.select(np.argsort(requests.session))

    def same(measured: npt.NDArray[np.int64], asked: Sequence[int]) -> float:
        wanted = np.roll(np.array(asked, np.int64), shift)
        return float((measured == wanted).mean()) if len(measured) == len(wanted) else 0.0

    offsets_ns = np.roll(np.array(rows.offsets_ns, np.float64) / time_scale, shift)
    sent_ns = requests.intended_ns - requests.intended_ns[0]
    return [
        Figure("requests sent", float(len(requests)), ROWS, ROWS, ""),
        Figure("share that succeeded", float(requests.success.mean()), low=0.99, unit=""),
        Figure("prompt tokens as the trace says, counted by the stub", same(requests.prompt_tokens, prompt_tokens), 1, 1, ""),
        Figure("output tokens as the trace says, counted by the stub", same(requests.output_tokens, output_tokens), 1, 1, ""),
        Figure("largest error of an intended start", float(np.abs(sent_ns - offsets_ns).max()) / NS_PER_MS, high=1.0),
        Figure("lateness p50", percentile(present(lateness_ns(requests)), 0.5) / NS_PER_MS),
        Figure("lateness p99", percentile(present(lateness_ns(requests)), 0.99) / NS_PER_MS),
        Figure("tokenizer: wait p50", told.contribution_ms("gateway.tokenize", 0.5, "wait")),
        Figure("tokenizer: service p50", told.contribution_ms("gateway.tokenize", 0.5, "service")),
        Figure("tokenizer: wait p99", told.contribution_ms("gateway.tokenize", 0.99, "wait")),
        Figure("TTFT p50", told.ttft_ms(0.5)),
        Figure("TTFT p99", told.ttft_ms(0.99)),
    ]


def overrides(trace: Path, time_scale: float) -> dict[str, Any]:
    """The shipped configuration on another copy of the trace, faster."""
    settings: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    settings["workload"] |= {"trace": trace, "time_scale": time_scale}
    return settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay once and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--trace", type=Path, default=TRACE)
    options = parser.parse_args(arguments)
    head = f"n {ROWS}, {options.trace.name}, first {WINDOW_NS / NS_PER_S:g} s at time scale {options.time_scale:g}"
    with arm("azure code", overrides(options.trace, options.time_scale)) as told:
        passed = verdict.show("a real trace", head, figures(told, options.trace, options.time_scale))
        passed &= verdict.control("the trace misread by one row", figures(told, options.trace, options.time_scale, shift=1))
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
