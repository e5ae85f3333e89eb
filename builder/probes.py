"""The fixed set of probes: asked after every step of training, never trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bonsai.builder.reader import shown
from bonsai.builder.schema import Filled, Language, RecordError

ProbeKind = Literal[
    "highest_mountain",
    "capital",
    "katakana_capital",
    "chinese",
    "ja2en",
    "en2ja",
    "multi_step",
    "qtq_opening",
    "radioactivity",
    "repetition",
    "reasoning",
]


class Probe(BaseModel):
    """One question, a good answer to it, and what a string match may accept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Filled
    kind: ProbeKind
    language: Language
    """of the question"""
    answer_language: Language
    instruction: Filled
    input: str
    reference: Filled
    accepted: tuple[Filled, ...]
    """short variants, any of which makes the answer right; empty where there is no "the answer" """
    post: str
    """date of the post whose text mentions the probe; empty for those added since"""
    note: str

    @property
    def question(self) -> str:
        """All that is asked: the instruction and the input."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


def default_probes() -> Path:
    """The probes that came with this installation."""
    return Path(__file__).parent / "probes.jsonl"


def read_probes(path: Path) -> list[Probe]:
    """Read the probes.

    Raises:
        RecordError: with every fault of the file.
    """
    faults: list[str] = []
    probes: list[Probe] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            probes.append(Probe.model_validate_json(line))
        except ValidationError as error:
            faults.extend(
                f"{shown(path)}:{number}: '{'.'.join(map(str, detail['loc'])) or 'line'}': {detail['msg']}"
                for detail in error.errors(include_url=False)
            )
    ids = [probe.id for probe in probes]
    faults.extend(f"{shown(path)}: {name} is there twice; give one the next free number" for name in _twice(ids))
    if faults:
        raise RecordError(faults)
    return probes


def _twice(ids: list[str]) -> list[str]:
    return sorted({name for name in ids if ids.count(name) > 1})
