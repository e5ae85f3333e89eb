"""The essential sentences of an answer, quoted and never rewritten.

The rule: a pair of neighbouring characters (two letters of Japanese or Chinese, a word of English) weighs as many
sentences of this step's Reasoning and answer as it occurs in, and nothing if the question or a sentence learnt earlier
has it. The sentence of the answer whose pairs weigh most, over the square root of their number, is essential; a second
one if, after the first, it still weighs at least half as much. It needs no model, so the same chain gives the same
summary everywhere. After SumBasic (Nenkova and Vanderwende 2005), with novelty as in Carbonell and Goldstein 1998.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

SENTENCES = 2
"""quoted of one answer at most"""
LONGEST = 280
"""characters of a quotation; text without full stops is cut here"""

_END = re.compile(r"(?<=[。！？])[」』）”]*|(?<=[!?…])[\"”’)]*\s+|(?<=[.])[\"”’)]*\s+(?=[\"“‘(]?[A-Z0-9])|\n+")
_ABBREVIATED = re.compile(r"(?:\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Mt|Prof|St|No|vs|etc|approx|e\.g|i\.e|cf)\.|^\d+\.)$")
_MARKUP = re.compile(r"^\s*(?:[-*•・]\s+|#{1,6}\s+|\d+[.)]\s+)")
_WORD = re.compile(r"[a-z0-9À-ɏ]+|[^\W\d_a-zÀ-ɏ]+")


def sentences(text: str) -> list[str]:
    """The sentences of a text in ja, en or zh, without marks of lists and headings; each once."""
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        if "\n" not in end.group() and _ABBREVIATED.search(piece.rstrip()):
            continue
        found.append(piece)
        start = end.end()
    found.append(text[start:])
    return list(dict.fromkeys(clean for piece in found if (clean := _MARKUP.sub("", piece).strip())))


def essentials(reasoning: str, answer: str, *, known: Iterable[str] = ()) -> list[str]:
    """Up to two sentences of ``answer``, in its order; ``known`` are the question and what was learnt before.

    An answer that says nothing new is still quoted by one sentence, its first.
    """
    said = sentences(answer)
    if not said:
        return []
    everything = [_terms(sentence) for sentence in dict.fromkeys([*sentences(reasoning), *said])]
    weights = Counter(term for terms in everything for term in terms)
    for text in known:
        for term in _terms(text):
            weights.pop(term, None)
    chosen = _heaviest(said, weights)
    return [_cut(sentence) for sentence in said if sentence in chosen]


def _heaviest(said: Sequence[str], weights: Counter[str]) -> set[str]:
    chosen: list[str] = []
    first = 0.0
    while len(chosen) < min(SENTENCES, len(said)):
        weighed = {sentence: _weight(_terms(sentence), weights) for sentence in said if sentence not in chosen}
        best = max(weighed, key=lambda sentence: weighed[sentence])
        if chosen and (weighed[best] == 0 or weighed[best] < first / 2):
            break
        first = first or weighed[best]
        chosen.append(best)
        for term in _terms(best):
            weights.pop(term, None)
    return set(chosen)


def _weight(terms: set[str], weights: Counter[str]) -> float:
    return float(sum(weights[term] for term in terms) / len(terms) ** 0.5) if terms else 0.0


def _terms(text: str) -> set[str]:
    """Words of more than two letters, and pairs of neighbours in scripts that write none."""
    found: set[str] = set()
    for run in _WORD.findall(text.lower()):
        if run[0].isascii() or run[0] < "ɐ":
            found |= {run} if len(run) > 2 or run.isdigit() else set()
        else:
            found |= {run[place : place + 2] for place in range(max(1, len(run) - 1))}
    return found


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1].rstrip() + "…"
