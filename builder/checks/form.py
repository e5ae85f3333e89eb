"""Check the form that each category requires: lists, labels, questions, constraints, lengths."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations

from bonsai.builder.checks.base import (
    Finding,
    Issue,
    Severity,
    TextField,
    extract_previous_question,
    to_findings,
    truncate,
)
from bonsai.builder.checks.constraints import constraint_issues
from bonsai.builder.checks.numbers import digits_in, is_derivable, requested_counts, values_in
from bonsai.builder.checks.reasoning import dice_overlap, normalize
from bonsai.builder.checks.repetition import is_trivial_extension, normalize_clause
from bonsai.builder.checks.text import CJK_LETTER, split_sentences
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Language, Text, TextGroup

FEWEST, MOST = 4, 8

_ITEM = re.compile(r"\s*(?P<number>\d{1,2})\s*[.．、)）:：]\s*(?P<idea>\S.*)")


def parse_numbered_list(output: str) -> list[tuple[int, str]]:
    """Number and text of each line that begins with a number."""
    found = (_ITEM.fullmatch(line) for line in output.split("\n"))
    return [(int(item["number"]), item["idea"]) for item in found if item]


def list_issues(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    """What keeps an output from being the list that its instruction asks for."""
    items = parse_numbered_list(output)
    if not items:
        yield _list_issue(f"'{truncate(output)}' is no numbered list", "write one idea a line: '1. …'")
        return
    numbers = [number for number, _ in items]
    if numbers != list(range(1, len(items) + 1)):
        yield _list_issue(f"the items are numbered {numbers}", "number them from 1 without a gap")
    if not FEWEST <= len(items) <= MOST:
        yield _list_issue(f"{len(items)} items", f"give {FEWEST} to {MOST} distinct ideas")
    asked = requested_counts(instruction, language)
    if asked and len(items) not in asked:
        wanted = " or ".join(map(str, sorted(asked)))
        yield _list_issue(f"{len(items)} items where {wanted} were asked for", "give as many as the instruction says")
    beside = [line for line in output.split("\n") if line.strip() and not _ITEM.fullmatch(line)]
    if beside:
        yield _list_issue(f"'{truncate(beside[0])}' is no item", "nothing stands before, between or below the items")
    ideas = [normalize_clause(idea) for _, idea in items]
    for one, other in combinations(range(len(ideas)), 2):
        if ideas[one] == ideas[other] or is_trivial_extension(ideas[one], ideas[other]):
            yield _list_issue(f"items {one + 1} and {other + 1} are the same", "give another idea")


def _list_issue(what: str, why: str) -> Issue:
    return Issue(Severity.WARNING, what, why)


_LINE = re.compile(r"(?P<key>[^：:]+?)\s*[：:]\s*(?P<label>.+)")
_LABEL_KEY = re.compile(r"分類|分类|类别|類別|判定|判断|label|category|class", re.IGNORECASE)
_TRANSLATION_KEY = re.compile(r"訳|译文?|翻訳|翻译|translation", re.IGNORECASE)
_POLITE = re.compile(r"(?:です|である|だ)?[。.]?$")
_BETWEEN = re.compile(r"[、,，/／]|\band\b")
_ITEM_SEPARATOR = re.compile(r"[\n、，,/；;]+")
_LETTER = re.compile(r"[A-Za-z0-9甲乙丙丁ア-オ]{1,2}")
_LETTERED = re.compile(r"[A-Za-z0-9甲乙丙丁ア-オ]{1,2}\s*[：:.．、)）]")
_YES_NO = frozenset(("yes", "no", "はい", "いいえ", "是", "不是", "否"))
_GLOSS = re.compile(r"[（(][^（）()]*[）)]")


def label_issues(instruction: str, input_text: str, output: str) -> Iterator[Issue]:
    """Labels the instruction doesn't name, items left out, doubled or made up."""
    rows = [_LINE.fullmatch(line.strip()) for line in output.split("\n") if line.strip()]
    pairs = [(row["key"], row["label"]) for row in rows if row]
    if len(pairs) != len(rows):
        labels = [line.strip() for line in output.split("\n") if line.strip()]
        keys = []
    else:
        wanted = [label for key, label in pairs if _LABEL_KEY.fullmatch(key.strip())]
        labels = wanted or [label for key, label in pairs if not _TRANSLATION_KEY.fullmatch(key.strip())]
        keys = [] if wanted else [key for key, _ in pairs]
    for label in labels:
        yield from _label(_POLITE.sub("", label), instruction, input_text)
    if keys:
        yield from _items(keys, instruction, input_text)


def _label(label: str, instruction: str, input_text: str) -> Iterator[Issue]:
    if names_label(label, instruction) or names_label(label, input_text):
        return
    parts = [part.strip() for part in _BETWEEN.split(label) if part.strip()]
    if len(parts) > 1 and all(names_label(part, instruction) for part in parts):
        yield _label_issue(
            f"'{truncate(label)}' is more than one label", "give one, or say in the instruction that several may fit"
        )
    else:
        yield _label_issue(
            f"'{truncate(label)}' is none of the labels that the instruction names",
            "write one of them, and nothing else; the reason belongs into the Reasoning",
        )


def names_label(label: str, text: str) -> bool:
    """Whether a text names the label; English by stems, so that 'rocky planets' names 'rocky planet'."""
    plain = _plain(label)
    if plain in _YES_NO:
        return True
    if CJK_LETTER.search(plain):
        return plain in _plain(text)
    stems = {_stem(word) for word in re.findall(r"[\w'-]+", _plain(text))}
    return all(_stem(word) in stems for word in re.findall(r"[\w'-]+", plain))


def _stem(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^s]s$", word) else word


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _items(keys: list[str], instruction: str, input_text: str) -> Iterator[Issue]:
    doubled = next((key for n, key in enumerate(keys) if key in keys[:n]), None)
    if doubled:
        yield _label_issue(f"'{truncate(doubled)}' is answered twice", "answer each item once")
    known = _plain(input_text) + "\n" + _plain(instruction)
    for key in keys:
        if _strip_gloss(key) not in known and _plain(key) not in known:
            yield _label_issue(f"'{truncate(key)}' isn't in the input", "answer the items given, by their own names")
            return
    items = _items_of(input_text, keys)
    left_out = [item for item in items if not any(_answers(key, item) for key in keys)]
    if left_out and len(items) - len(left_out) >= max(2, 0.6 * len(items)):
        yield _label_issue(f"'{truncate(left_out[0])}' has no answer", "answer each item of the input")


def _answers(key: str, item: str) -> bool:
    """Whether a key is the item, its letter, or a part of it that no letter or digit goes on from."""
    if _LETTER.fullmatch(key) and _LETTERED.match(item):
        return re.split(r"\s*[：:.．、)）]", item)[0] == key
    bare = re.escape(_strip_gloss(key))
    return re.search(rf"(?<![a-z0-9]){bare}(?![a-z0-9])", _plain(item)) is not None


def _items_of(input_text: str, keys: list[str]) -> list[str]:
    """The items to be answered: lettered lines where the answers are lettered, else lines, else what commas part."""
    lines = [piece for line in input_text.split("\n") if (piece := line.strip())]
    if all(_LETTER.fullmatch(key) for key in keys):
        return [line for line in lines if _LETTERED.match(line)]
    return lines if len(lines) > 1 else [piece for piece in map(str.strip, _ITEM_SEPARATOR.split(input_text)) if piece]


def _strip_gloss(key: str) -> str:
    return _plain(_GLOSS.sub("", key))


def _label_issue(what: str, why: str) -> Issue:
    return Issue(Severity.WARNING, what, why)


_IS_QUESTION = re.compile(r"[?？]$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_SAME = 0.9


def question_issues(input_text: str, output: str) -> Iterator[Issue]:
    """An output that asks nothing, asks twice, says more than its question, or asks what was asked."""
    sentences = split_sentences(output)
    asked = [sentence for sentence in sentences if _IS_QUESTION.search(sentence)]
    if not asked:
        yield _question_issue(f"'{truncate(output)}' asks nothing", "write one question")
    elif len(asked) > 1:
        yield _question_issue(f"{len(asked)} questions", "write one; the others may become steps of the chain")
    elif sentences[-1] is not asked[0]:
        yield _question_issue(
            f"'{truncate(sentences[-1])}' follows the question", "end with the question; the reason is the Reasoning"
        )
    first = extract_previous_question(input_text)
    if normalize(first) == normalize(output) or dice_overlap(first, output) >= _SAME:
        yield _question_issue(f"'{truncate(output)}' was asked already", "ask what the answer leaves open")


def _question_issue(what: str, why: str) -> Issue:
    return Issue(Severity.WARNING, what, why)


CHECK = "form"

_LONG = {Language.JA: 600, Language.ZH: 500, Language.EN: 300}
"""characters, or words of English: three times what the guide calls usual; twice as much is doubted aloud"""
_COUNTED = 20
"""up to here an answer may have been counted off, which leaves no number behind"""
_NAME = re.compile(r"[ァ-ヺー]{3,}|(?<=[a-z,] )[A-Z][a-z]{2,}")


def form_issues(category: Category, text: Text, language: Language) -> Iterator[Issue]:
    """What is wrong with the form of one language of a group."""
    match category:
        case Category.BRAINSTORMING:
            yield from list_issues(text.instruction, text.output, language)
        case Category.CLASSIFICATION:
            yield from label_issues(text.instruction, text.input, text.output)
        case Category.CLOSED_QA:
            yield from _not_in_input(text)
        case Category.QUESTION_TO_QUESTION:
            yield from question_issues(text.input, text.output)
        case Category.CREATIVE:
            yield from constraint_issues(text.instruction, text.output, language)
    yield from length_issues(text.output, language)


def _not_in_input(text: Text) -> Iterator[Issue]:
    """Numbers and names of a closed_qa's answer that neither the passage nor the Reasoning has."""
    known = values_in("\n".join((text.instruction, text.input, text.reasoning)))
    told = values_in(text.reasoning)
    strange = [value for value in digits_in(text.output) if value not in known and not is_derivable(value, told)]
    if strange:
        yield Issue(
            Severity.NOTE if max(strange) <= _COUNTED else Severity.WARNING,
            f"'{_shown(max(strange))}' stands neither in the input nor in the Reasoning",
            "answer from the passage; where it is computed, show how in the Reasoning",
        )
    for name in dict.fromkeys(_NAME.findall(text.output)):
        if name not in text.input + text.instruction + text.reasoning:
            yield Issue(Severity.NOTE, f"'{name}' isn't in the input", "see that the passage gives the answer")


def _shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"


def length_issues(output: str, language: Language) -> Iterator[Issue]:
    """An output that is much longer than others."""
    length = len(output.split()) if language is Language.EN else len(output)
    if length > _LONG[language]:
        unit = "words" if language is Language.EN else "characters"
        severity = Severity.WARNING if length > 2 * _LONG[language] else Severity.NOTE
        yield Issue(
            severity, f"{length} {unit}", "most answers are 20 to 120 words (ja: 40 to 250 characters): shorten it"
        )


def _unequal_lists(group: TextGroup, located: SourcedGroup) -> Iterator[Finding]:
    """The languages of a brainstorming ask for and give the same number of ideas."""
    for language, text in group.texts().items():
        if language is Language.JA:
            continue
        field = TextField(located=located, language=language, name="output", text=text.output)
        given, wanted = len(parse_numbered_list(text.output)), len(parse_numbered_list(group.ja.output))
        asked = requested_counts(text.instruction, language), requested_counts(group.ja.instruction, Language.JA)
        if given != wanted:
            what = f"{given} items, but the Japanese has {wanted}"
        elif all(asked) and not asked[0] & asked[1]:
            what = f"asks for {sorted(asked[0])}, but the Japanese for {sorted(asked[1])}"
        else:
            continue
        yield from to_findings(
            CHECK, field, [Issue(Severity.WARNING, what, "the languages of a group agree in their facts")]
        )


def check_form(groups: Sequence[SourcedGroup]) -> Iterator[Finding]:
    """Every group against the form of its category; translations have none."""
    for located in groups:
        group = located.group
        if not isinstance(group, TextGroup):
            continue
        for language, text in group.texts().items():
            field = TextField(located=located, language=language, name="output", text=text.output)
            yield from to_findings(CHECK, field, form_issues(group.category, text, language))
        if group.category is Category.BRAINSTORMING:
            yield from _unequal_lists(group, located)
