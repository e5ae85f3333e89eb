"""The form that a category gives its records, by rules 5 and 7 of the authoring guide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from bonsai.builder.checks.constraints import constraint_faults
from bonsai.builder.checks.counts import asked_for, digits_in, one_step_from, values_in
from bonsai.builder.checks.finding import Finding, Severity
from bonsai.builder.checks.item_lists import list_faults, numbered_items
from bonsai.builder.checks.labels import label_faults
from bonsai.builder.checks.questions import question_faults
from bonsai.builder.checks.text_fields import Fault, TextField, findings
from bonsai.builder.reader import Located
from bonsai.builder.schema import Category, Language, Text, TextGroup

CHECK = "form"

_LONG = {Language.JA: 600, Language.ZH: 500, Language.EN: 300}
"""characters, or words of English: three times what the guide calls usual; twice as much is doubted aloud"""
_COUNTED = 20
"""up to here an answer may have been counted off, which leaves no number behind"""
_NAME = re.compile(r"[ァ-ヺー]{3,}|(?<=[a-z,] )[A-Z][a-z]{2,}")


def text_faults(category: Category, text: Text, language: Language) -> Iterator[Fault]:
    """What is wrong with the form of one language of a group."""
    match category:
        case Category.BRAINSTORMING:
            yield from list_faults(text.instruction, text.output, language)
        case Category.CLASSIFICATION:
            yield from label_faults(text.instruction, text.input, text.output)
        case Category.CLOSED_QA:
            yield from _not_in_input(text)
        case Category.QUESTION_TO_QUESTION:
            yield from question_faults(text.input, text.output)
        case Category.CREATIVE:
            yield from constraint_faults(text.instruction, text.output, language)
    yield from length_faults(text.output, language)


def _not_in_input(text: Text) -> Iterator[Fault]:
    """Numbers and names of a closed_qa's answer that neither the passage nor the Reasoning has."""
    known = values_in("\n".join((text.instruction, text.input, text.reasoning)))
    told = values_in(text.reasoning)
    strange = [value for value in digits_in(text.output) if value not in known and not one_step_from(value, told)]
    if strange:
        yield Fault(
            Severity.NOTE if max(strange) <= _COUNTED else Severity.WARNING,
            f"'{_shown(max(strange))}' stands neither in the input nor in the Reasoning",
            "answer from the passage; where it is computed, show how in the Reasoning",
        )
    for name in dict.fromkeys(_NAME.findall(text.output)):
        if name not in text.input + text.instruction + text.reasoning:
            yield Fault(Severity.NOTE, f"'{name}' isn't in the input", "see that the passage gives the answer")


def _shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"


def length_faults(output: str, language: Language) -> Iterator[Fault]:
    """An output that is much longer than others."""
    length = len(output.split()) if language is Language.EN else len(output)
    if length > _LONG[language]:
        unit = "words" if language is Language.EN else "characters"
        severity = Severity.WARNING if length > 2 * _LONG[language] else Severity.NOTE
        yield Fault(
            severity, f"{length} {unit}", "most answers are 20 to 120 words (ja: 40 to 250 characters): shorten it"
        )


def _unequal_lists(group: TextGroup, located: Located) -> Iterator[Finding]:
    """The languages of a brainstorming ask for and give the same number of ideas."""
    for language, text in group.texts().items():
        if language is Language.JA:
            continue
        field = TextField(located=located, language=language, name="output", text=text.output)
        given, wanted = len(numbered_items(text.output)), len(numbered_items(group.ja.output))
        asked = asked_for(text.instruction, language), asked_for(group.ja.instruction, Language.JA)
        if given != wanted:
            what = f"{given} items, but the Japanese has {wanted}"
        elif all(asked) and not asked[0] & asked[1]:
            what = f"asks for {sorted(asked[0])}, but the Japanese for {sorted(asked[1])}"
        else:
            continue
        yield from findings(
            CHECK, field, [Fault(Severity.WARNING, what, "the languages of a group agree in their facts")]
        )


def check_form(groups: Sequence[Located]) -> Iterator[Finding]:
    """Every group against the form of its category; translations have none."""
    for located in groups:
        group = located.group
        if not isinstance(group, TextGroup):
            continue
        for language, text in group.texts().items():
            field = TextField(located=located, language=language, name="output", text=text.output)
            yield from findings(CHECK, field, text_faults(group.category, text, language))
        if group.category is Category.BRAINSTORMING:
            yield from _unequal_lists(group, located)
