"""What the card tells of a diagnosis, in a file beside the loss table; read where there is neither torch nor scipy."""

from __future__ import annotations

import json
from pathlib import Path

from bonsai.model_card.facts import DiagnosisFacts
from bonsai.recipes.training.record import FOLDER

NAME = "diagnosis.json"


def write_facts(facts: DiagnosisFacts, adapter: Path) -> Path:
    """Write ``training/diagnosis.json``."""
    path = adapter / FOLDER / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def read_facts(adapter: Path) -> DiagnosisFacts | None:
    """What `write_facts` wrote; None where the run was not diagnosed."""
    path = adapter / FOLDER / NAME
    return DiagnosisFacts.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
