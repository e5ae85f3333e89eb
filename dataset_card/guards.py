"""What the checks of a build guard, told for the card's readers; a test holds this list against the checks that run."""

from __future__ import annotations

from collections.abc import Mapping

GUARDS: Mapping[str, str] = {
    "form": "labels that nobody offered, too few ideas, a constraint not kept, two questions where one was asked",
    "language": "text in the wrong language, or in two at once",
    "unicode": "garbled, invisible, unpaired or odd characters, and punctuation of another language",
    "repetition": "answers that repeat themselves",
    "reasoning": "Reasoning that restates the question, announces the answer, or is no better than the earlier one",
    "personal data": "personal data, keys and passwords",
    "provenance": "a source, licence or generator that is missing or not ours to give",
    "contradiction": "one question with two answers",
    "parallel": "parallel languages that differ in a number, a date, a name, yes or no",
    "duplicates": "records that say nearly the same",
    "templates": "groups that differ only in a name or a number",
    "leakage": "held-out records that stand in train as well",
    "tautology": "questions that go in circles",
    "chains": "chains of questions with a gap or a changed word",
    "balance": "a lean towards one category, language, topic or length",
    "decontamination": "records that give away a probe: its question, or the fact that it asks for",
}
"""By the name of the check."""
