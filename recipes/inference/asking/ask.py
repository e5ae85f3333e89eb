"""Many questions answered together, each with its Reasoning.

Every question runs its own course (`bonsai.recipes.inference.asking.course`): one pass, two where one was not enough,
a retry where the text ran in a loop. Here the courses become talks with an engine, held beside one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bonsai.recipes.inference.asking.course import Passes, Turn, course
from bonsai.recipes.inference.asking.guard import loop_at_end
from bonsai.recipes.inference.asking.limits import check_questions
from bonsai.recipes.inference.asking.said import Part, growing, is_over
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation.decoder import GREEDY, Decoder
from bonsai.recipes.inference.generation.engine import Engine, Request
from bonsai.recipes.inference.generation.talks import Talk, hold

OnText = Callable[[int, Part, str], None]
"""Called with the place of the question, the part, and all of that part's text so far; a retry begins it anew."""

OnAnswer = Callable[[int, Answer], None]
"""Called with the place of the question and its answer as soon as it stands."""


def ask(
    engine: Engine,
    questions: Sequence[Question],
    *,
    decoder: Decoder = GREEDY,
    passes: Passes = "auto",
    on_text: OnText | None = None,
    on_answer: OnAnswer | None = None,
) -> list[Answer]:
    """The answers, in the order of the questions.

    What ``on_answer`` was told stands, whatever comes after: an interruption loses only what was being answered.

    Raises:
        AskingError: a question is empty, binary or too long to be one; before anything is asked.
        GenerationError: a question does not fit the model, or the model cannot be asked.
    """
    check_questions(questions)

    def told(place: int) -> Callable[[Part, str], None] | None:
        return None if on_text is None else lambda part, text: on_text(place, part, text)

    talks = [
        asking(question, engine.name, decoder=decoder, passes=passes, on_text=told(place))
        for place, question in enumerate(questions)
    ]
    return hold(engine, talks, on_answer)


def asking(
    question: Question,
    model: str,
    *,
    decoder: Decoder,
    passes: Passes = "auto",
    on_text: Callable[[Part, str], None] | None = None,
) -> Talk[Answer]:
    """One question's course as a talk.

    Args:
        model: what a reader calls the one that answers.
        on_text: as `OnText`, for this question.
    """
    running = course(question, decoder=decoder, passes=passes)
    tokens, seconds = 0, 0.0
    turn = next(running)
    while True:
        (said,) = yield [Request(turn.prompt, turn.decoder, _watching(turn, on_text))]
        tokens, seconds = tokens + said.tokens, seconds + said.seconds
        try:
            turn = running.send(said)
        except StopIteration as end:
            return Answer(model=model, tokens=tokens, seconds=seconds, **vars(end.value))


def _watching(turn: Turn, on_text: Callable[[Part, str], None] | None) -> Callable[[str], bool]:
    def watch(text: str) -> bool:
        piece = growing(text.rstrip("\ufffd"), turn.begins)
        if on_text is not None and piece.text:
            on_text(piece.part, piece.text)
        return loop_at_end(piece.text, refrain=turn.refrain) is not None or is_over(text, turn.begins)

    return watch
