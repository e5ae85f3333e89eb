"""The category of a row: as its column says, or guessed by a rule that is told along with the guess."""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.schema import CATEGORIES, Category

DOLLY = {
    "creative_writing": Category.CREATIVE,
    "general_qa": Category.OPEN_QA,
    "information_extraction": Category.CLOSED_QA,
    "summarization": Category.CLOSED_QA,
}
"""Dolly's categories that ours has under another name: what is extracted or summed up comes from the question."""
_WORDS: tuple[tuple[Category, re.Pattern[str]], ...] = (
    (Category.TRANSLATION, re.compile(r"translat|訳して|翻訳|翻译|译成", re.I)),
    (Category.QUESTION_TO_QUESTION, re.compile(r"(next|deeper) question|次の問い|深い問い|更深的问题", re.I)),
    (
        Category.CLASSIFICATION,
        re.compile(r"classif|categori[sz]e|which category|sentiment|分類|仕分け|分类|归类", re.I),
    ),
    (
        Category.BRAINSTORMING,
        re.compile(r"brainstorm|ideas|suggest (some|\w+ ways)|アイデア|案を|挙げて|点子|列举", re.I),
    ),
    (
        Category.CREATIVE,
        re.compile(r"\b(poem|haiku|story|lyrics|slogan)\b|俳句|物語|詩を|短歌|小説|标语|故事|诗", re.I),
    ),
)


class Guess(NamedTuple):
    """``guessed`` is False where the file itself names the category."""

    category: Category
    rule: str
    guessed: bool


def category_of(named: str, instruction: str, input_text: str) -> Guess | None:
    """The category, and by which rule; None if the file names one that doesn't exist."""
    name = named.strip().lower().replace(" ", "_")
    if name in CATEGORIES:
        return Guess(Category(name), "named in the file", False)
    if name in DOLLY:
        return Guess(DOLLY[name], f"the file's '{name}' is our {DOLLY[name]}", True)
    if name:
        return None
    for category, words in _WORDS:
        found = words.search(instruction)
        if found:
            return Guess(category, f"'{found[0]}' in the instruction", True)
    if input_text:
        return Guess(Category.CLOSED_QA, "no word tells; there is an input to answer from", True)
    return Guess(Category.OPEN_QA, "no word tells; there is no input", True)
