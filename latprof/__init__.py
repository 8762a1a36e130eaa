"""latprof: where the time to first token goes, layer by layer.

from latprof import load_config, run
outcome = run(load_config("configs/quickstart.yaml"))
print(outcome.report.budget, outcome.folder, outcome.exit_code)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latprof.config import Config as Config
    from latprof.config import load_config as load_config
    from latprof.opening import Opened as Opened
    from latprof.opening import open_run as open_run
    from latprof.opening import report_of as report_of
    from latprof.pipeline import Outcome as Outcome
    from latprof.pipeline import run as run
    from latprof.pipeline import run_async as run_async

_HOMES = {
    "Config": "latprof.config",
    "load_config": "latprof.config",
    "Opened": "latprof.opening",
    "Outcome": "latprof.pipeline",
    "open_run": "latprof.opening",
    "report_of": "latprof.opening",
    "run": "latprof.pipeline",
    "run_async": "latprof.pipeline",
}

__all__ = ["Config", "Opened", "Outcome", "__version__", "load_config", "open_run", "report_of", "run", "run_async"]


def __getattr__(name: str) -> Any:
    """Names are looked up when they are asked for: ``import latprof`` alone costs a millisecond."""
    if name == "__version__":
        from importlib.metadata import version

        return version("latprof")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
