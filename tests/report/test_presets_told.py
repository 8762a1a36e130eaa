from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from made_gate import made_gate
from made_run import made_report
from rich.console import Console

from latprof.analysis.verdicts.compare import compare
from latprof.analysis.verdicts.replications import Selector
from latprof.commands.sweep import Asked, sweep_and_print
from latprof.commands.whatif import Question, answer_of
from latprof.config import load_config
from latprof.gates.arms import read_arm
from latprof.gates.baseline import save
from latprof.gates.budget import Budget, Limit
from latprof.gates.gate import gate
from latprof.opening import replication_of
from latprof.pipeline.simulated import simulate_into_folder
from latprof.report.comparison import summary as comparison_summary
from latprof.report.comparison import terminal as comparison
from latprof.report.gate import terminal as gate_terminal
from latprof.report.gate.exports import gate_json
from latprof.report.gate.markdown import escaped, markdown
from latprof.report.page.comparison import page as comparison_page
from latprof.report.page.sweep import page as sweep_page
from latprof.report.presets import footnotes, footnotes_of_arms, lines
from latprof.report.summary import summary
from latprof.report.sweep import summary as sweep_summary
from latprof.report.sweep import terminal as sweep
from latprof.report.sweep.values import Axis, Point, SweepReport, build
from latprof.report.whatif import summary as whatif_summary
from latprof.report.whatif import terminal as whatif
from latprof.sweep.runs import understood
from latprof.units import NS_PER_MS

USED = [
    {"preset": "B200", "quantity": "memory", "value": 180, "low": 180, "high": 192, "unit": "GB", "tag": "secondary"},
    {"preset": "B200", "quantity": "bandwidth", "value": 8.0, "low": 7.7, "high": 8.0, "unit": "TB/s", "tag": "read"},
    {"preset": "fast", "quantity": "decode", "value": 2059, "low": 1706, "high": 3000, "unit": "tokens/s", "tag": "secondary"},
]
TOLD = [
    "B200: memory 180 [180-192] GB, bandwidth 8 [7.7-8] TB/s (secondary, read)",
    "fast: decode 2059 [1706-3000] tokens/s (secondary)",
]
GROQ_8B, GROQ_70B = "groq-llama-3.1-8b: decode 560 [560-877] tokens/s", "groq-llama-3.3-70b: decode 280 [275-330] tokens/s"
Simulated = Callable[[str, int], Path]


def test_every_number_is_told_with_its_range() -> None:
    assert list(lines(USED)) == TOLD
    report: Any = made_report(presets=USED)
    assert summary(report)["presets"] == TOLD
    assert orjson.dumps(summary(report))


def test_a_run_without_presets_says_nothing_of_them() -> None:
    assert summary(made_report())["presets"] == []


def test_many_runs_tell_a_number_once_and_all_the_values_it_had() -> None:
    slower = [{**number, "value": 7.7} if number["quantity"] == "bandwidth" else number for number in USED]
    assert list(lines([*USED, *USED])) == TOLD
    assert next(lines([*USED, *slower])) == "B200: memory 180 [180-192] GB, bandwidth 8/7.7 [7.7-8] TB/s (secondary, read)"


def test_arms_say_whose_a_preset_is_unless_all_have_it() -> None:
    assert list(footnotes_of_arms({"A": USED, "B": USED})) == list(footnotes(USED)) == [f"Preset {line}." for line in TOLD]
    assert list(footnotes_of_arms({"A": USED[:2], "B": USED[2:]})) == [f"Preset {TOLD[0]}, in A.", f"Preset {TOLD[1]}, in B."]
    assert list(footnotes_of_arms({"A": None, "B": USED[2:]})) == [f"Preset {TOLD[1]}, in B."]


# --- every other report -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """The folder of a run of that decode rate, from that seed."""
    folder = tmp_path_factory.mktemp("presets")

    def made(decode_rate: str, seed: int) -> Path:
        out = folder / f"{decode_rate}-{seed}"
        load = {"rate_per_s": 20, "num_requests": 150, "warmup_requests": 6, "seed": seed}
        stub = {"engine": {"decode_rate": decode_rate}} if decode_rate else {}
        return out if out.exists() else simulate_into_folder(load_config(None, {"out": out, "load": load, "stub": stub}))

    return made


def _printed(write: Callable[[Any, Console], None], told: Any) -> str:
    stream = io.StringIO()
    write(told, Console(file=stream, width=120, highlight=False, markup=False, emoji=False))
    return _flat(stream.getvalue())


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_a_comparison_says_which_side_has_which(simulated: Simulated) -> None:
    told = compare(read_arm(simulated("groq-llama-3.1-8b", 1)), read_arm(simulated("groq-llama-3.3-70b", 1)))
    for text in (_printed(comparison.write, told), _flat(comparison_page(told, (), {}, ""))):
        assert text.count(f"Preset {GROQ_8B} (unchecked), in A.") == 1
        assert text.count(f"Preset {GROQ_70B} (secondary), in B.") == 1
    arms = comparison_summary.summary(told)["arms"]
    assert [arms[name]["presets"] for name in "ab"] == [[f"{GROQ_8B} (unchecked)"], [f"{GROQ_70B} (secondary)"]]


def test_of_a_baseline_nobody_knows_which_it_had(simulated: Simulated, tmp_path: Path) -> None:
    arm = read_arm(simulated("groq-llama-3.1-8b", 1))
    save(arm, tmp_path / "baseline.json")
    told = compare(read_arm(tmp_path / "baseline.json"), arm)
    assert f"Preset {GROQ_8B} (unchecked), in B." in _printed(comparison.write, told)
    assert comparison_summary.summary(told)["arms"]["a"]["presets"] is None
    assert comparison_summary.summary(compare(arm, read_arm(simulated("", 1))))["arms"]["b"]["presets"] == []


def test_a_gate_tells_them_once(simulated: Simulated) -> None:
    replications = [replication_of(simulated("groq-llama-3.1-8b", seed)) for seed in (1, 2)]
    gated = gate("two runs", replications, Budget((Limit("ttft p50 < 600ms", Selector("ttft"), 0.5, 600 * NS_PER_MS),)))
    assert _printed(gate_terminal.write, gated).count(f"Preset {GROQ_8B} (unchecked).") == 1
    assert markdown(gated).count(f"<sub>{escaped(f'Preset {GROQ_8B} (unchecked).')}</sub>") == 1
    assert gate_json(gated)["presets"] == [f"{GROQ_8B} (unchecked)"]
    assert "Preset" not in _printed(gate_terminal.write, made_gate()) + markdown(made_gate())


def test_a_what_if_tells_those_of_the_record(simulated: Simulated) -> None:
    answer = answer_of(simulated("groq-llama-3.1-8b", 1), Question(layer=("gateway.safety=-50%",)))
    assert f"preset {GROQ_8B} (unchecked)" in _printed(whatif.write, answer)
    assert whatif_summary.summary(answer)["presets"] == [f"{GROQ_8B} (unchecked)"]


def _swept(folder: Path, presets: Mapping[float, Any]) -> SweepReport:
    run = understood(folder)
    points = [Point({"rate": rate}, (replace(run, presets=tuple(used)),)) for rate, used in presets.items()]
    return build(points, [Axis("rate", "rate", tuple(presets))], is_simulated=True)


def test_a_sweep_tells_them_once_and_not_once_a_point(simulated: Simulated) -> None:
    folder = simulated("groq-llama-3.1-8b", 1)
    own = understood(folder).presets
    told = _swept(folder, {10: own, 20: own, 40: own})
    for text in (_printed(sweep.write, told), _flat(sweep_page(told, ""))):
        assert text.count(f"Preset {GROQ_8B} (unchecked).") == 1
    assert sweep_summary.summary(told)["presets"] == [f"{GROQ_8B} (unchecked)"]
    assert sweep_summary.summary(_swept(folder, {10: (), 20: ()}))["presets"] == []


def test_a_search_tells_them_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load, stub = {"num_requests": 30, "warmup_requests": 0}, {"engine": {"decode_rate": "groq-llama-3.1-8b"}}
    config = load_config(None, {"out": tmp_path / "found", "load": load, "stub": stub})
    told = tmp_path / "told.json"
    sweep_and_print(config, Asked(rate="5:10", find_goodput=0.5, simulate=True), json_file=told, quiet=True)
    assert capsys.readouterr().out.count(f"Preset {GROQ_8B} (unchecked).") == 1
    assert orjson.loads(told.read_bytes())["presets"] == [f"{GROQ_8B} (unchecked)"]
