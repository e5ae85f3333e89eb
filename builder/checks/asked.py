"""What a record asks and answers in one language: the view of a group that checks between records share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bonsai.builder.reader import Located
from bonsai.builder.schema import Category, Language, TextGroup

_LABEL = re.compile(r"^\s*(?:質問|問い|問|问题|问|提问|[Qq]uestion(?:\s*\d+)?|Q)\s*[:：]\s*")
_NEXT_LABEL = re.compile(
    r"^\s*(?:理由|答え|回答|根拠|考え方|答|Reasoning|Reason|Answer|推理|依据|答案|A)\s*[:：]",
    re.IGNORECASE | re.MULTILINE,
)


class Asked(NamedTuple):
    """One language of one group."""

    located: Located
    language: Language
    instruction: str
    input: str
    reasoning: str
    output: str
    """the text itself in a translation group, which has no instruction of its own"""

    @property
    def question(self) -> str:
        """Instruction and input together."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction

    @property
    def subject(self) -> str:
        """What sets this record apart from others with the same instruction.

        The input, where there is one; for question_to_question the new question, as its input is the answer to an
        earlier one; for a translation the text.
        """
        if self.located.group.category in (Category.QUESTION_TO_QUESTION, Category.TRANSLATION):
            return self.output
        return self.input or self.instruction


def asked(groups: Sequence[Located]) -> Iterator[Asked]:
    """Each language of each group, in the order of the groups and then ja, en, zh."""
    for located in groups:
        group = located.group
        if isinstance(group, TextGroup):
            for language, text in group.texts().items():
                yield Asked(located, language, text.instruction, text.input, text.reasoning, text.output)
        else:
            for language, words in group.texts().items():
                yield Asked(located, language, "", "", words.reasoning, words.text)


def earlier_question(input_text: str) -> str:
    """The question a question_to_question record starts from: what stands in its input before Reasoning and answer."""
    rest = _LABEL.sub("", input_text, count=1)
    following = _NEXT_LABEL.search(rest)
    return (rest[: following.start()] if following else rest.split("\n", 1)[0]).strip()
