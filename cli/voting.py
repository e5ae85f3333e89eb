"""A person reads answers without names in the terminal and says which is better."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.comparing.record import Comparison
    from bonsai.recipes.evaluation.comparing.votes import Hidden
    from bonsai.recipes.inference.conversation import Answer

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""a model's text could move the cursor or set the window's title"""


def judge(comparison: Comparison, folder: Path, console: Console) -> int:
    """Ask about every question that has no vote yet; how many are left when the person stops.

    Ctrl-D and ``q`` stop, and so does Ctrl-C; each vote given is on disk by then.
    """
    from bonsai.recipes.evaluation.comparing.votes import Vote, counted, hidden, keep_vote, read_votes

    done = {vote.question for vote in counted(comparison, read_votes(folder))}
    waiting = [one for one in hidden(comparison) if one.listed.id not in done]
    for number, one in enumerate(waiting):
        _show(one, f"{len(done) + number + 1} / {len(done) + len(waiting)}", console)
        order = _order(one, console)
        if order is None:
            return len(waiting) - number
        keep_vote(folder, Vote(question=one.listed.id, order=order, answers=one.digest))
    return 0


def _show(one: Hidden, place: str, console: Console) -> None:
    question = one.listed.question
    console.rule(place)
    console.print(Text(_clean("\n".join(filter(None, (question.instruction, question.input)))), style="bold"))
    for letter, answer in one.answers.items():
        console.print(Panel(_text(answer), title=Text(letter), title_align="left"))


def _order(one: Hidden, console: Console) -> tuple[tuple[str, ...], ...] | None:
    from bonsai.recipes.evaluation.errors import EvaluationError

    letters = list(one.models)
    example = f"{letters[0]}, {letters[1]} or {'='.join(letters)}" if len(letters) == 2 else " ".join(reversed(letters))
    while True:
        try:
            told = console.input(f"the best first ({example}; q: stop) 良い順に: ", markup=False, emoji=False)
        except EOFError:
            return None
        if told.strip().lower() == "q":
            return None
        try:
            return one.order(told)
        except EvaluationError as error:
            console.print(Text(str(error), style="red"))


def _text(answer: Answer) -> Text:
    reasoning = Text(_clean(answer.reasoning) or "no Reasoning", style="dim")
    return Text.assemble(reasoning, "\n\n", _clean(answer.answer) or "no answer")


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
