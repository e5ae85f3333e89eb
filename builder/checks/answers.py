"""Whether two answers in one language exclude each other.

Similarity is no help (an answer and its negation score .9), so what can be compared exactly is: yes and no, quantities,
and then the words themselves.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.checks.quantities import disagreement, quantities
from bonsai.builder.checks.quantity import comparable, surplus
from bonsai.builder.checks.rewording import content, folded

_YES = re.compile(
    r"^\W*(?:はい|ええ|そうです|yes\b|是的?(?![哪何])|对[，。,.]|对$|会[。，,]|能[。，,]|可以|有[。，,])", re.IGNORECASE
)
_NO = re.compile(r"^\W*(?:いいえ|いえ|違います|no\b(?!\.)|not\b|不[是会能对，。,]|不可以|没有|否)", re.IGNORECASE)
_SHORT = 60
"""Characters up to which an answer is a name or a label rather than an explanation."""
_SHARED = 0.5


class Conflict(NamedTuple):
    """What two answers differ in."""

    ours: str
    theirs: str


def polarity(answer: str) -> bool | None:
    """True for an answer that begins with yes, False for no, None for any other."""
    if _NO.search(answer) or answer.strip(" .!。").casefold() == "no":
        return False
    return True if _YES.search(answer) else None


def conflict(first: str, second: str) -> Conflict | None:
    """What excludes the one answer if the other is right; None if they can stand together."""
    if folded(first) == folded(second):
        return None
    ours, theirs = polarity(first), polarity(second)
    if ours is not None and theirs is not None and ours != theirs:
        return Conflict("yes" if ours else "no", "yes" if theirs else "no")
    numbers = disagreement(first, second)
    if all(numbers):
        return Conflict(*(", ".join(each.text for each in side) for side in numbers))
    more, less = surplus(quantities(first), quantities(second)), surplus(quantities(second), quantities(first))
    if any(comparable(one, other) for one in more for other in less):
        return Conflict(*(", ".join(each.text for each in side) for side in (more, less)))
    if any(one.weight for one in quantities(first)) and any(one.weight for one in quantities(second)):
        return None
    if min(len(first), len(second)) > _SHORT or ours is not None or theirs is not None:
        return None
    words, others = content(first), content(second)
    if words and others and len(words & others) < _SHARED * min(len(words), len(others)):
        return Conflict(first.strip(), second.strip())
    return None
