"""A model's text taken apart by the markers of the prompt."""

from __future__ import annotations

import re
from typing import NamedTuple

from bonsai.builder.messages import RESPONSE_MARKER


class Parts(NamedTuple):
    """Reasoning and answer; an empty Reasoning is a missing one."""

    reasoning: str
    answer: str


_RESPONSE = re.compile(rf"^{re.escape(RESPONSE_MARKER.strip())}[ \t]*\n?", re.MULTILINE)
_HEADING = re.compile(r"^### ?\w+:", re.MULTILINE)


def parts(text: str) -> Parts:
    """What follows a prompt that ends with the marker of the Reasoning.

    Without the marker of the response nothing tells Reasoning from answer. Then all of it counts as the answer, so that
    a model that was never taught the markers is judged by what it says.
    """
    before, *after = _RESPONSE.split(text, maxsplit=1)
    reasoning, answer = (before, after[0]) if after else ("", text)
    return Parts(_HEADING.split(reasoning)[0].strip(), _HEADING.split(answer)[0].strip())
