"""Find parallel languages that contradict each other in numbers, names, choices or labels.

Vowels and voicing get lost on the way into katakana, consonants stay in order (after the phonetic keys of Soundex
and its kin); names that Japanese took from another language than English (ウィーン) are left to the encoder.

A name in another script proves little by itself (ウィーン is Vienna). What proves more is a rival: another name that
the record holds elsewhere and that fits the answer of the other language better. Answers were then swapped.

Each language teaches the same thought, so an adapter that sees two answers to one question learns neither. Compared are
quantities and dates, yes and no, option labels, and names; sentence vectors only choose between candidates, as they
can't tell a sentence from its negation.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from pypinyin import lazy_pinyin

from bonsai.builder.checks.base import Finding, QAView, Severity, iter_qa_views
from bonsai.builder.checks.contradiction import yes_no_polarity
from bonsai.builder.checks.paraphrase import ENGLISH_EMPTY, embed, normalize_alnum
from bonsai.builder.checks.quantities import (
    Confidence,
    Quantity,
    extract_quantities,
    quantity_mismatch,
    share_dimension,
    unmatched,
    unmatched_digits,
)
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import SINGLE_ANSWER, Category, Language

_CLAUSE = re.compile(r"[。：:;；？?！!.()（）\n]+(?!\d)")
_BETWEEN = re.compile(
    r"[、，,・/／]\s*(?:or |and )?|\s+(?:or|and)\s+|または|もしくは|あるいは|还是|或者?|和"
    r"|(?<=[^、])と(?=[^い])|(?<=[一-鿿])か(?=[一-鿿])"
)
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_QUOTED = re.compile(r"[「『“\"]([^」』”\"]{1,30})[」』”\"]")
_LETTER = re.compile(r"(?<![A-Za-z])([A-H])(?![A-Za-z'])|(?<![ァ-ヴー])([アイウエオ])(?![ァ-ヴー])|([①-⑧])")
_KANA_ORDER = "アイウエオ"
_MARGIN = 0.15


def choice_letters(answer: str) -> frozenset[int]:
    """The lettered choices an answer names, counted from 0: A, ア and ① are 0."""
    places = set()
    for latin, kana, circled in _LETTER.findall(answer):
        places.add(ord(latin) - ord("A") if latin else _KANA_ORDER.index(kana) if kana else ord(circled) - ord("①"))
    return frozenset(places)


def parse_labels(answer: str) -> list[tuple[str, str]]:
    """``item: label`` of each line, or one pair with an empty item."""
    pairs = []
    for line in answer.strip().splitlines():
        item, colon, label = re.sub(r"[。.]$", "", line.strip()).replace("：", ":").partition(":")
        pairs.append((item.strip(), label.strip()) if colon else ("", item.strip()))
    return pairs


def offered_labels(instruction: str, label: str) -> list[str]:
    """The options among which ``label`` stands: quoted words, or the members of a list in one clause; else nothing."""
    wanted = normalize_alnum(label)
    quoted = _QUOTED.findall(instruction)
    if len(quoted) > 1 and any(normalize_alnum(words) == wanted for words in quoted):
        return [words.strip("，。、,. ") for words in quoted]
    for clause in _CLAUSE.split(instruction):
        pieces = [_ARTICLE.sub("", piece.strip()) for piece in _BETWEEN.split(clause) if piece and piece.strip()]
        if len(pieces) > 1:
            ends = _cut(pieces[0], label, at_end=True), _cut(pieces[-1], label, at_end=False)
            options = [ends[0], *pieces[1:-1], ends[1]]
            if wanted in map(normalize_alnum, options):
                return options
    return []


def _cut(piece: str, label: str, *, at_end: bool) -> str:
    """The label, where the list's first member ends with it or its last begins with it: "class it as spring"."""
    if not piece.isascii():
        found = piece.endswith(label) if at_end else piece.startswith(label)
        return label if found else piece
    words, wanted = piece.casefold().split(), label.casefold().split()
    near = words[-len(wanted) :] if at_end else words[: len(wanted)]
    return label if near == wanted else " ".join(near)


def conflicting_option(ours: str, our_instruction: str, theirs: str, their_instruction: str) -> str | None:
    """The option of theirs that our label rather means; None where the two labels may well be the same.

    Options stand in one order in all languages, as a rule; where the places differ, or can't be told, sentence vectors
    have the last word: they must not contradict, or must say so themselves.
    """
    mine, others = offered_labels(our_instruction, ours), offered_labels(their_instruction, theirs)
    here, there = _place(ours, mine), _place(theirs, others)
    if here is None or there is None or (len(mine) == len(others) and here == there):
        return None
    rival, margin = _closest_rival(ours, theirs, others)
    _, back = _closest_rival(theirs, ours, mine)
    needed = -_MARGIN if len(mine) == len(others) else _MARGIN
    return rival if min(margin, back) >= needed else None


def _place(label: str, options: list[str]) -> int | None:
    wanted = normalize_alnum(label)
    return next((place for place, option in enumerate(options) if normalize_alnum(option) == wanted), None)


def _closest_rival(label: str, answer: str, options: list[str]) -> tuple[str, float]:
    rivals = [option for option in options if normalize_alnum(option) != normalize_alnum(answer)]
    if not rivals:
        return "", 0.0
    label_vector, answer_vector, *rows = embed([label, answer, *rivals])
    cosines = [float(label_vector @ row) for row in rows]
    best = max(range(len(rivals)), key=cosines.__getitem__)
    return rivals[best], cosines[best] - float(label_vector @ answer_vector)


_KATAKANA = re.compile(r"[ァ-ヴ][ァ-ヴー]+")
_HAN = re.compile(r"[一-鿿]{2,}")
_PERSON = re.compile(r"[一-鿿]{1,4}(?=さん|くん|先生|氏)")
_CAPITALISED = re.compile(r"[A-ZÀ-Þ][a-zà-öø-ɏ]+(?:-[A-Z][a-zà-öø-ɏ]+)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;]\s+|\n\s*|[\"“(]\s*)$")

_SURE = 0.75
"""Consonants alone mislead below, and where there are fewer than ``_ENOUGH``: many short names share two of them."""
_ENOUGH = 3
_BARE_NAME = 30
"""Characters up to which a text may be nothing but a name, so that its first word counts."""

_ROWS = {
    "K": "カキクケコガギグゲゴヵヶ",
    "S": "サシスセソザジズゼゾチツヂヅ",
    "T": "タテトダデド",
    "N": "ナニヌネノマミムメモン",
    "P": "パピプペポバビブベボヴフ",
    "R": "ラリルレロ",
}
_KANA = {kana: row for row, members in _ROWS.items() for kana in members}
_LATIN = (
    ("tch", "S"), ("sch", "S"), ("ch", "S"), ("sh", "S"), ("th", "S"), ("ph", "P"), ("ck", "K"), ("qu", "K"),
    ("ts", "S"), ("tz", "S"), ("x", "KS"), ("wr", "R"), ("kn", "N"), ("gh", ""),
)  # fmt: skip
_PINYIN = (
    ("zh", "S"), ("ch", "S"), ("sh", "S"), ("b", "P"), ("p", "P"), ("f", "P"), ("d", "T"), ("t", "T"), ("g", "K"),
    ("k", "K"), ("j", "S"), ("q", "S"), ("x", "S"), ("z", "S"), ("c", "S"), ("s", "S"), ("m", "N"), ("n", "N"),
    ("l", "R"), ("r", "R"),
)  # fmt: skip
_LETTERS = dict(zip("bfpvcgkqdtjszlrmn", "PPPPKKKKTTSSSRRNN", strict=True))


def names(text: str, language: Language) -> list[str]:
    """The names a text shows by their script: katakana words and people in Japanese, capitalised words in English."""
    if language is Language.JA:
        return [*dict.fromkeys([*_KATAKANA.findall(text), *_PERSON.findall(text)])]
    if language is not Language.EN:
        return []
    found: dict[str, None] = {}
    for match in _CAPITALISED.finditer(text):
        if match[0].lower() not in ENGLISH_EMPTY and (
            not _SENTENCE_START.search(text, 0, match.start()) or len(text) <= _BARE_NAME
        ):
            found[match[0]] = None
    return list(found)


@functools.lru_cache(maxsize=65_536)
def consonants(name: str) -> str:
    """The row of each consonant, doubled ones once: Budapest and ブダペスト are both PTPST, 布达佩斯 is PTPS."""
    if _KATAKANA.match(name):
        rows = "".join(_KANA.get(kana, "") for kana in name)
    elif _HAN.match(name):
        rows = "".join(_syllable(syllable) for syllable in lazy_pinyin(name))
    else:
        plain = "".join(
            each for each in unicodedata.normalize("NFKD", name).lower() if each.isascii() and each.isalpha()
        )
        plain = re.sub(r"c(?=[eiy])", "s", plain)
        for letters, row in _LATIN:
            plain = plain.replace(letters, row)
        rows = "".join(_LETTERS.get(each, each if each.isupper() else "") for each in plain)
    return re.sub(r"(.)\1+", r"\1", rows)


def _syllable(pinyin: str) -> str:
    start = next((row for letters, row in _PINYIN if pinyin.startswith(letters)), "")
    return start + ("N" if pinyin[1:].rstrip("g").endswith("n") else "")


def sounds_alike(first: str, second: str) -> float:
    """1 for the same consonants, 0 for none in common; an R that one side lacks (Baker, ベーカー) hardly counts."""
    ours, theirs = consonants(first), consonants(second)
    if not ours or not theirs:
        return 0.0
    distance = min(_distance(ours, theirs), 0.5 + _distance(ours.replace("R", ""), theirs.replace("R", "")))
    return max(0.0, 1 - distance / max(len(ours), len(theirs)))


def sounds_alike_in(name: str, chinese: str) -> float:
    """How much like the name the stretch of Chinese text sounds that sounds most like it; for short texts."""
    wanted = len(consonants(name))
    if wanted < _ENOUGH:
        return 0.0
    stretches = {
        run[start : start + size]
        for run in _HAN.findall(chinese)
        for size in range(max(2, wanted - 1), wanted + 2)
        for start in range(max(1, len(run) - size + 1))
    }
    return max((sounds_alike(name, stretch) for stretch in stretches), default=0.0)


def _distance(first: str, second: str) -> int:
    """Levenshtein's."""
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, 1):
        above, row[0] = row[0], number
        for place, other in enumerate(second, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (letter != other))
    return row[-1]


def same_name(first: str, second: str) -> float:
    """How likely two names are the same (0 to 1): by sound where that is sure, else by what the encoder knows."""
    heard = sounds_alike(first, second)
    if heard >= _SURE and min(len(consonants(first)), len(consonants(second))) >= _ENOUGH:
        return heard
    ours, theirs = embed([first, second])
    return max(float(ours @ theirs), heard / 2)


_WORD = re.compile(r"[ァ-ヴ][ァ-ヴー]+|[a-zà-öø-ɏ]{4,}")
"""What two languages can share to the letter: a katakana word, a word in Latin letters."""

SHORT = 90
"""Characters up to which an answer names something rather than explaining it."""
ALIKE = 0.62
"""Cosine of two answers in different languages from which they surely name the same."""
FAR = 0.35
"""Likelihood below which two names are surely not the same."""
HEARD = 0.75
"""Likeness of sound from which a name is surely heard in a Chinese answer."""
MARGIN = 0.15
"""How much likelier a rival must be."""


class AnswerMismatch(NamedTuple):
    """Two answers that don't name the same, and whether that is certain."""

    what: str
    sure: bool


def could_be_name(one: QAView) -> bool:
    """Whether the answer may be a name: what `other_answer` compares by sentence vectors."""
    return one.located.group.category in (Category.OPEN_QA, Category.CLOSED_QA) and len(one.output) <= SHORT


def find_mismatch(ours: QAView, theirs: QAView) -> AnswerMismatch | None:
    """What the two answers differ in; None where they may well be the same."""
    told = f"{ours.output.strip()[:60]!r} against {theirs.output.strip()[:60]!r}"
    yes, no = yes_no_polarity(ours.output), yes_no_polarity(theirs.output)
    if yes is not None and no is not None and yes != no:
        return AnswerMismatch(told, sure=True)
    here, there = choice_letters(ours.output), choice_letters(theirs.output)
    if here and there and here.isdisjoint(there):
        return AnswerMismatch(told, sure=True)
    if ours.located.group.category is Category.CLASSIFICATION:
        return _labels(ours, theirs)
    return _names(ours, theirs, told) if could_be_name(ours) and could_be_name(theirs) else None


def _labels(ours: QAView, theirs: QAView) -> AnswerMismatch | None:
    here, there = parse_labels(ours.output), parse_labels(theirs.output)
    if len(here) != len(there):
        return None
    lines = [(item, label, other) for (item, label), (_, other) in zip(here, there, strict=True)]
    if len(lines) > 2 and _crossed([(normalize_alnum(label), normalize_alnum(other)) for _, label, other in lines]):
        return AnswerMismatch(
            "labels don't correspond: " + ", ".join(f"{a} {b!r}/{c!r}" for a, b, c in lines), sure=True
        )
    for item, label, other in lines:
        rival = conflicting_option(label, ours.instruction, other, theirs.instruction)
        if rival:
            return AnswerMismatch(f"{item} {label!r} against {other!r} (rather {rival!r})".strip(), sure=True)
    return None


def _crossed(pairs: list[tuple[str, str]]) -> bool:
    """Whether one label stands for two of the other language, though labels do repeat."""
    ours, theirs = {label for label, _ in pairs}, {label for _, label in pairs}
    return len(set(pairs)) > max(len(ours), len(theirs)) or (
        len(ours) != len(theirs) and min(len(ours), len(theirs)) > 1
    )


def _names(ours: QAView, theirs: QAView, told: str) -> AnswerMismatch | None:
    here, there = embed([ours.output, theirs.output])
    shared = set(_WORD.findall(ours.output.casefold())) & set(_WORD.findall(theirs.output.casefold()))
    if float(here @ there) >= ALIKE or shared:
        return None
    rivals = [rival for rival in (_rival(ours, theirs), _rival(theirs, ours)) if rival]
    if rivals:
        return AnswerMismatch(f"{told} (rather {' and '.join(map(repr, rivals))})", sure=len(rivals) > 1)
    mine, said = names(ours.output, ours.language), names(theirs.output, theirs.language)
    strangers = mine and said and not any(name in theirs.output for name in mine)
    if strangers and float(here @ there) < FAR and max(same_name(one, other) for one in mine for other in said) < FAR:
        return AnswerMismatch(told, sure=False)
    return None


def _rival(ours: QAView, theirs: QAView) -> str | None:
    """A name their record holds elsewhere that fits our answer better than any in their answer."""
    mine = names(ours.output, ours.language)
    elsewhere = names(f"{theirs.question}\n{theirs.reasoning}", theirs.language)
    rivals = [name for name in elsewhere if name not in theirs.output and name not in ours.output]
    said = names(theirs.output, theirs.language) or [theirs.output]
    if not rivals or any(name in theirs.output for name in mine):
        return None
    if ours.language is Language.ZH:
        best, likely = max(((name, sounds_alike_in(name, ours.output)) for name in rivals), key=lambda found: found[1])
        known = max(sounds_alike_in(name, ours.output) for name in said)
        return best if likely >= HEARD and likely - known >= 2 * MARGIN else None
    mine = mine or [ours.output]
    best, likely = max(
        ((name, max(same_name(one, name) for one in mine)) for name in rivals), key=lambda found: found[1]
    )
    return best if likely - max(same_name(one, name) for one in mine for name in said) >= MARGIN else None


FEW = 2
"""A slip changes a number or two; more of them are another way of reasoning."""


class _Conflict(NamedTuple):
    field: str
    severity: Severity
    what: str


def check_parallel(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """At most one finding for each field and pair of languages; creative records aren't compared."""
    embed([one.output for one in iter_qa_views(groups) if could_be_name(one)])
    for located in groups:
        if located.group.category is Category.CREATIVE:
            continue
        for ours, theirs in combinations(iter_qa_views([located]), 2):
            for conflict in _conflicts(ours, theirs):
                yield Finding(
                    check="parallel",
                    severity=conflict.severity,
                    place=located.place,
                    group_id=located.group.id,
                    field=f"{ours.language.value}.{conflict.field}",
                    what=f"{conflict.what} ({ours.language.value} and {theirs.language.value})",
                    why="the languages of a group say the same; correct the one that is wrong",
                )


def _conflicts(ours: QAView, theirs: QAView) -> Iterator[_Conflict]:
    category = ours.located.group.category
    yield from _changed("input" if ours.input else "instruction", ours.question, theirs.question)
    answer = "text" if category is Category.TRANSLATION else "output"
    changed = [] if category is Category.BRAINSTORMING else list(_changed(answer, ours.output, theirs.output))
    if changed:
        yield from changed
    elif category in SINGLE_ANSWER and category is not Category.TRANSLATION:
        other = find_mismatch(ours, theirs)
        if other:
            yield _Conflict("output", Severity.ERROR if other.sure else Severity.WARNING, other.what)
    if category in SINGLE_ANSWER and category is not Category.TRANSLATION:
        found = _numeric_slip(ours, theirs) or _numeric_slip(theirs, ours)
        if found:
            yield _Conflict("reasoning", Severity.WARNING, found)


def _changed(field: str, first: str, second: str) -> Iterator[_Conflict]:
    """Quantities that each side has and the other lacks (an error), or has less often (a warning)."""
    found = quantity_mismatch(first, second)
    if all(found):
        yield _Conflict(field, Severity.ERROR, _describe(*found))
        return
    here, there = extract_quantities(first), extract_quantities(second)
    more, less = unmatched_digits(here, there), unmatched_digits(there, here)
    if any(share_dimension(one, other) for one in more for other in less):
        yield _Conflict(field, Severity.WARNING, _describe(more, less))


def _describe(first: Sequence[Quantity], second: Sequence[Quantity]) -> str:
    return f"{', '.join(each.text for each in first)!r} against {', '.join(each.text for each in second)!r}"


def _numeric_slip(ours: QAView, theirs: QAView) -> str | None:
    """A number of our Reasoning that their whole record lacks, where theirs has one of its kind that ours lacks.

    Only a number or two: Reasoning may take another road.
    """
    whole = "\n".join((theirs.question, theirs.reasoning, theirs.output))
    here = _written(unmatched(extract_quantities(ours.reasoning), extract_quantities(whole)))
    there = _written(unmatched(extract_quantities(theirs.reasoning), extract_quantities(ours.reasoning)))
    few = len(here) <= FEW and len(there) <= FEW
    return (
        _describe(here, there) if few and any(share_dimension(one, other) for one in here for other in there) else None
    )


def _written(found: Sequence[Quantity]) -> list[Quantity]:
    return list({one.readings: one for one in found if one.weight is Confidence.DIGITS}.values())
