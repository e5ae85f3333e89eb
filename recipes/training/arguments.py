"""Every argument of the trainer, defaults included, beside the adapter: the recipe names only those it decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bonsai.recipes.training.record import FOLDER

ARGUMENTS = f"{FOLDER}/arguments.json"
OF_THIS_MACHINE = ("output_dir", "logging_dir", "run_name", "hub_token", "push_to_hub_token")


def write_arguments(arguments: Any, adapter: Path) -> Path:
    """Write ``training/arguments.json`` from Transformers' arguments, without places and tokens of this machine."""
    known = {name: value for name, value in arguments.to_dict().items() if name not in OF_THIS_MACHINE}
    path = adapter / ARGUMENTS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")
    return path
