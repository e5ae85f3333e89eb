"""Find parallel languages that contradict each other in numbers, names, choices or labels.

The languages of a group teach the same thought, so an adapter that sees two answers to one question learns neither.
Compared are quantities and dates, yes and no, option labels, and names; sentence vectors only choose between
candidates, as they can't tell a sentence from its negation.

A name in another script proves little by itself (ウィーン is Vienna). A rival proves more: another name that the record
has elsewhere and that fits the answer of the other language better, so that answers were probably swapped. Names are
compared by consonants: vowels and voicing get lost on the way into katakana, consonants stay in order (after phonetic
keys such as Soundex). Names that Japanese took from another language than English are left to the encoder.

Example:
    The outputs "1872年です。" and "It was in 1827.": one error in ja.output, "'1872年' against '1827' (ja and en)".
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from pypinyin import lazy_pinyin

from bonsai.builder.checks.base import Finding, Issue, QAView, Severity, iter_qa_views
from bonsai.builder.checks.contradiction import yes_no_polarity
from bonsai.builder.checks.paraphrase import ENGLISH_EMPTY, embed
from bonsai.builder.checks.quantities import (
    Confidence,
    Quantity,
    extract_quantities,
    join_texts,
    quantity_mismatch,
    share_dimension,
    unmatched,
    unmatched_digits,
)
from bonsai.builder.checks.text import normalize_alnum
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import SINGLE_ANSWER, Category, Language

FEW = 2
"""A slip changes a number or two; more of them are another way of reasoning."""
SHORT_ANSWER = 90
"""Characters up to which an answer names something rather than explaining it; not the 60 of `contradiction` on purpose:
there words are compared, here sentence vectors and sounds."""
ALIKE = 0.62
"""Cosine of two answers in different languages from which they surely name the same."""
FAR = 0.35
"""Likelihood below which two names are surely not the same."""
HEARD = 0.75
"""Similarity of sound from which a name surely occurs in a Chinese answer."""
MARGIN = 0.15
"""How much likelier a rival must be."""
SOUND_FROM = 0.75
"""Consonants alone mislead below, and where there are fewer than ``ENOUGH``: many short names share two of them."""
ENOUGH = 3
BARE_NAME = 30
"""Characters up to which a text may be nothing but a name, so that its first word counts."""

_CLAUSE = re.compile(r"[。：:;；？?！!.()（）\n]+(?!\d)")
_BETWEEN = re.compile(
    r"[、，,・/／]\s*(?:or |and )?|\s+(?:or|and)\s+|または|もしくは|あるいは|还是|或者?|和"
    r"|(?<=[^、])と(?=[^い])|(?<=[一-鿿])か(?=[一-鿿])"
)
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_QUOTED = re.compile(r"[「『“\"]([^」』”\"]{1,30})[」』”\"]")
_LETTER = re.compile(r"(?<![A-Za-z])([A-H])(?![A-Za-z'])|(?<![ァ-ヴー])([アイウエオ])(?![ァ-ヴー])|([①-⑧])")
_KANA_ORDER = "アイウエオ"

_KATAKANA = re.compile(r"[ァ-ヴ][ァ-ヴー]+")
_HAN = re.compile(r"[一-鿿]{2,}")
_PERSON = re.compile(r"[一-鿿]{1,4}(?=さん|くん|先生|氏)")
_CAPITALISED = re.compile(r"[A-ZÀ-Þ][a-zà-öø-ɏ]+(?:-[A-Z][a-zà-öø-ɏ]+)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;]\s+|\n\s*|[\"“(]\s*)$")
_WORD = re.compile(r"[ァ-ヴ][ァ-ヴー]+|[a-zà-öø-ɏ]{4,}")
"""What two languages can share to the letter: a katakana word, a word in Latin letters."""

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


class AnswerMismatch(NamedTuple):
    """What two texts differ in, and whether that is certain."""

    message: str
    certain: bool


def check_parallel(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Return at most one finding for each field and pair of languages; creative records aren't compared."""
    findings: list[Finding] = []
    embed([one.output for one in iter_qa_views(groups) if could_be_name(one)])  # all at once is faster than in pairs
    for located in groups:
        category = located.group.category
        if category is Category.CREATIVE:
            continue
        one_answer = category in SINGLE_ANSWER and category is not Category.TRANSLATION
        for ours, theirs in combinations(iter_qa_views([located]), 2):
            # 1. Quantities of question and answer; the ideas of a brainstorming may be others.
            found = {"input" if ours.input else "instruction": _quantity_mismatch(ours.question, theirs.question)}
            answer = "text" if category is Category.TRANSLATION else "output"
            if category is not Category.BRAINSTORMING:
                found[answer] = _quantity_mismatch(ours.output, theirs.output)

            # 2. The answers themselves, and numbers of the Reasoning.
            if one_answer:
                found[answer] = found[answer] or find_mismatch(ours, theirs)
                found["reasoning"] = _numeric_slip(ours, theirs) or _numeric_slip(theirs, ours)
            for field, mismatch in found.items():
                if mismatch:
                    issue = Issue(
                        Severity.ERROR if mismatch.certain else Severity.WARNING,
                        f"{mismatch.message} ({ours.language.value} and {theirs.language.value})",
                        "the languages of a group say the same; correct the one that is wrong",
                    )
                    findings.append(issue.to_finding("parallel", located, f"{ours.language.value}.{field}"))
    return findings


def _quantity_mismatch(first: str, second: str) -> AnswerMismatch | None:
    """Find quantities that each side has and the other lacks (an error), or has less often (a warning)."""
    mismatch = quantity_mismatch(first, second)
    if all(mismatch):
        return AnswerMismatch(_describe(*mismatch), certain=True)
    here, there = extract_quantities(first), extract_quantities(second)
    more, less = unmatched_digits(here, there), unmatched_digits(there, here)
    if any(share_dimension(one, other) for one in more for other in less):
        return AnswerMismatch(_describe(more, less), certain=False)
    return None


def _numeric_slip(ours: QAView, theirs: QAView) -> AnswerMismatch | None:
    """Find a number of our Reasoning that their whole record lacks, where theirs has one of its kind that ours lacks.

    Only a number or two: Reasoning may take another road.
    """

    def in_digits(found: Sequence[Quantity]) -> list[Quantity]:
        return list({one.readings: one for one in found if one.weight is Confidence.DIGITS}.values())

    whole = "\n".join((theirs.question, theirs.reasoning, theirs.output))
    here = in_digits(unmatched(extract_quantities(ours.reasoning), extract_quantities(whole)))
    there = in_digits(unmatched(extract_quantities(theirs.reasoning), extract_quantities(ours.reasoning)))
    few = len(here) <= FEW and len(there) <= FEW
    alike = few and any(share_dimension(one, other) for one in here for other in there)
    return AnswerMismatch(_describe(here, there), certain=False) if alike else None


def _describe(first: Sequence[Quantity], second: Sequence[Quantity]) -> str:
    return f"{join_texts(first)!r} against {join_texts(second)!r}"


def could_be_name(one: QAView) -> bool:
    """Return whether the answer may be a name, which `find_mismatch` compares by sentence vectors."""
    return one.located.group.category in (Category.OPEN_QA, Category.CLOSED_QA) and len(one.output) <= SHORT_ANSWER


def find_mismatch(ours: QAView, theirs: QAView) -> AnswerMismatch | None:
    """Return what two answers differ in; `None` where they may well be the same."""
    pair = f"{ours.output.strip()[:60]!r} against {theirs.output.strip()[:60]!r}"

    # 1. Yes against no, and lettered choices.
    yes, no = yes_no_polarity(ours.output), yes_no_polarity(theirs.output)
    if yes is not None and no is not None and yes != no:
        return AnswerMismatch(pair, certain=True)
    choices, others = choice_letters(ours.output), choice_letters(theirs.output)
    if choices and others and choices.isdisjoint(others):
        return AnswerMismatch(pair, certain=True)
    if ours.located.group.category is Category.CLASSIFICATION:
        return _label_mismatch(ours, theirs)
    if not could_be_name(ours) or not could_be_name(theirs):
        return None

    # 2. Names: the same if the answers share a word or mean nearly the same.
    here, there = embed([ours.output, theirs.output])
    cosine = float(here @ there)
    shared = set(_WORD.findall(ours.output.casefold())) & set(_WORD.findall(theirs.output.casefold()))
    if cosine >= ALIKE or shared:
        return None

    # 3. A rival in one record is likely, one in both is certain.
    rivals = [rival for rival in (_rival_name(ours, theirs), _rival_name(theirs, ours)) if rival]
    if rivals:
        return AnswerMismatch(f"{pair} (rather {' and '.join(map(repr, rivals))})", certain=len(rivals) > 1)

    # 4. No rival, but names that have nothing to do with each other.
    our_names, their_names = names(ours.output, ours.language), names(theirs.output, theirs.language)
    if our_names and their_names and not any(name in theirs.output for name in our_names):
        likeliest = max(same_name(one, other) for one in our_names for other in their_names) if cosine < FAR else 1.0
        if likeliest < FAR:
            return AnswerMismatch(pair, certain=False)
    return None


def _label_mismatch(ours: QAView, theirs: QAView) -> AnswerMismatch | None:
    here, there = parse_labels(ours.output), parse_labels(theirs.output)
    if len(here) != len(there):
        return None
    lines = [(item, label, other) for (item, label), (_, other) in zip(here, there, strict=True)]
    # one label corresponds to two of the other language, though labels do repeat
    pairs = {(normalize_alnum(label), normalize_alnum(other)) for _, label, other in lines}
    sizes = sorted((len({label for label, _ in pairs}), len({other for _, other in pairs})))
    if len(lines) > 2 and (len(pairs) > sizes[1] or sizes[1] > sizes[0] > 1):
        listed = ", ".join(f"{item} {label!r}/{other!r}" for item, label, other in lines)
        return AnswerMismatch(f"labels don't correspond: {listed}", certain=True)
    for item, label, other in lines:
        rival = conflicting_option(label, ours.instruction, other, theirs.instruction)
        if rival:
            return AnswerMismatch(f"{item} {label!r} against {other!r} (rather {rival!r})".strip(), certain=True)
    return None


def _rival_name(ours: QAView, theirs: QAView) -> str | None:
    """Find a name elsewhere in their record that fits our answer better than any in their answer."""
    our_names = names(ours.output, ours.language)
    elsewhere = names(f"{theirs.question}\n{theirs.reasoning}", theirs.language)
    rivals = [name for name in elsewhere if name not in theirs.output and name not in ours.output]
    their_names = names(theirs.output, theirs.language) or [theirs.output]
    if not rivals or any(name in theirs.output for name in our_names):
        return None
    chinese = ours.language is Language.ZH

    def likelihood(name: str) -> float:
        if chinese:
            return sounds_alike_in(name, ours.output)
        return max(same_name(one, name) for one in our_names or [ours.output])

    best = max(rivals, key=likelihood)
    lead = likelihood(best) - max(map(likelihood, their_names))
    if chinese:  # where names don't show by their script, so that other words may sound alike by chance
        return best if likelihood(best) >= HEARD and lead >= 2 * MARGIN else None
    return best if lead >= MARGIN else None


def choice_letters(answer: str) -> frozenset[int]:
    """Return the lettered choices that an answer names, counted from 0: A, ア and ① are 0."""
    found = set()
    for latin, kana, circled in _LETTER.findall(answer):
        found.add(ord(latin) - ord("A") if latin else _KANA_ORDER.index(kana) if kana else ord(circled) - ord("①"))
    return frozenset(found)


def parse_labels(answer: str) -> list[tuple[str, str]]:
    """Parse ``item: label`` of each line, or one pair with an empty item."""
    pairs = []
    for line in answer.strip().splitlines():
        item, colon, label = re.sub(r"[。.]$", "", line.strip()).replace("：", ":").partition(":")
        pairs.append((item.strip(), label.strip()) if colon else ("", item.strip()))
    return pairs


def offered_labels(instruction: str, label: str) -> list[str]:
    """Return the options that include ``label``: quoted words, or the members of a list in one clause; else nothing."""
    wanted = normalize_alnum(label)
    quoted = _QUOTED.findall(instruction)
    if len(quoted) > 1 and any(normalize_alnum(words) == wanted for words in quoted):
        return [words.strip("，。、,. ") for words in quoted]
    for clause in _CLAUSE.split(instruction):
        pieces = [_ARTICLE.sub("", piece.strip()) for piece in _BETWEEN.split(clause) if piece and piece.strip()]
        if len(pieces) > 1:
            ends = _trim_option(pieces[0], label, at_end=True), _trim_option(pieces[-1], label, at_end=False)
            options = [ends[0], *pieces[1:-1], ends[1]]
            if wanted in map(normalize_alnum, options):
                return options
    return []


def _trim_option(piece: str, label: str, *, at_end: bool) -> str:
    """Return the label, where the list's first member ends with it or its last begins with it: "class it as spring"."""
    if not piece.isascii():
        found = piece.endswith(label) if at_end else piece.startswith(label)
        return label if found else piece
    words, wanted = piece.casefold().split(), label.casefold().split()
    near = words[-len(wanted) :] if at_end else words[: len(wanted)]
    return label if near == wanted else " ".join(near)


def conflicting_option(ours: str, our_instruction: str, theirs: str, their_instruction: str) -> str | None:
    """Return the option of theirs that our label rather means; `None` where the two labels may well be the same.

    Options come in one order in all languages, as a rule; where the positions differ, sentence vectors must not
    contradict that, and where they can't be compared, sentence vectors must show the conflict themselves.
    """
    our_options, their_options = offered_labels(our_instruction, ours), offered_labels(their_instruction, theirs)
    here, there = _index(ours, our_options), _index(theirs, their_options)
    aligned = len(our_options) == len(their_options)
    if here is None or there is None or (aligned and here == there):
        return None
    rival, margin = _closest_rival(ours, theirs, their_options)
    _, back = _closest_rival(theirs, ours, our_options)
    return rival if min(margin, back) >= (-MARGIN if aligned else MARGIN) else None


def _index(label: str, options: list[str]) -> int | None:
    wanted = normalize_alnum(label)
    return next((index for index, option in enumerate(options) if normalize_alnum(option) == wanted), None)


def _closest_rival(label: str, answer: str, options: list[str]) -> tuple[str, float]:
    rivals = [option for option in options if normalize_alnum(option) != normalize_alnum(answer)]
    if not rivals:
        return "", 0.0
    label_vector, answer_vector, *rows = embed([label, answer, *rivals])
    cosines = [float(label_vector @ row) for row in rows]
    best = max(range(len(rivals)), key=cosines.__getitem__)
    return rivals[best], cosines[best] - float(label_vector @ answer_vector)


def names(text: str, language: Language) -> list[str]:
    """Return names that show by their script: katakana words and people in Japanese, capitalized words in English."""
    if language is Language.JA:
        return [*dict.fromkeys([*_KATAKANA.findall(text), *_PERSON.findall(text)])]
    if language is not Language.EN:
        return []
    found: dict[str, None] = {}
    for match in _CAPITALISED.finditer(text):
        if match[0].lower() not in ENGLISH_EMPTY and (
            not _SENTENCE_START.search(text, 0, match.start()) or len(text) <= BARE_NAME
        ):
            found[match[0]] = None
    return list(found)


@functools.lru_cache(maxsize=65_536)
def consonants(name: str) -> str:
    """Return the class of each consonant, doubled ones once: Budapest and ブダペスト are PTPST, 布达佩斯 is PTPS."""
    if _KATAKANA.match(name):
        rows = "".join(_KANA.get(kana, "") for kana in name)
    elif _HAN.match(name):
        rows = ""
        for syllable in lazy_pinyin(name):
            rows += next((row for letters, row in _PINYIN if syllable.startswith(letters)), "")
            rows += "N" if syllable[1:].rstrip("g").endswith("n") else ""
    else:
        plain = "".join(
            each for each in unicodedata.normalize("NFKD", name).lower() if each.isascii() and each.isalpha()
        )
        plain = re.sub(r"c(?=[eiy])", "s", plain)
        for letters, row in _LATIN:
            plain = plain.replace(letters, row)
        rows = "".join(_LETTERS.get(each, each if each.isupper() else "") for each in plain)
    return re.sub(r"(.)\1+", r"\1", rows)


def sounds_alike(first: str, second: str) -> float:
    """Return 1 for the same consonants, 0 for none in common; a missing R (Baker, ベーカー) hardly counts."""
    ours, theirs = consonants(first), consonants(second)
    if not ours or not theirs:
        return 0.0
    distance = min(_edit_distance(ours, theirs), 0.5 + _edit_distance(ours.replace("R", ""), theirs.replace("R", "")))
    return max(0.0, 1 - distance / max(len(ours), len(theirs)))


def sounds_alike_in(name: str, chinese: str) -> float:
    """Return how much a name sounds like the most similar stretch of a short Chinese text (0 to 1)."""
    wanted = len(consonants(name))
    if wanted < ENOUGH:
        return 0.0
    stretches = {
        run[start : start + size]
        for run in _HAN.findall(chinese)
        for size in range(max(2, wanted - 1), wanted + 2)
        for start in range(max(1, len(run) - size + 1))
    }
    return max((sounds_alike(name, stretch) for stretch in stretches), default=0.0)


def _edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, 1):
        diagonal, row[0] = row[0], number
        for column, other in enumerate(second, 1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (letter != other))
    return row[-1]


def same_name(first: str, second: str) -> float:
    """Return how likely two names are the same (0 to 1): by sound where that is sure, else by sentence vectors."""
    sound = sounds_alike(first, second)
    if sound >= SOUND_FROM and min(len(consonants(first)), len(consonants(second))) >= ENOUGH:
        return sound
    ours, theirs = embed([first, second])
    return max(float(ours @ theirs), sound / 2)
