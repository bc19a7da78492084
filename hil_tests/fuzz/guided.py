"""One target under atheris: `python -m hil_tests.fuzz.guided TARGET [options of libFuzzer] CORPUS`."""

from __future__ import annotations

import sys


def main() -> None:
    import atheris  # with the extra `fuzz`

    ports = [f"emulator.ports.{name}" for name in ("batch", "frames", "messages")]
    seen = ["emulator.link", *ports, "emulator.control", "emulator.taps"]
    with atheris.instrument_imports(include=seen):
        from hil_tests.fuzz.targets import TARGETS
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
