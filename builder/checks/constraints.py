"""Check the constraints of a creative instruction that can be counted: sentences, lines, length, words.

An instruction is free text, so only plain wordings are read, and a constraint counts as broken only where every reading
of it is broken.

Example:
    >>> issues = constraint_issues("二文で書いてください。", "雨が降った。風も吹いた。月が出た。", Language.JA)
    >>> [issue.message for issue in issues]
    ['3 sentences where 2 were asked for']
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bonsai.builder.checks.base import Issue, truncate
from bonsai.builder.checks.numbers import ENGLISH_NUMBER, HAN_NUMBER, parse_count
from bonsai.builder.checks.text import HAN, count_sentences
from bonsai.builder.schema import Language

_SENTENCES = {
    Language.JA: re.compile(rf"(?:ちょうど|本文は|本文)?(?P<n>{HAN_NUMBER})文(?=で|の(?!う)|に|とし|、|。|です)"),
    Language.EN: re.compile(rf"\b(?P<n>{ENGLISH_NUMBER})\s+sentences?\b(?!\s+each)", re.I),
    Language.ZH: re.compile(rf"(?:恰好|用|写|共|正文)(?:恰好|用|写)?(?P<n>{HAN_NUMBER})(?:句话|句)(?!都|中)"),
}
_LINES = {
    Language.JA: re.compile(rf"(?<!第)(?P<n>{HAN_NUMBER})行(?!目|ずつ)"),
    Language.EN: re.compile(rf"\b(?P<n>{ENGLISH_NUMBER})[- ](?:\w+ )?lines?\b", re.I),
    Language.ZH: re.compile(rf"(?<![第前每一接着])(?P<n>{HAN_NUMBER})行(?!里)"),
}
_ENGLISH_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_ORDINAL = re.compile(
    rf"(?P<ja>{HAN_NUMBER})行目|第(?P<zh>{HAN_NUMBER})行|\b(?P<en>{'|'.join(_ENGLISH_ORDINALS)})\b", re.I
)
"""'the solution on the fifth line' asks for five lines as well"""
_PART = re.compile(r"本文|前書き|続けて|作り方|その下|body|prose|[Mm]ethod|below them|正文|做法|前言|后面|落款|remark")
"""words that speak of other parts beside the one that is counted"""

_MOST = {
    Language.JA: re.compile(r"(?P<n>\d+)字以内"),
    Language.EN: re.compile(
        rf"(?:no more than|at most|within|exceed|longer than) (?P<n>{ENGLISH_NUMBER}) words"
        rf"|\b(?P<m>{ENGLISH_NUMBER}) words (?:a line )?at most",
        re.I,
    ),
    Language.ZH: re.compile(r"不超过(?P<n>\d+)个?字"),
}
_EACH_LINE = re.compile(r"各行|一行|どの行|[Nn]o line|a line|each|every|每行|各写一行")
_OF_A_PART = re.compile(
    r"目は|目と|ことわざ|題|proverb|谚语|第[一二三四五六七八九]|the (?:first|second|third|fourth|fifth|last)|最後"
)

_QUOTES = r"(?:[「“\"][^「」“”\"]+[」”\"](?:、|や|・|と|和|或|,? (?:and|or|nor) |, )?)+"
_FORBIDDEN = (
    re.compile(
        rf"(?P<words>{_QUOTES})(?:という[^、。「」]{{1,5}}|の[一-鿿]{{0,2}}(?:字|語|文字|言葉)|とは)?(?:は|も|を)?(?:一度も)?"
        r"(?:使わ(?:ない|ず)|避け|書かない|書かず|用いない|用いず|出さない|出さず|入れない)"
    ),
    re.compile(
        r"(?:(?:[Dd]on't|[Dd]o not|[Nn]ever|[Nn]ot) use|[Aa]void|[Ll]eave out|[Nn]either|without (?:the word|using))"
        rf"(?: the words?)? (?P<words>{_QUOTES})"
    ),
    re.compile(
        rf"(?P<words>{_QUOTES})\s?(?:are not allowed|is not allowed|must not|may not (?:appear|be used)"
        r"|(?:do|does)(?:n't| not) (?:occur|appear)|(?:is|are)(?:n't| not) used|are out|stays? out)"
    ),
    re.compile(rf"(?:不用|不使用|不得出现|不出现|不能用|不要用|不得使用|不可用)(?P<words>{_QUOTES})"),
)
_REQUIRED = (
    re.compile(rf"(?P<words>{_QUOTES})を(?:一度ずつ|一度だけ)?(?:入れ|含)"),
    re.compile(rf"\b(?:[Ii]nclude|with) (?:the words? )?(?P<words>{_QUOTES})(?=[;.,]| in it| once)"),
    re.compile(rf"(?:，|须|要)(?:含|用到)(?P<words>{_QUOTES})"),
)
_QUOTED = re.compile(r"[「“\"]([^「」“”\"]+)[」”\"]")  # the members of _QUOTES: no titles in 『』 or 《》
_CLAUSE = re.compile(r"[^。，、；;:,.]+")
_LETTER = re.compile(r"\w")


def constraint_issues(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    """Yield the constraints stated in plain numbers or quoted words that an output breaks."""
    # 1. Sentences, where the instruction names one number of them. Title, method or signature may add up to three.
    sentences = {parse_count(found["n"]) for found in _SENTENCES[language].finditer(instruction)} - {0, 1}
    if len(sentences) == 1:
        (wanted,) = sentences
        fewest, most = count_sentences(output)
        if not fewest - (3 if _PART.search(instruction) else 0) <= wanted <= most:
            given = str(fewest) if fewest == most else f"{fewest} to {most}"
            yield Issue.warning(f"{given} sentences where {wanted} were asked for", "count them again")

    # 2. Lines. "The last word of the fifth line" asks for five lines as well; a title may add one.
    lines = {parse_count(found["n"]) for found in _LINES[language].finditer(instruction)} - {1}
    if lines:
        ordinals = [
            parse_count(word)
            if (word := found["ja"] or found["zh"])
            else _ENGLISH_ORDINALS.index(found["en"].casefold()) + 1
            for found in _ORDINAL.finditer(instruction)
        ]
        lines.add(max([*ordinals, *lines]))
        count = sum(bool(line.strip()) for line in output.split("\n"))
        if count not in lines and count not in (max(lines) + 1, sum(lines)):
            wanted_lines = " or ".join(map(str, sorted(lines)))
            yield Issue.warning(f"{count} lines where {wanted_lines} were asked for", "count them again")

    # 3. Length, unless the limit is that of a part which can't be found in the output.
    for found in _MOST[language].finditer(instruction):
        limit = parse_count(found.groupdict().get("n") or found.groupdict()["m"])
        before = _CLAUSE.findall(instruction[: found.start()])
        if _OF_A_PART.search((before[-1] if before else "") + found.group()):
            continue
        pieces = output.split("\n") if _EACH_LINE.search(instruction) else [output]
        english = language is Language.EN
        longest = max(len(piece.split()) if english else len(_LETTER.findall(piece)) for piece in pieces)
        if longest > limit:
            unit = "words" if english else "characters, marks not counted,"
            yield Issue.warning(f"{longest} {unit} where {limit} were allowed", "shorten it")

    # 4. Words that must not, or must, occur. In English "ash" does not occur in "washed".
    for word in _quoted_words(_FORBIDDEN, instruction):
        pattern = rf"\b{re.escape(word)}\b" if language is Language.EN else re.escape(word)
        if re.search(pattern, output, re.IGNORECASE if language is Language.EN else re.NOFLAG):
            yield Issue.warning(f"'{truncate(word)}' appears, which was forbidden", "say it in other words")
    for word in _quoted_words(_REQUIRED, instruction):
        if word.casefold() not in output.casefold():
            yield Issue.warning(f"'{truncate(word)}' doesn't appear, which was asked for", "work it in")

    # 5. A Chinese haiku.
    if language is Language.ZH and "五、七、五字" in instruction:
        shape = [len(re.findall(f"[{HAN}]", line)) for line in output.split("\n") if line.strip()]
        if shape != [5, 7, 5]:
            yield Issue.warning(f"the lines have {shape} characters", "5, 7 and 5 were asked for")


def _quoted_words(patterns: tuple[re.Pattern[str], ...], instruction: str) -> list[str]:
    found = [match["words"] for pattern in patterns for match in pattern.finditer(instruction)]
    return [word for words in found for word in _QUOTED.findall(words)]
