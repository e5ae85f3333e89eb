"""The guideline of the seven categories. The Japanese is the project's own, word for word (post of 2024-04-10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Rule(NamedTuple):
    """What an answer of a category is, in three languages."""

    ja: str
    en: str
    zh: str


GUIDELINE: Mapping[str, Rule] = {
    "open_qa": Rule(
        ja="（最も確からしい）答えが1つだけある。答えの内容はLLMから参照される。",
        en="There is exactly one (most probable) answer. Its content comes from the LLM.",
        zh="只有一个（最可能的）答案。答案的内容来自大语言模型。",
    ),
    "closed_qa": Rule(
        ja="（最も確からしい）答えが1つだけある。答えの大部分は質問の内容から得られる。",
        en="There is exactly one (most probable) answer. Most of it comes from the content of the question.",
        zh="只有一个（最可能的）答案。答案的大部分可以从问题的内容中得到。",
    ),
    "classification": Rule(
        ja="答えが1つだけある。答えの大部分は質問の内容から得られる。",
        en="There is exactly one answer. Most of it comes from the content of the question.",
        zh="只有一个答案。答案的大部分可以从问题的内容中得到。",
    ),
    "brainstorming": Rule(
        ja="答えが複数ある。答えの内容はLLMから参照される。",
        en="There are several answers. Their content comes from the LLM.",
        zh="有多个答案。答案的内容来自大语言模型。",
    ),
    "creative": Rule(
        ja="答えという概念自体がない。答えの内容はLLMから参照される。",
        en='There is no notion of "the answer" at all. The content comes from the LLM.',
        zh="根本不存在“答案”这个概念。内容来自大语言模型。",
    ),
    "translation": Rule(
        ja="（最も確からしい）答えが1つだけある。答えの内容はLLMから参照される。",
        en="There is exactly one (most probable) answer. Its content comes from the LLM.",
        zh="只有一个（最可能的）答案。答案的内容来自大语言模型。",
    ),
    "question_to_question": Rule(
        ja="答えという概念自体がない。答えの内容はLLMから参照される。",
        en='There is no notion of "the answer" at all. The content comes from the LLM.',
        zh="根本不存在“答案”这个概念。内容来自大语言模型。",
    ),
}
"""By category, in the order of the post."""
