"""One target under atheris: `python -m tests.fuzz.run TARGET [LIBFUZZER OPTIONS…]`; needs `pip install atheris`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["bonsai"]):  # type: ignore[attr-defined]
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)  # type: ignore[attr-defined]
    atheris.Fuzz()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
