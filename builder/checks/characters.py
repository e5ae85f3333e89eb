"""Characters that look right and aren't: compatibility forms, invisible ones, leftovers of another format."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.text_fields import Fault, shortened

_UNIFIED = frozenset("\ufa0e\ufa0f\ufa11\ufa13\ufa14\ufa1f\ufa21\ufa23\ufa24\ufa27\ufa28\ufa29")
"""twelve characters of the compatibility block that are no compatibility characters (Unicode 16, chapter 18)"""

_FORMS: tuple[tuple[str, re.Pattern[str], Severity], ...] = (
    ("half-width katakana", re.compile(r"[\uff61-\uff9f]+"), Severity.WARNING),
    ("full-width letters or digits", re.compile(r"[０-９Ａ-Ｚａ-ｚ]+"), Severity.WARNING),
    ("a radical in place of the character", re.compile(r"[\u2e80-\u2fdf]+"), Severity.WARNING),
    ("a Latin ligature", re.compile(r"[\ufb00-\ufb06]+"), Severity.WARNING),
    ("a character of the compatibility block", re.compile(r"[\uf900-\ufaff\U0002f800-\U0002fa1f]"), Severity.WARNING),
    ("a character that not every font has", re.compile(r"[\u2150-\u218b\u2460-\u24ff\u3200-\u33ff]"), Severity.NOTE),
)

_SPEAKS_OF_WIDTH = re.compile(r"半角|全角|[Hh]alf-?width|[Ff]ull-?width|合字|ligature|部首|radical")

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffc]"
)
_EMOJI_JOIN = re.compile(
    "(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2600-\u27bf\U0001f000-\U0001faff])"
)
_PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
_MARKUP = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{2,5}|#x[0-9a-fA-F]{2,5});|</?(?:br|p|div|span|b|i|li|ul)\s*/?>")
_ESCAPE = re.compile(r"\\[nrt](?=[A-Z\s「“]|[^\x00-\x7f]|$)|\\u[0-9a-fA-F]{4}")


def compatibility_forms(text: str, instruction: str = "") -> Iterator[Fault]:
    """Where NFKC or NFC would change a character that matters; not where the instruction speaks of such forms."""
    if _SPEAKS_OF_WIDTH.search(instruction) or _SPEAKS_OF_WIDTH.search(text):
        return
    for name, pattern, severity in _FORMS:
        found = [piece for piece in pattern.findall(text) if piece not in _UNIFIED]
        if found:
            meant = unicodedata.normalize("NFKC", found[0])
            yield Fault(severity, f"'{shortened(found[0])}' is {name}", f"write '{shortened(meant)}'")
    if not unicodedata.is_normalized("NFC", re.sub("[\uf900-\ufaff]", "", text)):
        piece = next(word for word in re.split(r"\s", text) if not unicodedata.is_normalized("NFC", word))
        yield Fault(
            Severity.WARNING, f"'{shortened(piece)}' holds a combining mark", "write the composed character (NFC)"
        )


def stray_characters(text: str) -> Iterator[Fault]:
    """Invisible and private characters, and what another format left behind."""
    for character in dict.fromkeys(_INVISIBLE.findall(_EMOJI_JOIN.sub("", text))):
        name = unicodedata.name(character, "a control character")
        yield Fault(Severity.ERROR, f"U+{ord(character):04X} ({name.lower()}) stands inside", "delete it")
    if private := _PRIVATE.search(text):
        yield Fault(
            Severity.ERROR,
            f"U+{ord(private.group()):04X} is a private character",
            "nobody else's font has it; write it out",
        )
    if markup := _MARKUP.search(text):
        yield Fault(Severity.WARNING, f"'{markup.group()}' is HTML", "write the character itself, or a new line")
    if escape := _ESCAPE.search(text):
        yield Fault(Severity.WARNING, f"'{escape.group()}' is an escape that was escaped again", "write the character")


def stray_spaces(text: str) -> Iterator[Fault]:
    """Spaces at the ends; an ideographic space that indents a paragraph is a Japanese habit."""
    if text != text.rstrip() or re.search(r"[ \t\u3000]+\n", text):
        yield Fault(Severity.WARNING, "a line ends with a space", "delete it")
    if text.lstrip("\u3000") != text.lstrip():
        yield Fault(Severity.WARNING, "the text begins with a space", "delete it")
