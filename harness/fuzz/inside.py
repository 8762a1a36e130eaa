"""The fuzzer's own process: ``python -m harness.fuzz.inside PARSER [libFuzzer's options] CORPUS``. Started by the command; ends by itself."""

from __future__ import annotations

import sys


def main() -> None:
    """Fuzz one parser until libFuzzer has had enough, which ends the process."""
    import atheris

    # Only what is imported in here is watched: which of its branches an input reaches is what the fuzzer goes by.
    with atheris.instrument_imports(include=["latprof.client", "websockets", "harness.fuzz"]):
        from harness.fuzz.parsers import CONTROLS, PARSERS
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], {**PARSERS, **CONTROLS}[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
