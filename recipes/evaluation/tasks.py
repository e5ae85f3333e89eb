"""Scores of the categories that have labels, ideas, constraints or new questions instead of one answer."""

from __future__ import annotations

import re

from bonsai.builder.checks.asked import earlier_question
from bonsai.builder.checks.constraints import constraint_faults
from bonsai.builder.checks.embedding import vectors
from bonsai.builder.checks.item_lists import numbered_items
from bonsai.builder.checks.options import labels, offered
from bonsai.builder.checks.repetition import adds_nothing, normalised
from bonsai.builder.checks.rewording import folded, rewording
from bonsai.builder.checks.tautology import SAME_FROM
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.normal_form import same
from bonsai.recipes.evaluation.single_answer import accepted

SAME_IDEA = 0.85
"""cosine from which two ideas count as one; the 3,249 pairs of ideas in one list of the records stay below .72"""

ON_THEME = 0.30
"""cosine of a new question with the one before, or with all of its input, below which it has left the theme.

Of the 252 question_to_question rows in three languages 90 to 94% reach it, of pairs drawn from two chains 19 to 26%.
"""

_BULLET = re.compile(r"^\s*(?:[-*•・]|\d{1,2}\s*[.．、)）:：])\s*")
_SENTENCE_END = re.compile(r"(?<=[。！？!?])|(?<=\.)\s|\n")
_ASKS = re.compile(r"[?？]$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_LONG = "言葉 word. " * 400
"""what breaks every limit of length, and every count"""


def label_match(answer: str, reference: str, instruction: str) -> float:
    """Share of the items (mostly one) that got their label, 0 to 1.

    A sentence counts where it names the right one of the options and no other.
    """
    wanted, given = labels(reference), labels(answer)
    if len(wanted) == 1 and not wanted[0][0]:
        return float(_is_label(answer, wanted[0][1], instruction))
    by_item = {folded(item): label for item, label in given}
    return sum(_is_label(by_item.get(folded(item), ""), label, instruction) for item, label in wanted) / len(wanted)


def _is_label(answer: str, label: str, instruction: str) -> bool:
    if folded(answer) == folded(label) or same(answer, label):
        return True
    options = offered(instruction, label)
    named = [option for option in options if accepted(answer, [option])]
    return len(named) == 1 and folded(named[0]) == folded(label)


def distinct_ideas(answer: str) -> int:
    """How many different ideas an answer lists: items of a numbered or bulleted list, else its lines."""
    ideas = [idea for _, idea in numbered_items(answer)]
    ideas = ideas or [_BULLET.sub("", line) for line in answer.splitlines() if line.strip()]
    kept: list[str] = []
    rows = vectors(ideas)
    places: list[int] = []
    for place, idea in enumerate(ideas):
        key = normalised(idea)
        if key and not any(key == other or adds_nothing(key, other) for other in kept):
            if any(float(rows[place] @ rows[other]) >= SAME_IDEA for other in places):
                continue
            kept.append(key)
            places.append(place)
    return len(kept)


def keeps_constraints(answer: str, instruction: str, language: str) -> float | None:
    """1 where no constraint of the instruction is broken, else 0; None where the instruction states none that counts.

    Whether it states one is found by trying texts that must break it: none at all, one far too long, the instruction.
    """
    spoken = Language(language)
    if not any([*constraint_faults(instruction, text, spoken)] for text in ("", _LONG, instruction)):
        return None
    return float(bool(answer.strip()) and not [*constraint_faults(instruction, answer, spoken)])


def new_question(answer: str) -> str:
    """The first question in an answer; empty if it asks nothing."""
    sentences = (_BULLET.sub("", piece).strip() for piece in _SENTENCE_END.split(answer))
    return next((sentence for sentence in sentences if _ASKS.search(sentence)), "")


def is_tautology(answer: str, input_text: str) -> float | None:
    """1 where the new question asks again what the input asked, 0 where not, None where nothing is asked."""
    new, old = new_question(answer), earlier_question(input_text)
    if not new:
        return None
    first, second = vectors([old, new])
    return float(rewording(old, new, float(first @ second)) >= SAME_FROM)


def deepens(answer: str, input_text: str) -> float:
    """1 where there is a new question that stays on the theme and is no tautology, else 0."""
    new = new_question(answer)
    if not new or is_tautology(answer, input_text):
        return 0.0
    asked, read, row = vectors([earlier_question(input_text), input_text, new])
    return float(max(asked @ row, read @ row) >= ON_THEME)
