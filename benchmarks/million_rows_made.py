"""Rows for `million_rows.py`: plausible Japanese, English and Chinese, with planted exact and near duplicates.

Phrases cut out of the project's own records are put together anew, so characters and shingles are as frequent as in
real text, while two rows are alike only where one was planted as an edit of the other.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import LANGUAGES

SHARES = {"ja": 0.45, "en": 0.45, "zh": 0.10}
EXACT_SHARE = 0.05
NEAR_SHARE = 0.10
_SHARED_INSTRUCTIONS = 200
_SHARED_SHARE = 0.3
"""Of the originals, with one of the instructions that many rows share, as in real sets."""
_OUTPUT_PHRASES = {"ja": (6, 40), "en": (6, 34), "zh": (8, 50)}
_PHRASE = {
    # kana end a Japanese phrase, one to three words make an English one, two to five characters a Chinese one
    "ja": re.compile(r"[^\s、。「」ぁ-ん]+[ぁ-ん]*|[ぁ-ん]{2,6}"),
    "en": re.compile(r"[A-Za-z][\w'-]*(?: [a-z][\w'-]*){0,2}"),
    "zh": re.compile(r"[\u4e00-\u9fff]{2,5}"),
}
_STOPS = {"ja": ("、", "。"), "en": (", ", ". "), "zh": ("，", "。")}
_JOIN = {"ja": "", "en": " ", "zh": ""}
_FILLER = {
    "ja": ("教えてください。", "よろしくお願いします。", "なるほど、"),
    "en": ("Please answer. ", "Thank you in advance. ", "As far as is known, "),
    "zh": ("请回答。", "谢谢。", "总的来说，"),
}


class Truth(NamedTuple):
    """What is known of a row: rows of one ``cluster`` are copies; ``kind`` is original, exact or the edits."""

    cluster: int
    kind: str
    language: str


Edit = Callable[[random.Random, str, str, list[str]], str]


def make_rows(path: Path, count: int, seed: int = 0) -> list[Truth]:
    """Write ``count`` rows to ``path`` and return the truth about each, in their order."""
    chance = random.Random(seed)
    phrases = _phrases()
    asked = {
        language: [_text(chance, language, known, chance.randint(4, 7)) for _ in range(_SHARED_INSTRUCTIONS)]
        for language, known in phrases.items()
    }
    truths: list[Truth] = []
    pool: list[tuple[int, str, dict[str, str]]] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            draw = chance.random()
            if pool and draw < EXACT_SHARE + NEAR_SHARE:
                # An original breeds one kind of copy and leaves the pool, so that clusters stay pure.
                place = chance.randrange(len(pool))
                cluster, language, texts = pool[place]
                pool[place] = pool[-1]
                pool.pop()
                kind = "exact"
                if draw >= EXACT_SHARE:
                    kinds = chance.sample(sorted(EDITS), chance.choice((1, 1, 1, 2, 2, 3)))
                    kind = ", ".join(kinds)
                    for edit in kinds:
                        field = chance.choice(("instruction", "output", "output"))
                        texts = texts | {field: EDITS[edit](chance, texts[field], language, phrases[language])}
            else:
                cluster, kind = number, "original"
                language = chance.choices(list(SHARES), list(SHARES.values()))[0]
                texts = _row(chance, language, phrases[language])
                if chance.random() < _SHARED_SHARE:
                    texts["instruction"] = chance.choice(asked[language])
                pool.append((cluster, language, texts))
            truths.append(Truth(cluster, kind, language))
            file.write(json.dumps({"id": f"row-{number}", **texts}, ensure_ascii=False) + "\n")
    return truths


def _phrases() -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {language: {} for language in LANGUAGES}
    for located in read_groups(default_records_dir()):
        for language, text in located.group.texts().items():
            for value in text.model_dump().values():
                found[language].update(dict.fromkeys(_PHRASE[language].findall(value)))
    return {language: list(phrases) for language, phrases in found.items()}


def _row(chance: random.Random, language: str, phrases: list[str]) -> dict[str, str]:
    few, many = _OUTPUT_PHRASES[language]
    return {
        "instruction": _text(chance, language, phrases, chance.randint(5, 9)),
        "input": _text(chance, language, phrases, chance.randint(4, 12)) if chance.random() < 0.3 else "",
        "output": _text(chance, language, phrases, chance.randint(few, many)),
    }


def _text(chance: random.Random, language: str, phrases: list[str], count: int) -> str:
    comma, stop = _STOPS[language]
    join = _JOIN[language]
    chosen = chance.choices(phrases, k=count)
    clauses = [join.join(chosen[i : i + 4]) for i in range(0, count, 4)]
    return comma.join(clauses) + stop.strip()


def _halves(chance: random.Random, text: str) -> int:
    return chance.randrange(len(text) // 4, max(3 * len(text) // 4, len(text) // 4 + 1))


def _other_phrase(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    place = _halves(chance, text)
    return text[:place] + chance.choice(phrases) + text[place + 5 :]


def _inserted(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    place = _halves(chance, text)
    return text[:place] + _JOIN[language] + chance.choice(phrases) + _JOIN[language] + text[place:]


def _deleted(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    place = _halves(chance, text)
    return text[:place] + text[place + chance.randint(2, 8) :]


def _filler(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    filler = chance.choice(_FILLER[language])
    return filler + text if chance.random() < 0.5 else f"{text}{_JOIN[language]}{filler.strip()}"


def _typos(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    for _ in range(max(1, len(text) // 80)):
        place = chance.randrange(len(text) - 1)
        text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text


def _punctuation(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    comma, stop = _STOPS[language]
    return text.replace(comma, {"ja": "，", "en": "; ", "zh": "、"}[language]).replace(stop.strip(), "!")


def _width(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F) if chance.random() < 0.3}
    return text.translate(wide) + chance.choice(phrases)


def _exchanged(chance: random.Random, text: str, language: str, phrases: list[str]) -> str:
    comma = _STOPS[language][0]
    clauses = text.split(comma)
    place = chance.randrange(len(clauses))
    return comma.join([*clauses[place:], *clauses[:place]])


EDITS: dict[str, Edit] = {
    "another phrase": _other_phrase,
    "phrase put in": _inserted,
    "characters left out": _deleted,
    "filler": _filler,
    "typing slips": _typos,
    "punctuation": _punctuation,
    "full width": _width,
    "clauses turned round": _exchanged,
}
