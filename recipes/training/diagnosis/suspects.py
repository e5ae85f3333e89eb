"""The records with the most loss left: where they lie, and what a check has said of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonsai.builder.reader import read_groups
from bonsai.builder.schema import RecordError
from bonsai.recipes.training.diagnosis.record_losses import RecordLoss
from bonsai.recipes.training.record import FOLDER

TABLE = "records_by_loss.csv"
TOP_SHARE = 0.05
"""the share of the records that is worth a person's eye"""
FEWEST = 5


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One record and the loss it keeps."""

    id: str
    loss: float
    """in nats a completion token"""
    tokens: int
    place: str
    """``path:line`` as a person types it; empty where the group is not among the records that lie here"""
    reasons: tuple[str, ...]
    """what the checks doubt in it, the name of the check first; empty where they doubt nothing"""

    @property
    def published_place(self) -> str:
        """``file:line`` without the folder: where the records lie on this machine is nobody else's business."""
        return Path(self.place).name


def group_and_languages(row_id: str) -> tuple[str, list[str]]:
    """``open_qa-0042-ja`` -> its group and ja; ``translation-0001-ja2en`` -> its group and both languages."""
    group, _, languages = row_id.rpartition("-")
    return group, languages.split("2")


def places_of(records: Path) -> dict[str, str]:
    """``path:line`` by group; nothing if the records can't be read just now."""
    try:
        return {located.group.id: located.place for located in read_groups(records)}
    except RecordError:
        return {}


def findings_of(dataset: Path) -> list[dict[str, Any]]:
    """What the checks found when this dataset was built, notes left out; nothing if it was built without them."""
    report = dataset / "report.json"
    if not report.is_file():
        return []
    findings = json.loads(report.read_text(encoding="utf-8"))["findings"]
    return [finding for finding in findings if finding["severity"] != "note"]


def suspects(
    losses: Sequence[RecordLoss], places: Mapping[str, str], findings: Sequence[Mapping[str, Any]]
) -> list[Suspect]:
    """All measured records, the one with the most loss left first."""
    by_group: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        by_group.setdefault(finding["group_id"], []).append(finding)
    found = []
    for one in sorted(losses, key=lambda loss: (-loss.loss, loss.id)):
        group, languages = group_and_languages(one.id)
        reasons = tuple(
            f"{finding['check']}: {finding['what']}"
            for finding in by_group.get(group, ())
            if not finding["field"] or finding["field"].split(".")[0] in languages
        )
        found.append(Suspect(id=one.id, loss=one.loss, tokens=one.tokens, place=places.get(group, ""), reasons=reasons))
    return found


def top(ranked: Sequence[Suspect]) -> list[Suspect]:
    """The top 5%, five at least."""
    return list(ranked[: max(FEWEST, round(TOP_SHARE * len(ranked)))])


def write_table(ranked: Sequence[Suspect], adapter: Path) -> Path:
    """Write ``training/records_by_loss.csv``; it is published with the adapter."""
    path = adapter / FOLDER / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["record", "loss", "completion_tokens", "place", "checks"])
        for one in ranked:
            writer.writerow([one.id, f"{one.loss:.4f}", one.tokens, one.published_place, " | ".join(one.reasons)])
    return path
