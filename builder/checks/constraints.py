"""The constraints of a creative instruction that can be counted: sentences, lines, length, words.

An instruction is free text, so only plain wordings are read, and a constraint counts as broken only where every reading
of it is broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bonsai.builder.checks.base import Issue, Severity, truncate
from bonsai.builder.checks.numbers import ENGLISH_NUMBER, HAN_NUMBER, number
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
"""words that tell of other parts beside what is counted"""

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
_QUOTED = re.compile(r"[「“\"]([^「」“”\"]+)[」”\"]")
_CLAUSE = re.compile(r"[^。，、；;:,.]+")
_LETTER = re.compile(r"\w")


def constraint_issues(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    """The constraints stated in plain numbers or quoted words that an output breaks."""
    yield from _sentences(instruction, output, language)
    yield from _lines(instruction, output, language)
    yield from _length(instruction, output, language)
    yield from _words(instruction, output, language)
    if language is Language.ZH and "五、七、五字" in instruction:
        shape = [len(re.findall(f"[{HAN}]", line)) for line in output.split("\n") if line.strip()]
        if shape != [5, 7, 5]:
            yield _fault(f"the lines have {shape} characters", "5, 7 and 5 were asked for")


def _sentences(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    asked = [number(found["n"]) for found in _SENTENCES[language].finditer(instruction)]
    asked = [count for count in asked if count > 1]
    if len(set(asked)) != 1:
        return
    fewest, most = count_sentences(output)
    room = 3 if _PART.search(instruction) else 0
    if not fewest - room <= asked[0] <= most:
        yield _fault(f"{_range(fewest, most)} sentences where {asked[0]} were asked for", "count them again")


def _lines(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    asked = {number(found["n"]) for found in _LINES[language].finditer(instruction)} - {1}
    if not asked:
        return
    given = sum(bool(line.strip()) for line in output.split("\n"))
    asked.add(max([*map(_ordinal, _ORDINAL.finditer(instruction)), *asked]))
    if given not in asked and given not in (max(asked) + 1, sum(asked)):
        yield _fault(f"{given} lines where {' or '.join(map(str, sorted(asked)))} were asked for", "count them again")


def _ordinal(found: re.Match[str]) -> int:
    word = found["ja"] or found["zh"]
    return number(word) if word else _ENGLISH_ORDINALS.index(found["en"].casefold()) + 1


def _length(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    for found in _MOST[language].finditer(instruction):
        most = number(found.groupdict().get("n") or found.groupdict()["m"])
        before = _CLAUSE.findall(instruction[: found.start()])
        if _OF_A_PART.search((before[-1] if before else "") + found.group()):
            continue
        pieces = output.split("\n") if _EACH_LINE.search(instruction) else [output]
        longest = max(_size(piece, language) for piece in pieces)
        if longest > most:
            unit = "words" if language is Language.EN else "characters, marks not counted,"
            yield _fault(f"{longest} {unit} where {most} were allowed", "shorten it")


def _size(text: str, language: Language) -> int:
    return len(text.split()) if language is Language.EN else len(_LETTER.findall(text))


def _words(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    for pattern in _FORBIDDEN:
        for found in pattern.finditer(instruction):
            for word in _QUOTED.findall(found["words"]):
                if _appears(word, output, language):
                    yield _fault(f"'{truncate(word)}' appears, which was forbidden", "say it in other words")
    for pattern in _REQUIRED:
        for found in pattern.finditer(instruction):
            for word in _QUOTED.findall(found["words"]):
                if word.casefold() not in output.casefold():
                    yield _fault(f"'{truncate(word)}' doesn't appear, which was asked for", "work it in")


def _appears(word: str, output: str, language: Language) -> bool:
    if language is Language.EN:
        return re.search(rf"\b{re.escape(word)}\b", output, re.IGNORECASE) is not None
    return word in output


def _range(fewest: int, most: int) -> str:
    return str(fewest) if fewest == most else f"{fewest} to {most}"


def _fault(what: str, why: str) -> Issue:
    return Issue(Severity.WARNING, what, why)
