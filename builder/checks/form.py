r"""Check the form that each category requires: lists, labels, questions, constraints, lengths.

Example:
    >>> issues = list_issues("Give four ideas.", "1. Tea\n2. Cake\n3. Bread", Language.EN)
    >>> [issue.message for issue in issues]
    ['3 items', '3 items where 4 were asked for']
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
from bonsai.builder.checks.reasoning import dice_overlap
from bonsai.builder.checks.repetition import is_trivial_extension, normalize_clause
from bonsai.builder.checks.text import CJK_LETTER, count_sentences, fold, normalize, split_sentences
from bonsai.builder.records import SourcedGroup
from bonsai.builder.schema import Category, Language, Text, TextGroup

FEWEST, MOST = 4, 8
"""items of a list"""
_SAME = 0.9
"""Dice's coefficient from which the new question is the old one"""
_LONG = {Language.JA: 600, Language.ZH: 500, Language.EN: 300}
"""characters, or words of English: three times what the guide calls usual; twice as much is a warning"""
_COUNTED = 20
"""up to here an answer may have been counted off, which leaves no number in the Reasoning"""

_ITEM = re.compile(r"\s*(?P<number>\d{1,2})\s*[.．、)）:：]\s*(?P<idea>\S.*)")
_LABEL_LINE = re.compile(r"(?P<key>[^：:]+?)\s*[：:]\s*(?P<label>.+)")
_LABEL_KEY = re.compile(r"分類|分类|类别|類別|判定|判断|label|category|class", re.IGNORECASE)
_TRANSLATION_KEY = re.compile(r"訳|译文?|翻訳|翻译|translation", re.IGNORECASE)
_POLITE = re.compile(r"(?:です|である|だ)?[。.]?$")
_BETWEEN = re.compile(r"[、,，/／]|\band\b")
_ITEM_SEPARATOR = re.compile(r"[\n、，,/；;]+")
_LETTER = re.compile(r"[A-Za-z0-9甲乙丙丁ア-オ]{1,2}")
_LETTERED = re.compile(r"[A-Za-z0-9甲乙丙丁ア-オ]{1,2}\s*[：:.．、)）]")
_YES_NO = frozenset(("yes", "no", "はい", "いいえ", "是", "不是", "否"))
_GLOSS = re.compile(r"[（(][^（）()]*[）)]")
_IS_QUESTION = re.compile(r"[?？]$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_NAME = re.compile(r"[ァ-ヺー]{3,}|(?<=[a-z,] )[A-Z][a-z]{2,}")


def check_form(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check every group against the form of its category; translations have none."""
    findings: list[Finding] = []
    for located in groups:
        group = located.group
        if not isinstance(group, TextGroup):
            continue
        fields = [
            (TextField(located=located, language=language, name="output", text=text.output), text)
            for language, text in group.texts().items()
        ]
        for field, text in fields:
            findings += to_findings("form", field, form_issues(group.category, text, field.language))
        if group.category is Category.BRAINSTORMING:
            for field, text in fields[1:]:
                findings += to_findings("form", field, unequal_list_issues(text, field.language, group.ja))
    return findings


def form_issues(category: Category, text: Text, language: Language) -> Iterator[Issue]:
    """Yield what is wrong with the form of one language of a group."""
    match category:
        case Category.BRAINSTORMING:
            yield from list_issues(text.instruction, text.output, language)
        case Category.CLASSIFICATION:
            yield from label_issues(text.instruction, text.input, text.output)
        case Category.CLOSED_QA:
            yield from passage_issues(text)
        case Category.QUESTION_TO_QUESTION:
            yield from question_issues(text.input, text.output)
        case Category.CREATIVE:
            yield from constraint_issues(text.instruction, text.output, language)
    yield from length_issues(text.output, language)


def parse_numbered_list(output: str) -> list[tuple[int, str]]:
    """Return number and text of each line that begins with a number."""
    found = (_ITEM.fullmatch(line) for line in output.split("\n"))
    return [(int(item["number"]), item["idea"]) for item in found if item]


def count_marks(text: str, language: Language) -> dict[str, int]:
    """Count what an instruction may set a number for.

    Returns:
        Words in English, otherwise characters without marks; sentences, at least; lines; items of a list; digits.
    """
    length = {"words": len(text.split())} if language is Language.EN else {"characters": len(re.findall(r"\w", text))}
    return length | {
        "sentences": count_sentences(text).fewest if text.strip() else 0,
        "lines": sum(bool(line.strip()) for line in text.split("\n")),
        "items": len(parse_numbered_list(text)),
        "digits": sum(character.isdigit() for character in text),
    }


def list_issues(instruction: str, output: str, language: Language) -> Iterator[Issue]:
    """Yield what keeps an output from being the list that its instruction asks for."""
    items = parse_numbered_list(output)
    if not items:
        yield Issue.warning(f"'{truncate(output)}' isn't a numbered list", "write one idea a line: '1. …'")
        return
    numbers = [number for number, _ in items]
    if numbers != list(range(1, len(items) + 1)):
        yield Issue.warning(f"the items are numbered {numbers}", "number them from 1 without a gap")
    if not FEWEST <= len(items) <= MOST:
        yield Issue.warning(f"{len(items)} items", f"give {FEWEST} to {MOST} distinct ideas")
    wanted = requested_counts(instruction, language)
    if wanted and len(items) not in wanted:
        counts = " or ".join(map(str, sorted(wanted)))
        yield Issue.warning(f"{len(items)} items where {counts} were asked for", "give as many as the instruction says")
    others = [line for line in output.split("\n") if line.strip() and not _ITEM.fullmatch(line)]
    if others:
        yield Issue.warning(
            f"'{truncate(others[0])}' isn't a list item", "write nothing before, between or below the items"
        )
    ideas = [normalize_clause(idea) for _, idea in items]
    for one, other in combinations(range(len(ideas)), 2):
        if ideas[one] == ideas[other] or is_trivial_extension(ideas[one], ideas[other]):
            yield Issue.warning(f"items {one + 1} and {other + 1} are the same", "give another idea")


def unequal_list_issues(text: Text, language: Language, japanese: Text) -> Iterator[Issue]:
    """Yield a brainstorming that asks for or gives another number of ideas than the Japanese one."""
    given, wanted = len(parse_numbered_list(text.output)), len(parse_numbered_list(japanese.output))
    counts = requested_counts(text.instruction, language)
    japanese_counts = requested_counts(japanese.instruction, Language.JA)
    message = ""
    if given != wanted:
        message = f"{given} items, but the Japanese has {wanted}"
    elif counts and japanese_counts and not counts & japanese_counts:
        message = f"asks for {sorted(counts)}, but the Japanese for {sorted(japanese_counts)}"
    if message:
        yield Issue.warning(message, "the languages of a group agree in their facts")


def label_issues(instruction: str, input_text: str, output: str) -> Iterator[Issue]:
    """Yield labels the instruction doesn't name, and items left out, answered twice or made up."""
    # 1. Read `item: label` lines. With lines such as `label: …` only those hold labels; a translation is none.
    lines = [line.strip() for line in output.split("\n") if line.strip()]
    rows = [_LABEL_LINE.fullmatch(line) for line in lines]
    pairs = [(row["key"], row["label"]) for row in rows if row]
    labels, keys = lines, list[str]()
    if len(pairs) == len(rows):
        labelled = [label for key, label in pairs if _LABEL_KEY.fullmatch(key.strip())]
        labels = labelled or [label for key, label in pairs if not _TRANSLATION_KEY.fullmatch(key.strip())]
        keys = [] if labelled else [key for key, _ in pairs]

    # 2. Each label is one that the instruction, or the input, names.
    for label in (_POLITE.sub("", label) for label in labels):
        if names_label(label, instruction) or names_label(label, input_text):
            continue
        parts = [part.strip() for part in _BETWEEN.split(label) if part.strip()]
        if len(parts) > 1 and all(names_label(part, instruction) for part in parts):
            yield Issue.warning(
                f"'{truncate(label)}' is more than one label",
                "give one, or say in the instruction that several may fit",
            )
        else:
            yield Issue.warning(
                f"'{truncate(label)}' isn't one of the labels that the instruction names",
                "write one of them, and nothing else; the reason belongs in the Reasoning",
            )
    if not keys:
        return

    # 3. Each item is answered once and is in the input.
    doubled = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
    if doubled:
        yield Issue.warning(f"'{truncate(doubled)}' is answered twice", "answer each item once")
    known = fold(input_text) + "\n" + fold(instruction)
    for key in keys:
        if _strip_gloss(key) not in known and fold(key) not in known:
            yield Issue.warning(f"'{truncate(key)}' isn't in the input", "answer the items given, by their own names")
            return

    # 4. Each item of the input is answered. What the items are is a guess, so most of them must be answered already.
    items = _split_items(input_text, keys)
    left_out = [item for item in items if not any(_is_answer_to(key, item) for key in keys)]
    if left_out and len(items) - len(left_out) >= max(2, 0.6 * len(items)):
        yield Issue.warning(f"'{truncate(left_out[0])}' has no answer", "answer each item of the input")


def names_label(label: str, text: str) -> bool:
    """Return whether a text names the label; English by stems, so that 'rocky planets' names 'rocky planet'."""
    plain = fold(label)
    if plain in _YES_NO:
        return True
    if CJK_LETTER.search(plain):
        return plain in fold(text)
    stems = {_singular(word) for word in re.findall(r"[\w'-]+", fold(text))}
    return all(_singular(word) in stems for word in re.findall(r"[\w'-]+", plain))


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^s]s$", word) else word


def _strip_gloss(key: str) -> str:
    return fold(_GLOSS.sub("", key))


def _split_items(input_text: str, keys: list[str]) -> list[str]:
    """Split an input into items: lettered lines where the answers are lettered, else lines, else by commas."""
    lines = [piece for line in input_text.split("\n") if (piece := line.strip())]
    if all(_LETTER.fullmatch(key) for key in keys):
        return [line for line in lines if _LETTERED.match(line)]
    return lines if len(lines) > 1 else [piece for piece in map(str.strip, _ITEM_SEPARATOR.split(input_text)) if piece]


def _is_answer_to(key: str, item: str) -> bool:
    """Return whether a key is the item, its letter, or a part of it that ends at a word's end."""
    if _LETTER.fullmatch(key) and _LETTERED.match(item):
        return re.split(r"\s*[：:.．、)）]", item)[0] == key
    return re.search(rf"(?<![a-z0-9]){re.escape(_strip_gloss(key))}(?![a-z0-9])", fold(item)) is not None


def question_issues(input_text: str, output: str) -> Iterator[Issue]:
    """Yield an output that asks nothing, asks twice, goes on after its question, or asks what was asked."""
    sentences = split_sentences(output)
    questions = [sentence for sentence in sentences if _IS_QUESTION.search(sentence)]
    if not questions:
        yield Issue.warning(f"'{truncate(output)}' asks no question", "write one question")
    elif len(questions) > 1:
        yield Issue.warning(f"{len(questions)} questions", "write one; the others may become steps of the chain")
    elif sentences[-1] is not questions[0]:
        yield Issue.warning(
            f"'{truncate(sentences[-1])}' follows the question", "end with the question; the reason is the Reasoning"
        )
    previous = extract_previous_question(input_text)
    if normalize(previous) == normalize(output) or dice_overlap(previous, output) >= _SAME:
        yield Issue.warning(f"'{truncate(output)}' was asked already", "ask what the answer leaves open")


def passage_issues(text: Text) -> Iterator[Issue]:
    """Yield numbers and names of a closed_qa's answer that neither the passage nor the Reasoning has."""
    known = values_in("\n".join((text.instruction, text.input, text.reasoning)))
    computed_from = values_in(text.reasoning)
    strange = [
        value for value in digits_in(text.output) if value not in known and not is_derivable(value, computed_from)
    ]
    if strange:
        largest = max(strange)
        number = str(largest) if largest.denominator == 1 else f"{float(largest):g}"
        yield Issue(
            Severity.NOTE if largest <= _COUNTED else Severity.WARNING,
            f"'{number}' is neither in the input nor in the Reasoning",
            "answer from the passage; where it is computed, show how in the Reasoning",
        )
    for name in dict.fromkeys(_NAME.findall(text.output)):
        if name not in text.input + text.instruction + text.reasoning:
            yield Issue(Severity.NOTE, f"'{name}' isn't in the input", "make sure that the passage gives the answer")


def length_issues(output: str, language: Language) -> Iterator[Issue]:
    """Yield an output that is much longer than usual."""
    length = len(output.split()) if language is Language.EN else len(output)
    if length > _LONG[language]:
        unit = "words" if language is Language.EN else "characters"
        severity = Severity.WARNING if length > 2 * _LONG[language] else Severity.NOTE
        yield Issue(
            severity, f"{length} {unit}", "most answers are 20 to 120 words (ja: 40 to 250 characters): shorten it"
        )
