"""The diagnosis of a run that has just ended, written beside its adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bonsai.builder.reader import default_records
from bonsai.model_card.facts import DiagnosisFacts
from bonsai.recipes.training.diagnosis.kept import write_facts
from bonsai.recipes.training.diagnosis.record_losses import CPU_TOKENS, record_losses, worst_first
from bonsai.recipes.training.diagnosis.report import Diagnosis, card_lines, diagnose
from bonsai.recipes.training.diagnosis.suspects import findings_of, places_of, write_table
from bonsai.recipes.training.diagnosis.words import sentences
from bonsai.recipes.training.record import RunRecord


def diagnose_run(
    record: RunRecord,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, str]],
    *,
    dataset: Path,
    adapter: Path,
    on_record: Callable[[int], None] = lambda _: None,
) -> Diagnosis:
    """Measure the records, judge the run, write ``records_by_loss.csv`` and ``diagnosis.json`` into ``training/``.

    Args:
        model: base and adapter as trained, on the device they were trained on.
        rows: the training rows: id, prompt, completion.
        dataset: the build, whose report says what the checks doubt.
        adapter: the folder the adapter is saved in.
        on_record: told how many records are measured so far.
    """
    most = None if torch.cuda.is_available() else CPU_TOKENS
    losses = record_losses(model, tokenizer, worst_first(record.losses, rows), most_tokens=most, on_record=on_record)
    diagnosis = diagnose(record, losses, places_of(default_records()), findings_of(dataset))
    write_table(diagnosis.records, adapter)
    said = sentences(diagnosis)
    facts = DiagnosisFacts(
        english=tuple(one.english for one in said),
        japanese=tuple(one.japanese for one in said),
        highest=tuple(card_lines(diagnosis)),
        measured=len(losses),
    )
    write_facts(facts, adapter)
    return diagnosis


def told(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis as lines for a terminal: the sentences in both languages, then the records by ``path:line``."""
    lines = [line for said in sentences(diagnosis) for line in (said.english, said.japanese)]
    for one in diagnosis.highest:
        reasons = "; ".join(one.reasons) or "no check doubts it"
        lines.append(f"{one.place or one.id}: {one.id}: loss {one.loss:.2f}; {reasons}")
    return lines
