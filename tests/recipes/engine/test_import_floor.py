"""What importing the engine needs: torch, bitsandbytes, peft and trl, and nothing of the dataset's side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import importlib, importlib.abc, pkgutil, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pydantic":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{name}.{module.name}")
ours = sorted(name for name in sys.modules if name.startswith("bonsai.") and hasattr(sys.modules[name], "__file__"))
print(*[name for name in ours if not (sys.modules[name].__file__ or "").endswith("__init__.py")])
"""


def imported_by(package: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, package],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def test_the_engine_needs_neither_pydantic_nor_the_builder() -> None:
    done = imported_by("bonsai.recipes.training.engine")
    assert done.returncode == 0, done.stderr
    outside = [name for name in done.stdout.split() if not name.startswith("bonsai.recipes.training.engine.")]
    assert outside == ["bonsai.builder.errors"]
    assert "bonsai.recipes.training.engine.trainer" in done.stdout


def test_the_blocker_stops_what_does_need_pydantic() -> None:
    done = imported_by("bonsai.builder")
    assert done.returncode != 0
    assert "No module named 'pydantic" in done.stderr
