"""The label a classification answers with, and its place among the options the instruction offers."""

from __future__ import annotations

import re

from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.rewording import folded

_SEPARATOR = re.compile(
    r"[「」『』“”\"、，,・/／:：;；。.？?！!()（）\n]+|\b(?:or|and|as|into|either|is|from|between)\b|または|もしくは|あるいは|还是|或者?|和|归入|分为|分成|标为"
    r"|(?<=[^、])と(?=[^い])|(?<=.)か(?=[、。])|から|のどれ|のいずれ|のどちら|に分|で答|之一|中选"
)
_QUOTED = re.compile(r"[「『“\"]([^」』”\"]{1,30})[」』”\"]")
_LETTER = re.compile(r"(?<![A-Za-z])([A-H])(?![A-Za-z'])|(?<![ァ-ヴー])([アイウエオ])(?![ァ-ヴー])|([①-⑧])")
_KANA_ORDER = "アイウエオ"
_MARGIN = 0.15


def letters(answer: str) -> frozenset[int]:
    """The lettered choices an answer names, counted from 0: A, ア and ① are 0."""
    places = set()
    for latin, kana, circled in _LETTER.findall(answer):
        places.add(ord(latin) - ord("A") if latin else _KANA_ORDER.index(kana) if kana else ord(circled) - ord("①"))
    return frozenset(places)


def labels(answer: str) -> list[tuple[str, str]]:
    """``item: label`` of each line, or one pair with an empty item."""
    pairs = []
    for line in answer.strip().splitlines():
        item, colon, label = re.sub(r"[。.]$", "", line.strip()).replace("：", ":").partition(":")
        pairs.append((item.strip(), label.strip()) if colon else ("", item.strip()))
    return pairs


def offered(instruction: str, label: str) -> list[str]:
    """The options among which ``label`` stands: the quoted words, or else short pieces between separators."""
    quoted = [words.strip("，。、,. ") for words in _QUOTED.findall(instruction)]
    if len(quoted) > 1 and any(folded(words) == folded(label) for words in quoted):
        return quoted
    pieces = [piece.strip() for piece in _SEPARATOR.split(instruction) if piece]
    short = [piece for piece in pieces if piece and len(piece) <= (40 if piece.isascii() else 12)]
    return [piece.rsplit(" ", 1)[-1] if piece.count(" ") > 1 else piece for piece in short]


def differ(ours: str, our_instruction: str, theirs: str, their_instruction: str) -> str | None:
    """The option of theirs that our label rather means; None where the two labels may well be the same.

    Two readings must agree: ours fits another of their options better, and theirs another of ours.
    """
    mine, others = offered(our_instruction, ours), offered(their_instruction, theirs)
    here, there = _place(ours, mine), _place(theirs, others)
    if here is None or there is None or len(mine) - here == len(others) - there:
        return None
    rival, margin = _rival(ours, theirs, others)
    _, back = _rival(theirs, ours, mine)
    return rival if min(margin, back) >= _MARGIN else None


def _place(label: str, options: list[str]) -> int | None:
    wanted = folded(label)
    return next((place for place, option in enumerate(options) if folded(option) == wanted), None)


def _rival(label: str, answer: str, options: list[str]) -> tuple[str, float]:
    rivals = [option for option in options if folded(option) != folded(answer)]
    if not rivals:
        return "", 0.0
    label_vector, answer_vector, *rows = vectors([label, answer, *rivals])
    cosines = [float(label_vector @ row) for row in rows]
    best = max(range(len(rivals)), key=cosines.__getitem__)
    return rivals[best], cosines[best] - float(label_vector @ answer_vector)
