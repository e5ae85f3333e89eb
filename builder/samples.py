"""Read texts drawn at random, blind, and keep what share of them has a fault.

A sample is drawn by a seed, spread over categories and languages as the records are. The reader gets nothing but the
text: no id, no category, no finding, no other reader's verdict. In a file that is one JSON object a line, and the
reader, often a model, fills in the last three:

    {"key": "9f2c…", "seed": 7, "size": 50, "language": "ja", "text": {…}, "verdict": "", "fault": "", "words": ""}

The verdicts become signatures (`bonsai.builder.signatures`), and the sample is kept with its exact binomial interval
in ``records/readings/DATE-SEED.json``, which the dataset card quotes.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from bonsai.builder.editing import GroupChange, change_groups, read_lines
from bonsai.builder.errors import RecordError
from bonsai.builder.files import atomic_write_text
from bonsai.builder.records import display_path
from bonsai.builder.schema import FaultKind, Language, TextGroup, TranslationGroup
from bonsai.builder.signatures import CONFIDENCE, digest_text, exact_interval, sign
from bonsai.dataset_card.facts import SampleFacts

FOLDER = "readings"
"""below the records"""


class SampledText(NamedTuple):
    """One language of a group, to be read blind."""

    group: TextGroup | TranslationGroup
    language: Language

    @property
    def key(self) -> str:
        """What a verdict names it by: the hash of the text, which gives nothing away."""
        return digest_text(self.group.texts()[self.language])


class ReaderVerdict(NamedTuple):
    """What a reader says of one text."""

    key: str
    language: str
    fault: FaultKind | None
    """`None` if the text is fine"""
    words: str = ""


class SampleResult(NamedTuple):
    """A reader's result of one sample, and where it is kept."""

    facts: SampleFacts
    path: Path
    edited: int
    """texts that were edited meanwhile: they count in the sample, and are not signed"""


def draw_sample(
    groups: Sequence[TextGroup | TranslationGroup], size: int, seed: int, languages: Collection[Language] = ()
) -> list[SampledText]:
    """Draw texts at random: each category and language by its share (largest remainders), no group twice if it can be.

    A hash of seed, id and language decides, so a group that is added later changes little else.

    Args:
        languages: draw from these only; all of them by default.
    """

    def rank(text: SampledText) -> bytes:
        return hashlib.sha256(f"{seed}/{text.group.id}/{text.language.value}".encode()).digest()

    # 1. Every text, by category and language.
    strata: dict[tuple[str, Language], list[SampledText]] = {}
    for group in groups:
        for language in group.texts():
            if not languages or language in languages:
                strata.setdefault((group.category.value, language), []).append(SampledText(group, language))
    everything = sum(map(len, strata.values()))
    size = min(size, everything)
    # 2. How many of each.
    shares = {key: size * len(members) / everything for key, members in strata.items()}
    quotas = {key: int(share) for key, share in shares.items()}
    by_remainder = sorted(shares, key=lambda key: (quotas[key] - shares[key], rank(strata[key][0])))
    for key in by_remainder[: size - sum(quotas.values())]:
        quotas[key] += 1
    # 3. Draw, groups that were not drawn in another language first; then shuffle, so that the order says nothing.
    drawn: list[SampledText] = []
    for key, members in strata.items():
        taken = {text.group.id for text in drawn}
        drawn += sorted(members, key=lambda text: (text.group.id in taken, rank(text)))[: quotas[key]]
    return sorted(drawn, key=rank)


def blind_lines(sample: Sequence[SampledText], seed: int) -> list[dict[str, Any]]:
    """Return what a reader sees of a sample, one object a text."""
    return [
        {
            "key": text.key,
            "seed": seed,
            "size": len(sample),
            "language": text.language.value,
            "text": text.group.texts()[text.language].model_dump(mode="json"),
            "verdict": "",
            "fault": "",
            "words": "",
        }
        for text in sample
    ]


def read_verdicts(path: Path) -> tuple[int, list[ReaderVerdict]]:
    """Read a file of `blind_lines` that a reader filled in; return the seed and the verdicts.

    Raises:
        RecordError: with every line that is not filled in, or filled in wrongly, and if lines are missing.
    """
    faults: list[str] = []
    entries: list[tuple[int, dict[str, Any]]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RecordError([f"{path}: cannot be read ({reason}); name the file of the sample"]) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            entries.append((number, entry))
        else:
            faults.append(f"{display_path(path)}:{number}: not a JSON object; keep one whole object a line")
    verdicts, more = check_verdicts([entry for _, entry in entries])
    faults += [f"{display_path(path)}:{entries[index][0]}: {reason}" for index, reason in more]
    head = entries[0][1] if entries else {}
    size, seed = head.get("size"), head.get("seed")
    if not isinstance(size, int) or not isinstance(seed, int):
        faults.append(
            f"{display_path(path)}: 'seed' and 'size' are not there; fill in a file of `bonsai tend --sample`"
        )
    elif len({verdict.key for verdict in verdicts}) != size and not faults:
        faults.append(
            f"{display_path(path)}: {len(verdicts)} texts of a sample of {size}; a part says nothing about the whole, "
            "so give a verdict on every text, each once"
        )
    if faults:
        raise RecordError(faults)
    return seed, verdicts  # type: ignore[return-value]  # it is an int, or there were faults


def check_verdicts(entries: Sequence[Mapping[str, Any]]) -> tuple[list[ReaderVerdict], list[tuple[int, str]]]:
    """Return the verdicts, and for each entry that holds none its index and the reason."""
    kinds = get_args(FaultKind)
    verdicts: list[ReaderVerdict] = []
    faults: list[tuple[int, str]] = []
    for index, entry in enumerate(entries):
        verdict, kind, words = entry.get("verdict"), entry.get("fault") or None, entry.get("words") or ""
        if not isinstance(entry.get("key"), str) or entry.get("language") not in tuple(Language):
            faults.append((index, "'key' and 'language' are not those of the sample; leave them as they are"))
        elif verdict not in ("fine", "fault"):
            faults.append((index, f'the verdict is {verdict!r}; write "fine" or "fault"'))
        elif verdict == "fault" and kind not in kinds:
            faults.append((index, f"the fault is {kind!r}; write one of {', '.join(kinds)}"))
        elif verdict == "fine" and kind is not None:
            faults.append((index, f"the verdict is fine, but the fault is {kind!r}; take one of them back"))
        elif not isinstance(words, str):
            faults.append((index, "'words' is no text; write what is wrong"))
        else:
            verdicts.append(ReaderVerdict(entry["key"], entry["language"], kind, words.strip()))
    return verdicts, faults


def take_verdicts(
    directory: Path,
    verdicts: Sequence[ReaderVerdict],
    *,
    seed: int,
    reader: str,
    kind: Literal["person", "model"],
    date: str | None = None,
) -> SampleResult:
    """Sign the texts of a sample in one step, and keep its result beside the records.

    Args:
        date: ``YYYY-MM-DD``; by default today.

    Raises:
        EditConflictError: a group is being changed at this moment; nothing was signed or kept.
    """
    date = date or datetime.date.today().isoformat()
    # 1. Find the texts by their hashes, and sign those that are still what was read.
    lines = read_lines(directory)
    places = {
        (language.value, digest_text(line.record[language])): name
        for name, line in lines.items()
        for language in Language
        if isinstance(line.record.get(language), dict)
    }
    records: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        if name := places.get((verdict.language, verdict.key)):
            record = records.get(name, lines[name].record)
            records[name] = sign(
                record, verdict.language, reader=reader, kind=kind, fault=verdict.fault, words=verdict.words, date=date
            )
    changes = [GroupChange(read=lines[name], record=record) for name, record in records.items()]
    change_groups(directory, changes, note=f"{reader} read a sample of {len(verdicts)}")

    # 2. Keep the sample; a second reader of the same texts goes into the same file.
    texts = [
        {"id": places.get((verdict.language, verdict.key)), "language": verdict.language, "sha256": verdict.key}
        for verdict in sorted(verdicts)
    ]
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    kept: dict[str, Any] = {
        "seed": seed,
        "size": len(verdicts),
        "languages": dict(sorted(Counter(verdict.language for verdict in verdicts).items())),
        "texts": texts,
        "readings": [],
    }
    path = folder / f"{date}-{seed}.json"
    number = 2
    while path.exists():  # another size or other languages, with the same seed on the same day
        path = folder / f"{date}-{seed}-{number}.json"
        number += 1
    for earlier in sorted(folder.glob(f"*-{seed}*.json")):
        old = _load(earlier)
        if sorted(text["sha256"] for text in old["texts"]) == [text["sha256"] for text in texts]:
            kept, path = old, earlier
    found = [
        text | {"fault": v.fault, "words": v.words} for text, v in zip(texts, sorted(verdicts), strict=True) if v.fault
    ]
    low, high = exact_interval(len(found), len(verdicts))
    reading = {
        "reader": reader,
        "kind": kind,
        "date": date,
        "faults": len(found),
        "rate": round(len(found) / len(verdicts), 4),
        "interval": [round(low, 4), round(high, 4)],
        "confidence": CONFIDENCE,
        "found": [{name: value for name, value in fault.items() if name != "sha256"} for fault in found],
    }
    kept["readings"] = [old for old in kept["readings"] if old["reader"] != reader] + [reading]
    atomic_write_text(path, json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
    facts = SampleFacts(
        seed=seed, size=len(verdicts), reader=reader, kind=kind, date=date, faults=len(found), low=low, high=high
    )
    return SampleResult(facts, path, sum((verdict.language, verdict.key) not in places for verdict in verdicts))


def read_samples(directory: Path) -> list[SampleFacts]:
    """Read the results of the samples that are kept beside the records, oldest first.

    Raises:
        RecordError: with every file that is not one of `take_verdicts`.
    """
    faults: list[str] = []
    found: list[SampleFacts] = []
    for path in sorted((directory / FOLDER).glob("*.json")):
        try:
            sample = _load(path)
            for reading in sample["readings"]:
                low, high = reading["interval"]
                same = {name: reading[name] for name in ("reader", "kind", "date", "faults")}
                found.append(SampleFacts(seed=sample["seed"], size=sample["size"], low=low, high=high, **same))
        except (ValueError, KeyError, TypeError):
            faults.append(f"{display_path(path)}: this is no sample that `bonsai tend` wrote; restore or remove it")
    if faults:
        raise RecordError(faults)
    return sorted(found, key=lambda one: (one.date, one.seed, one.reader))


def _load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
