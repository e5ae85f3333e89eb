"""Sign that somebody has read a text, and count what the signatures are worth.

A reader, a person or a named model, reads one language of a group and finds it fine or finds a fault. The signature
lies with the group, under ``read``, and names the text by its hash: after an edit of the text it is *stale*, and counts
for nothing until the reader has read it again. A reader has one signature a language; a later one takes its place.

Example:
    >>> digest_text({"instruction": "River?", "input": "", "output": "The Shinano."})
    '7002334eb703dc89'
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import combinations
from math import lgamma, log, log1p
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from bonsai.builder.rows import Row
from bonsai.builder.schema import FaultKind, Language, Signature, TextGroup, TranslationGroup
from bonsai.dataset_card.facts import AgreementFacts, ReaderFacts, ReadingFacts

CONFIDENCE = 0.95
"""of the intervals"""


def digest_text(text: BaseModel | Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of one language of a group.

    An empty field counts like a missing one, so a field that the schema gets later makes no signature stale.
    """
    every = text.model_dump(mode="json") if isinstance(text, BaseModel) else text
    filled = {name: value for name, value in every.items() if value not in ("", None, [], ())}
    canonical = json.dumps(filled, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_stale(reading: Signature, group: TextGroup | TranslationGroup) -> bool:
    """Tell whether the text was edited since it was read."""
    return reading.sha256 != digest_text(group.texts()[reading.language])


def standing(group: TextGroup | TranslationGroup) -> Iterator[Signature]:
    """Yield the readings whose text is still the one that was read."""
    return (reading for reading in group.read if not is_stale(reading, group))


def sign(
    record: Mapping[str, Any],
    language: str,
    *,
    reader: str,
    kind: Literal["person", "model"],
    fault: FaultKind | None = None,
    words: str = "",
    date: str | None = None,
) -> dict[str, Any]:
    """Return a record with a reader's signature below one of its languages, in place of an earlier one.

    Args:
        record: a line of the records.
        fault: what the reader found; `None` if the text is fine.
        date: ``YYYY-MM-DD``; by default today.
    """
    entry: dict[str, Any] = {"language": language, "reader": reader, "kind": kind}
    entry |= {"date": date or datetime.date.today().isoformat(), "verdict": "fine" if fault is None else "fault"}
    entry |= ({} if fault is None else {"fault": fault}) | ({"words": words} if words else {})
    entry["sha256"] = digest_text(record[language])
    others = [old for old in record.get("read", ()) if (old["language"], old["reader"]) != (language, reader)]
    return {**record, "read": [*others, entry]}


def reader_columns(group: TextGroup | TranslationGroup, row: Row) -> dict[str, list[str]]:
    """Return the columns ``read_by_people`` and ``read_by_models`` of a row: who found all of its texts fine.

    The end of the row's id names the texts; a row of a translation has two.
    """
    languages = set(row["id"].rpartition("-")[2].split("2"))
    fine = [reading for reading in standing(group) if reading.verdict == "fine" and reading.language in languages]
    count = Counter((reading.kind, reading.reader) for reading in fine)
    found: dict[str, list[str]] = {"read_by_people": [], "read_by_models": []}
    for (kind, reader), texts in count.items():
        if texts == len(languages):
            found["read_by_people" if kind == "person" else "read_by_models"].append(reader)
    return found


def count_readings(groups: Iterable[TextGroup | TranslationGroup]) -> dict[str, ReadingFacts]:
    """Count by language."""
    totals: dict[Language, Counter[str]] = {language: Counter() for language in Language}
    for group in groups:
        for language in group.texts():
            valid = [reading for reading in standing(group) if reading.language is language]
            totals[language] += Counter(
                texts=1,
                by_people=any(reading.kind == "person" for reading in valid),
                by_models=any(reading.kind == "model" for reading in valid),
                faults=any(reading.verdict == "fault" for reading in valid),
                stale=sum(reading.language is language for reading in group.read) - len(valid),
            )
    return {
        language.value: ReadingFacts(**{part.name: count[part.name] for part in fields(ReadingFacts)})
        for language, count in totals.items()
        if count["texts"]
    }


def count_readers(groups: Iterable[TextGroup | TranslationGroup]) -> list[ReaderFacts]:
    """Count the texts whose signature by a reader still holds; the reader of the most texts first."""
    count = Counter((reading.reader, reading.kind) for group in groups for reading in standing(group))
    ordered = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    return [ReaderFacts(name=name, kind=kind, texts=texts) for (name, kind), texts in ordered]


def agreements(groups: Iterable[TextGroup | TranslationGroup]) -> list[AgreementFacts]:
    """Compare each two readers who read some texts in common, as the texts are now; the most texts first."""
    verdicts: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for group in groups:
        by_language: dict[Language, list[Signature]] = {}
        for reading in standing(group):
            by_language.setdefault(reading.language, []).append(reading)
        for readings in by_language.values():
            for one, other in combinations(sorted(readings, key=lambda reading: reading.reader), 2):
                pair = verdicts.setdefault((one.reader, other.reader), [])
                pair.append((one.verdict == "fault", other.verdict == "fault"))
    found = [
        AgreementFacts(
            first=first,
            second=second,
            texts=len(both),
            share=sum(one == other for one, other in both) / len(both),
            kappa=cohen_kappa(both),
        )
        for (first, second), both in verdicts.items()
    ]
    return sorted(found, key=lambda one: (-one.texts, one.first, one.second))


def cohen_kappa(verdicts: Sequence[tuple[bool, bool]]) -> float | None:
    """Return Cohen's kappa of two raters (Educational and Psychological Measurement 20, 1960): 1 agrees, 0 is chance.

    Returns:
        `None` if chance alone would always agree: each rater gave one and the same verdict throughout.
    """
    n = len(verdicts)
    ours, theirs = (sum(pair[side] for pair in verdicts) for side in (0, 1))
    by_chance = (ours * theirs + (n - ours) * (n - theirs)) / n**2
    observed = sum(one == other for one, other in verdicts) / n
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def exact_interval(found: int, of: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a proportion after Clopper and Pearson (Biometrika 26, 1934), for samples of any size.

    The same as ``scipy.stats.binomtest(found, of).proportion_ci(confidence, "exact")``, without scipy.
    """
    tail = (1 - confidence) / 2

    def solve(count: int, wanted: float) -> float:
        """Find the probability at which ``count`` or more are found with the ``wanted`` one, by halving."""
        k = np.arange(count, of + 1)
        # in logarithms: the binomial coefficients of a thousand texts are larger than any float
        ways = np.array([lgamma(of + 1) - lgamma(n + 1) - lgamma(of - n + 1) for n in range(count, of + 1)])
        low, high = 0.0, 1.0
        for _ in range(60):  # to the last digit of a float
            middle = (low + high) / 2
            reached = np.exp(ways + k * log(middle) + (of - k) * log1p(-middle)).sum()
            low, high = (middle, high) if reached < wanted else (low, middle)
        return low

    return (0.0 if found == 0 else solve(found, tail)), (1.0 if found == of else solve(found + 1, 1 - tail))
