"""Characters and marks: what is garbled, invisible, unpaired, of another width or of another language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bonsai.builder.checks.brackets import unpaired
from bonsai.builder.checks.characters import compatibility_forms, stray_characters, stray_spaces
from bonsai.builder.checks.finding import Finding
from bonsai.builder.checks.mojibake import mojibake
from bonsai.builder.checks.punctuation import odd_punctuation
from bonsai.builder.checks.text_fields import Fault, fields_of, findings, instruction_of
from bonsai.builder.reader import Located
from bonsai.builder.schema import Language

CHECK = "unicode_text"


def odd_text(text: str, language: Language, instruction: str = "") -> Iterator[Fault]:
    """All that is odd in one text; where it is garbled only that, since the rest follows from it."""
    if garbled := [*mojibake(text)]:
        yield from garbled
        return
    yield from compatibility_forms(text, instruction)
    yield from stray_characters(text)
    yield from stray_spaces(text)
    yield from unpaired(text)
    yield from odd_punctuation(text, language)


def check_unicode_text(groups: Sequence[Located]) -> Iterator[Finding]:
    """Every text, character by character."""
    for located in groups:
        for field in fields_of(located):
            yield from findings(CHECK, field, odd_text(field.text, field.language, instruction_of(field)))
