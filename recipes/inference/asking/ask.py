"""Many questions answered together, each with its Reasoning.

Every question runs its own course (`bonsai.recipes.inference.asking.course`): one pass, two where one was not enough,
a retry where the text ran in a loop. Here the prompts that all courses wait for are put to the engine together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bonsai.recipes.inference.asking.course import Course, Outcome, Passes, Turn, course
from bonsai.recipes.inference.asking.guard import loop_at_end
from bonsai.recipes.inference.asking.limits import check_questions
from bonsai.recipes.inference.asking.said import Part, growing, is_over
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation.decoder import GREEDY, Decoder
from bonsai.recipes.inference.generation.engine import Engine, Generation

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
    asked = [_Asked(course(question, decoder=decoder, passes=passes), engine.name) for question in questions]
    while waiting := [(place, one, one.turn) for place, one in enumerate(asked) if one.turn is not None]:
        decoder_now = waiting[0][2].decoder
        together = [entry for entry in waiting if entry[2].decoder == decoder_now]

        def watch(number: int, text: str, together: Sequence[tuple[int, _Asked, Turn]] = together) -> bool:
            place, _, turn = together[number]
            piece = growing(text.rstrip("\ufffd"), turn.begins)
            if on_text is not None and piece.text:
                on_text(place, piece.part, piece.text)
            return loop_at_end(piece.text, refrain=turn.refrain) is not None or is_over(text, turn.begins)

        def said(number: int, text: Generation, together: Sequence[tuple[int, _Asked, Turn]] = together) -> None:
            place, one, _ = together[number]
            one.hear(text)
            if one.answer is not None and on_answer is not None:
                on_answer(place, one.answer)

        engine.generate([turn.prompt for _, _, turn in together], decoder_now, on_answer=said, watch=watch)
    return [one.answer for one in asked if one.answer is not None]


class _Asked:
    """A question on its course."""

    def __init__(self, course: Course, model: str) -> None:
        self._course = course
        self._model = model
        self._tokens, self._seconds = 0, 0.0
        self.turn: Turn | None = next(course)
        """what it waits for; None: it is answered"""
        self.answer: Answer | None = None

    def hear(self, said: Generation) -> None:
        self._tokens += said.tokens
        self._seconds += said.seconds
        try:
            self.turn = self._course.send(said)
        except StopIteration as end:
            self.turn = None
            self.answer = self._answer(end.value)

    def _answer(self, outcome: Outcome) -> Answer:
        return Answer(model=self._model, tokens=self._tokens, seconds=self._seconds, **vars(outcome))
