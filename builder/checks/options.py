"""The label a classification answers with, and its place among the options the instruction offers."""

from __future__ import annotations

import re

from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.rewording import folded

_CLAUSE = re.compile(r"[。：:;；？?！!.()（）\n]+(?!\d)")
_BETWEEN = re.compile(
    r"[、，,・/／]\s*(?:or |and )?|\s+(?:or|and)\s+|または|もしくは|あるいは|还是|或者?|和"
    r"|(?<=[^、])と(?=[^い])|(?<=[一-鿿])か(?=[一-鿿])"
)
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
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
    """The options among which ``label`` stands: quoted words, or the members of a list in one clause; else nothing."""
    wanted = folded(label)
    quoted = _QUOTED.findall(instruction)
    if len(quoted) > 1 and any(folded(words) == wanted for words in quoted):
        return [words.strip("，。、,. ") for words in quoted]
    for clause in _CLAUSE.split(instruction):
        pieces = [_ARTICLE.sub("", piece.strip()) for piece in _BETWEEN.split(clause) if piece and piece.strip()]
        if len(pieces) > 1:
            ends = _cut(pieces[0], label, at_end=True), _cut(pieces[-1], label, at_end=False)
            options = [ends[0], *pieces[1:-1], ends[1]]
            if wanted in map(folded, options):
                return options
    return []


def _cut(piece: str, label: str, *, at_end: bool) -> str:
    """The label, where the list's first member ends with it or its last begins with it: "class it as spring"."""
    if not piece.isascii():
        found = piece.endswith(label) if at_end else piece.startswith(label)
        return label if found else piece
    words, wanted = piece.casefold().split(), label.casefold().split()
    near = words[-len(wanted) :] if at_end else words[: len(wanted)]
    return label if near == wanted else " ".join(near)


def differ(ours: str, our_instruction: str, theirs: str, their_instruction: str) -> str | None:
    """The option of theirs that our label rather means; None where the two labels may well be the same.

    Options stand in one order in all languages, as a rule; where the places differ, or can't be told, sentence vectors
    have the last word: they must not contradict, or must say so themselves.
    """
    mine, others = offered(our_instruction, ours), offered(their_instruction, theirs)
    here, there = _place(ours, mine), _place(theirs, others)
    if here is None or there is None or (len(mine) == len(others) and here == there):
        return None
    rival, margin = _rival(ours, theirs, others)
    _, back = _rival(theirs, ours, mine)
    needed = -_MARGIN if len(mine) == len(others) else _MARGIN
    return rival if min(margin, back) >= needed else None


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
