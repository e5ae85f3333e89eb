"""Whether the answers of two parallel languages name different things: yes and no, choices, labels, names.

A name in another script proves little by itself (ウィーン is Vienna). What proves more is a rival: another name that
the record holds elsewhere and that fits the answer of the other language better. Answers were then swapped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.checks.answers import polarity
from bonsai.builder.checks.asked import Asked
from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.names import heard_in, names, same_name
from bonsai.builder.checks.options import differ, labels, letters
from bonsai.builder.checks.rewording import folded
from bonsai.builder.schema import Category, Language

_WORD = re.compile(r"[ァ-ヴ][ァ-ヴー]+|[a-zà-öø-ɏ]{4,}")
"""What two languages can share to the letter: a katakana word, a word in Latin letters."""

SHORT = 90
"""Characters up to which an answer names something rather than explaining it."""
ALIKE = 0.62
"""Cosine of two answers in different languages from which they surely name the same."""
FAR = 0.35
"""Likelihood below which two names are surely not the same."""
HEARD = 0.75
"""Likeness of sound from which a name is surely heard in a Chinese answer."""
MARGIN = 0.15
"""How much likelier a rival must be."""


class Difference(NamedTuple):
    """Two answers that don't name the same, and whether that is certain."""

    what: str
    sure: bool


def may_be_name(one: Asked) -> bool:
    """Whether the answer may be a name: what `other_answer` compares by sentence vectors."""
    return one.located.group.category in (Category.OPEN_QA, Category.CLOSED_QA) and len(one.output) <= SHORT


def other_answer(ours: Asked, theirs: Asked) -> Difference | None:
    """What the two answers differ in; None where they may well be the same."""
    told = f"{ours.output.strip()[:60]!r} against {theirs.output.strip()[:60]!r}"
    yes, no = polarity(ours.output), polarity(theirs.output)
    if yes is not None and no is not None and yes != no:
        return Difference(told, sure=True)
    here, there = letters(ours.output), letters(theirs.output)
    if here and there and here.isdisjoint(there):
        return Difference(told, sure=True)
    if ours.located.group.category is Category.CLASSIFICATION:
        return _labels(ours, theirs)
    return _names(ours, theirs, told) if may_be_name(ours) and may_be_name(theirs) else None


def _labels(ours: Asked, theirs: Asked) -> Difference | None:
    here, there = labels(ours.output), labels(theirs.output)
    if len(here) != len(there):
        return None
    lines = [(item, label, other) for (item, label), (_, other) in zip(here, there, strict=True)]
    if len(lines) > 2 and _crossed([(folded(label), folded(other)) for _, label, other in lines]):
        return Difference("labels don't correspond: " + ", ".join(f"{a} {b!r}/{c!r}" for a, b, c in lines), sure=True)
    for item, label, other in lines:
        rival = differ(label, ours.instruction, other, theirs.instruction)
        if rival:
            return Difference(f"{item} {label!r} against {other!r} (rather {rival!r})".strip(), sure=True)
    return None


def _crossed(pairs: list[tuple[str, str]]) -> bool:
    """Whether one label stands for two of the other language, though labels do repeat."""
    ours, theirs = {label for label, _ in pairs}, {label for _, label in pairs}
    return len(set(pairs)) > max(len(ours), len(theirs)) or (
        len(ours) != len(theirs) and min(len(ours), len(theirs)) > 1
    )


def _names(ours: Asked, theirs: Asked, told: str) -> Difference | None:
    here, there = vectors([ours.output, theirs.output])
    shared = set(_WORD.findall(ours.output.casefold())) & set(_WORD.findall(theirs.output.casefold()))
    if float(here @ there) >= ALIKE or shared:
        return None
    rivals = [rival for rival in (_rival(ours, theirs), _rival(theirs, ours)) if rival]
    if rivals:
        return Difference(f"{told} (rather {' and '.join(map(repr, rivals))})", sure=len(rivals) > 1)
    mine, said = names(ours.output, ours.language), names(theirs.output, theirs.language)
    strangers = mine and said and not any(name in theirs.output for name in mine)
    if strangers and float(here @ there) < FAR and max(same_name(one, other) for one in mine for other in said) < FAR:
        return Difference(told, sure=False)
    return None


def _rival(ours: Asked, theirs: Asked) -> str | None:
    """A name their record holds elsewhere that fits our answer better than any in their answer."""
    mine = names(ours.output, ours.language)
    elsewhere = names(f"{theirs.question}\n{theirs.reasoning}", theirs.language)
    rivals = [name for name in elsewhere if name not in theirs.output and name not in ours.output]
    said = names(theirs.output, theirs.language) or [theirs.output]
    if not rivals or any(name in theirs.output for name in mine):
        return None
    if ours.language is Language.ZH:
        best, likely = max(((name, heard_in(name, ours.output)) for name in rivals), key=lambda found: found[1])
        known = max(heard_in(name, ours.output) for name in said)
        return best if likely >= HEARD and likely - known >= 2 * MARGIN else None
    mine = mine or [ours.output]
    best, likely = max(
        ((name, max(same_name(one, name) for one in mine)) for name in rivals), key=lambda found: found[1]
    )
    return best if likely - max(same_name(one, name) for one in mine for name in said) >= MARGIN else None
