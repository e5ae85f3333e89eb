"""Find garbled, invisible, unpaired, wrong-width or wrong-language characters and marks.

A garbled run gives itself away by being decodable: turned back into the bytes of the wrong encoding it is well-formed
text in the right one, which good text practically never is. What can't be turned back is left to ftfy's score of
unlikely Latin sequences (https://ftfy.readthedocs.io) and to the few sequences that only a lost decoding produces.

Example:
    >>> [issue.message for issue in unicode_issues("湖は「琵琶湖です。", Language.JA)]
    ["'「' has no partner near '「琵琶湖です。'"]
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

from ftfy.badness import is_bad

from bonsai.builder.checks.base import Finding, Issue, Severity, iter_text_fields, to_findings, truncate
from bonsai.builder.checks.text import CJK_LETTER, HAN, KANA
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Language

_CLOSES = dict(zip("」』）》〉】〕”)]}", "「『（《〈【〔“([{", strict=True))
_OPENS = frozenset(_CLOSES.values())

_NO_BRACKET = re.compile(
    r"(?m)^\s*(?:\d{1,2}|[A-Za-z]|[ivx]{1,4}|[一二三四五六七八九十])[)）]"  # the label of a list item
    r"|(?<!\w)[:;8=][-^']?[()\[\]](?!\w)"  # an emoticon
    r"|[\[(]\s*-?[\d.∞a-z]+\s*,\s*-?[\d.∞a-z]+\s*[\])]"  # an interval
)
_INLINE_LABEL = re.compile(r"(?:^|[\s、。，,;；:：.])(\d{1,2}|[A-Za-z])$")
_INCHES = re.compile(r"(?<=\d)\"")

_UNIFIED = frozenset("\ufa0e\ufa0f\ufa11\ufa13\ufa14\ufa1f\ufa21\ufa23\ufa24\ufa27\ufa28\ufa29")
"""twelve characters of the compatibility block that have no compatibility mapping (Unicode 16, chapter 18)"""

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

_LOST = re.compile(r"\ufffd|锟斤拷|烫烫烫|屯屯屯|\?{4,}|縺[^れいるりっんつ]|繧[^りる]|繝[^くい]|[銆锛鈥]")
"""the replacement character; U+FFFD read as GBK; uninitialised memory; question marks for what couldn't be encoded; the
leading bytes of kana read as Shift_JIS and of Chinese marks read as GBK"""

_CJK_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_LATIN_RUN = re.compile(r"(?:[\x80-\xff‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ][\x20-\x7e]?){5,}")
_LATIN_LETTER_OR_SIGN = re.compile(r"[\xa1-\xff]")
_LEAST_BYTES = 6

_CJK = f"{KANA}{HAN}ー"
_ASCII_AFTER_CJK = re.compile(rf"[{_CJK}][）」”]?[,;.?!](?![A-Za-z0-9.,?!/])|(?<=[A-Za-z0-9]),(?=[{_CJK}])")
_ASCII_COLON = re.compile(rf"[{HAN}]:(?=[{HAN}\s])")
_DOUBLED = re.compile(r"[。、，；：]{2,}|(?<!\.)\.\.(?!\.)|,,")
_FULL_WIDTH = re.compile("[，。、；：！？（）]")
_JAPANESE_DOT = re.compile(rf"(?<=[{HAN}])・(?=[{HAN}])")
_QUOTED = re.compile(r"“[^“”]*”|\"[^\"]*\"|「[^「」]*」")
_JAPANESE_QUOTE = re.compile(rf"[「『][^「」『』{KANA}]+[」』]")
_CODE = re.compile(r"`[^`]*`|[A-Za-z_]+\([^()\n]*\)")


def check_unicode_text(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check every text, character by character."""
    fields = [field for located in groups for field in iter_text_fields(located)]
    return [
        finding
        for field in fields
        for finding in to_findings("unicode_text", field, unicode_issues(field.text, field.language, field.instruction))
    ]


def unicode_issues(text: str, language: Language, instruction: str = "") -> Iterator[Issue]:
    """Yield all that is odd in one text; of a garbled text only that, since the rest follows from it."""
    if garbled := [*mojibake_issues(text)]:
        yield from garbled
        return
    yield from compatibility_forms(text, instruction)
    yield from invisible_characters(text)
    yield from stray_spaces(text)
    yield from unpaired_brackets(text)
    yield from punctuation_issues(text, language)


def mojibake_issues(text: str) -> Iterator[Issue]:
    """Yield the first garbled run, with what it may have been."""
    garbled = _find_garbled(text)
    if garbled:
        run, meant = garbled
        guess = f"; it may have been '{truncate(meant)}'" if meant else ""
        yield Issue.error(
            f"'{truncate(run)}' is garbled{guess}",
            "it was read in another encoding than it was written in; put the text in again, as UTF-8",
        )


def _find_garbled(text: str) -> tuple[str, str] | None:
    # 1. UTF-8 that was read as Shift_JIS or GBK: nearly all of its bytes are UTF-8. The decoder that did the damage
    #    dropped what it couldn't read, so bytes at both ends may be missing.
    for run in _CJK_RUN.findall(text):
        for wrong in ("cp932", "gbk"):
            data = run.encode(wrong, errors="ignore")
            meant = data.decode("utf-8", errors="ignore")
            if (
                len(data) >= _LEAST_BYTES
                and CJK_LETTER.search(run)
                and len(meant.encode("utf-8")) >= 0.75 * len(data)
                and sum(map(_is_common, meant)) >= max(2, 0.8 * len(meant))
            ):
                return run, meant

    # 2. Shift_JIS, GBK or EUC-JP that was read as Latin.
    for run in _LATIN_RUN.findall(text):
        for right in ("cp932", "gbk", "euc_jp"):
            data = run.encode("cp1252", errors="ignore")
            meant = data.decode(right, errors="ignore")
            if (
                len(data) >= _LEAST_BYTES
                and len(_LATIN_LETTER_OR_SIGN.findall(run)) >= 2
                and len(meant) >= 3
                and len(CJK_LETTER.findall(meant)) >= 0.7 * len(meant)
            ):
                return run, meant

    # 3. What can't be turned back.
    if lost := _LOST.search(text):
        return text[lost.start() : lost.end() + 10], ""
    return (text, "") if not CJK_LETTER.search(text) and is_bad(text) else None


def _is_common(character: str) -> bool:
    """Return whether the Japanese or Chinese standard set has a character; chance hits are in far-off scripts."""
    for encoding in ("shift_jis", "gb2312"):
        with contextlib.suppress(UnicodeEncodeError):
            return len(character.encode(encoding)) == 2
    return False


def compatibility_forms(text: str, instruction: str = "") -> Iterator[Issue]:
    """Yield where NFKC or NFC would change a character that matters; not where the instruction speaks of such forms."""
    if _SPEAKS_OF_WIDTH.search(instruction) or _SPEAKS_OF_WIDTH.search(text):
        return
    for name, pattern, severity in _FORMS:
        found = [piece for piece in pattern.findall(text) if piece not in _UNIFIED]
        if found:
            meant = unicodedata.normalize("NFKC", found[0])
            yield Issue(severity, f"'{truncate(found[0])}' is {name}", f"write '{truncate(meant)}'")
    if not unicodedata.is_normalized("NFC", re.sub("[\uf900-\ufaff]", "", text)):
        piece = next(word for word in re.split(r"\s", text) if not unicodedata.is_normalized("NFC", word))
        yield Issue.warning(f"'{truncate(piece)}' holds a combining mark", "write the composed character (NFC)")


def invisible_characters(text: str) -> Iterator[Issue]:
    """Yield invisible and private characters, and remains of another format."""
    for character in dict.fromkeys(_INVISIBLE.findall(_EMOJI_JOIN.sub("", text))):
        name = unicodedata.name(character, "a control character")
        yield Issue.error(f"U+{ord(character):04X} ({name.lower()}) is hidden in the text", "delete it")
    if private := _PRIVATE.search(text):
        yield Issue.error(
            f"U+{ord(private.group()):04X} is a private character", "nobody else's font has it; write it out"
        )
    if markup := _MARKUP.search(text):
        yield Issue.warning(f"'{markup.group()}' is HTML", "write the character itself, or a new line")
    if escape := _ESCAPE.search(text):
        yield Issue.warning(f"'{escape.group()}' is an escape sequence that was escaped twice", "write the character")


def stray_spaces(text: str) -> Iterator[Issue]:
    """Yield spaces at the ends; an ideographic space that indents a paragraph is a Japanese habit."""
    if text != text.rstrip() or re.search(r"[ \t\u3000]+\n", text):
        yield Issue.warning("a line ends with a space", "delete it")
    if text.lstrip("\u3000") != text.lstrip():
        yield Issue.warning("the text begins with a space", "delete it")


def unpaired_brackets(text: str) -> Iterator[Issue]:
    """Yield the first bracket without its partner, and an odd number of straight quotation marks."""
    text = _NO_BRACKET.sub("", text)
    lonely: list[tuple[str, str]] = []
    waiting: list[tuple[str, int]] = []
    label = 0
    for position, character in enumerate(text):
        if character in _OPENS:
            waiting.append((character, position))
        elif opener := _CLOSES.get(character):
            if not waiting or waiting[-1][0] != opener:
                # labels within a line that count on, 1) one, 2) two, are no brackets
                found = None if waiting else _INLINE_LABEL.search(text[max(0, position - 4) : position])
                number = 0 if not found else int(found[1]) if found[1].isdigit() else ord(found[1].lower()) - 96
                if number in (label + 1, 2):  # the first one, at the line's beginning, is gone already
                    label = number
                    continue
                lonely.append((character, text[max(0, position - 15) : position + 1]))
                break
            waiting.pop()
    else:
        if waiting:
            character, position = waiting[-1]
            lonely.append((character, text[position : position + 15]))
        if text.count('"') % 2 and _INCHES.sub("", text).count('"') % 2:
            lonely.append(('"', text[text.rfind('"') :]))
    for character, around in lonely:
        yield Issue.warning(f"'{character}' has no partner near '{truncate(around)}'", "close it, or delete it")


def punctuation_issues(text: str, language: Language) -> Iterator[Issue]:
    """Yield marks that the language of the text doesn't use."""
    plain = _CODE.sub("x", text)
    odd: list[tuple[re.Match[str] | None, str]] = [(_DOUBLED.search(plain), "the mark is doubled; delete one")]
    match language:
        case Language.EN:
            lines = [line for line in _QUOTED.sub("", plain).split("\n") if not CJK_LETTER.search(line)]
            odd += [(_FULL_WIDTH.search(line), "English uses the half-width mark and a space") for line in lines]
        case Language.JA:
            odd += [(_ASCII_AFTER_CJK.search(plain), "Japanese uses the full-width mark (、。！？)")]
        case Language.ZH:
            mark = _ASCII_AFTER_CJK.search(plain) or _ASCII_COLON.search(plain)
            unquoted = _QUOTED.sub("", re.sub(r"“[^“”]*”", "", plain))
            odd += [
                (mark, "Chinese uses the full-width mark (，。：！？)"),
                (_JAPANESE_DOT.search(unquoted), "that is the Japanese middle dot; Chinese uses ·"),
                (_JAPANESE_QUOTE.search(unquoted), "simplified Chinese quotes with “”"),
            ]
    for found, hint in odd:
        if found:
            yield Issue.warning(f"'{truncate(found.group())}' is odd here", hint)
