"""How much deeper a question goes than what was asked before: more specific, or more fundamental.

Two numbers are added. *Specific* is the share, 0 to 1, of what the question is about that no earlier question was
about. *Fundamental* is 1 where it asks how something is known or measured, for a limit, a supposition, a price, a
quantity or what decides; ½ where it asks for a cause, a means, people, cases, places or kinds; 0 where it asks what one
asks first: an effect, a role, a benefit, yes or no. By this measure most chains of the records are deeper when they are
walked from their beginning than from their end; the tests tell how many.
"""

from __future__ import annotations

from collections.abc import Iterable

from bonsai.builder.checks.rewording import content
from bonsai.recipes.inference.chains.aspects import aspects

_DEEPEST = frozenset({"measure", "limit", "supposed", "decider", "change", "loss", "harm", "quantity"})
_DEEPER = frozenset({"cause", "means", "person", "time", "need", "history", "kind", "place", "relation"})

DEEP_FROM = 0.6
"""Depth below which a question goes no deeper; about 2% of the records' next questions lie below."""


def depth(question: str, earlier: Iterable[str]) -> float:
    """Specific plus fundamental, 0 to 2.

    Args:
        earlier: all questions that the chain has asked.
    """
    ours = content(question)
    asked = frozenset[str]().union(*(content(one) for one in earlier))
    return (len(ours - asked) / len(ours) if ours else 0.0) + fundamental(question)


def fundamental(question: str) -> float:
    """1, ½ or 0, by what it asks for."""
    asked_for = aspects(question)
    return 1.0 if asked_for & _DEEPEST else 0.5 if asked_for & _DEEPER else 0.0
