"""``latprof budget``: a first budget from a run, what a run spends of one, and what changed between two."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latprof.analysis.verdicts.replications import FEW, Replication, Selector, estimate, layer_names
from latprof.analysis.verdicts.spending import Spending, spend
from latprof.errors import ConfigError, Exit, UsageError
from latprof.gates.arms import runs_at
from latprof.gates.budget import load_budget, read_budget
from latprof.opening import replication_of
from latprof.report.inert import plain
from latprof.units import ms

# Layers below this share of the metric are left together: promises of a tenth of a millisecond only break by noise.
_WORTH_A_PROMISE = 0.02


def init_and_print(paths: Sequence[Path], *, to: Path | None, headroom: float) -> Exit:
    """``latprof budget init``: what was seen and ``headroom`` above it, to be edited by those who promise it."""
    import yaml

    text = first_budget(_replications(paths), headroom)
    read_budget(yaml.safe_load(text))  # what we write we can read
    if to is None:
        sys.stdout.write(text)
        return Exit.DONE
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"--to {to}: is there already, and a budget is never overwritten; name another file") from None
    except OSError as error:
        raise UsageError(f"--to {to}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    sys.stdout.write(f"{to}: a first budget, {100 * headroom:g} % above what was seen. Edit it, then: latprof gate RUN... --budget {to}\n")
    return Exit.DONE


def show_and_print(paths: Sequence[Path], budget_file: Path, json_file: Path | None) -> Exit:
    """``latprof budget show``: promised, spent and left per layer; as JSON made to be kept and compared."""
    budget = load_budget(budget_file)
    if budget.latency is None:
        raise UsageError(f"{budget_file} has no latency_budget; latprof budget init RUN writes one")
    promised = budget.latency
    found = spend(_replications(paths), promised.metric, promised.p, promised.total_ns, promised.layers_ns)
    if json_file is None:
        sys.stdout.write("\n".join(_shown(found)) + "\n")
        return Exit.DONE
    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False) + "\n"
    if str(json_file) == "-":
        sys.stdout.write(text)
        return Exit.DONE
    try:
        json_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {json_file}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    return Exit.DONE


def diff_and_print(before: Path, after: Path) -> Exit:
    """``latprof budget diff``: two files of ``budget show --json`` or ``gate --json``, layer by layer."""
    sys.stdout.write("\n".join(_difference(_kept(before), _kept(after))) + "\n")
    return Exit.DONE


def _replications(paths: Sequence[Path]) -> list[Replication]:
    found = [replication_of(folder) for path in paths for folder in runs_at(path)]
    if not any(len(one.values_ns["ttft"]) for one in found):
        raise UsageError("not one request of these runs succeeded, so there is nothing to go by; name a run that worked")
    return found


# --- the first budget ---------------------------------------------------------------------------------------------------------------------


def first_budget(replications: Sequence[Replication], headroom: float) -> str:
    """A budget file: limits at p50 and, from three replications on, p95; and promises to the layers worth one."""
    p = 0.95 if len(replications) >= FEW else 0.5
    lines = [f"# What was seen in {_runs(len(replications))}, and {100 * headroom:g} % more. Make it what you promise.", "budgets:"]
    for metric in ("ttft", "e2el"):
        for at in sorted({0.5, p}):
            seen_ns = estimate(replications, Selector(metric), at).value
            if math.isfinite(seen_ns):
                lines.append(f"  - {{metric: {metric}, at: p{100 * at:g}, max: {_above(seen_ns, headroom)}}}  # seen: {ms(seen_ns):.2f} ms")
    lines.append("  - {metric: errors, max: 1%}")
    promises = {layer: seen_ns for layer, seen_ns in _seen(replications, p).items() if math.isfinite(seen_ns)}
    total_ns = estimate(replications, Selector("ttft"), p).value
    promised = {layer: _above(seen_ns, headroom) for layer, seen_ns in promises.items() if seen_ns >= _WORTH_A_PROMISE * total_ns}
    whole = max(
        _rounded_up(ms(total_ns) * (1 + headroom)), math.fsum(_rounded_up(ms(promises[layer]) * (1 + headroom)) for layer in promised)
    )
    lines += [
        "latency_budget:",
        "  metric: ttft",
        f"  at: p{100 * p:g}",
        f"  total: {whole:.6g}ms  # seen: {ms(total_ns):.2f} ms",
        "  layers:",
    ]
    lines += [f"    {layer}: {text}  # seen: {ms(promises[layer]):.2f} ms" for layer, text in promised.items()]
    return "\n".join(lines if promised else lines[:-1]) + "\n"


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs"


def _seen(replications: Sequence[Replication], p: float) -> dict[str, float]:
    """What each layer, or each prefix of layers, contributes to TTFT, of all requests together."""
    names = dict.fromkeys(name if "+" in name else name.split(".", 1)[0] for name in layer_names(replications))
    return {name: estimate(replications, Selector("ttft", name), p).together for name in names if "@" not in name}


def _above(seen_ns: float, headroom: float) -> str:
    return f"{_rounded_up(ms(seen_ns) * (1 + headroom)):.6g}ms"


def _rounded_up(value: float) -> float:
    """To two digits, upwards: a promise is a round number."""
    if value <= 0:
        return 0.1
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step - 1e-9) * step


# --- show and diff ------------------------------------------------------------------------------------------------------------------------


def _shown(found: Spending) -> Iterator[str]:
    width = max(len(row.layer) for row in (*found.rows, found.total))
    yield f"{found.metric} at {found.at}, in ms"
    yield f"{'layer':<{width}}  {'promised':>9}  {'spent':>9}  {'left':>9}"
    for row in (*found.rows, found.total):
        yield f"{row.layer:<{width}}  {ms(row.promised_ns):>9.2f}  {_ms(ms(row.spent_ns))}  {_ms(ms(row.left_ns))}{'  OVER' if row.left_ns < 0 else ''}"
    if found.note:
        yield found.note


def _ms(value: float | None) -> str:
    return f"{'-':>9}" if value is None or math.isnan(value) else f"{value:>9.2f}"


def _kept(path: Path) -> Mapping[str, Any]:
    wanted = f"{path}: wanted the file that latprof budget show --json or latprof gate --json writes"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        kept = told.get("latency_budget", told)
        rows = {**kept["layers"], "total": kept["total"]}
        return {"of": f"{kept['metric']} at {kept['at']}", "rows": {str(layer): _row(row) for layer, row in rows.items()}}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {wanted}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{wanted}; this is none, or one without a latency budget") from None


def _row(told: Mapping[str, Any]) -> dict[str, float | None]:
    row = {key: told.get(key) for key in ("promised_ms", "spent_ms", "left_ms")}
    if any(isinstance(value, bool) or not isinstance(value, int | float | None) for value in row.values()):
        raise TypeError
    return row


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before["of"] != after["of"]:
        raise UsageError(f"these are budgets of different things: {plain(before['of'])} and {plain(after['of'])}")
    layers = list(dict.fromkeys([*before["rows"], *after["rows"]]))
    layers.sort(key=lambda layer: layer == "total")
    width = max(map(len, layers))
    yield f"{plain(after['of'])}, in ms"
    yield f"{'layer':<{width}}  {'promised':>9} -> {'':>9}  {'spent':>9} -> {'':>9}  {'change':>9}"
    for layer in layers:
        old, new = before["rows"].get(layer, {}), after["rows"].get(layer, {})
        spent = (old.get("spent_ms"), new.get("spent_ms"))
        change = f"{'-':>9}" if None in spent else f"{spent[1] - spent[0]:>+9.2f}"
        is_over = (new.get("left_ms") or 0) < 0
        yield (
            f"{plain(layer):<{width}}  {_ms(old.get('promised_ms'))} -> {_ms(new.get('promised_ms'))}  {_ms(spent[0])} -> {_ms(spent[1])}  {change}"
            f"{'  OVER' if is_over else ''}"
        )
