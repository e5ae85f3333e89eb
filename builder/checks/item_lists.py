"""The numbered list of a brainstorming: 4 to 8 distinct ideas, as many as were asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from bonsai.builder.checks.counts import asked_for
from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.repetition import adds_nothing, normalised
from bonsai.builder.checks.text_fields import Fault, shortened
from bonsai.builder.schema import Language

FEWEST, MOST = 4, 8

_ITEM = re.compile(r"\s*(?P<number>\d{1,2})\s*[.．、)）:：]\s*(?P<idea>\S.*)")


def numbered_items(output: str) -> list[tuple[int, str]]:
    """Number and text of each line that begins with a number."""
    found = (_ITEM.fullmatch(line) for line in output.split("\n"))
    return [(int(item["number"]), item["idea"]) for item in found if item]


def list_faults(instruction: str, output: str, language: Language) -> Iterator[Fault]:
    """What keeps an output from being the list that its instruction asks for."""
    items = numbered_items(output)
    if not items:
        yield _fault(f"'{shortened(output)}' is no numbered list", "write one idea a line: '1. …'")
        return
    numbers = [number for number, _ in items]
    if numbers != list(range(1, len(items) + 1)):
        yield _fault(f"the items are numbered {numbers}", "number them from 1 without a gap")
    if not FEWEST <= len(items) <= MOST:
        yield _fault(f"{len(items)} items", f"give {FEWEST} to {MOST} distinct ideas")
    asked = asked_for(instruction, language)
    if asked and len(items) not in asked:
        wanted = " or ".join(map(str, sorted(asked)))
        yield _fault(f"{len(items)} items where {wanted} were asked for", "give as many as the instruction says")
    beside = [line for line in output.split("\n") if line.strip() and not _ITEM.fullmatch(line)]
    if beside:
        yield _fault(f"'{shortened(beside[0])}' is no item", "nothing stands before, between or below the items")
    ideas = [normalised(idea) for _, idea in items]
    for one, other in combinations(range(len(ideas)), 2):
        if ideas[one] == ideas[other] or adds_nothing(ideas[one], ideas[other]):
            yield _fault(f"items {one + 1} and {other + 1} are the same", "give another idea")


def _fault(what: str, why: str) -> Fault:
    return Fault(Severity.WARNING, what, why)
