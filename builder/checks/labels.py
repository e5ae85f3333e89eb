"""The output of a classification: one of the labels that the instruction names, or one for each item."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.scripts import CJK_LETTER
from bonsai.builder.checks.text_fields import Fault, shortened

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


def label_faults(instruction: str, input_text: str, output: str) -> Iterator[Fault]:
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


def _label(label: str, instruction: str, input_text: str) -> Iterator[Fault]:
    if named(label, instruction) or named(label, input_text):
        return
    parts = [part.strip() for part in _BETWEEN.split(label) if part.strip()]
    if len(parts) > 1 and all(named(part, instruction) for part in parts):
        yield _fault(
            f"'{shortened(label)}' is more than one label", "give one, or say in the instruction that several may fit"
        )
    else:
        yield _fault(
            f"'{shortened(label)}' is none of the labels that the instruction names",
            "write one of them, and nothing else; the reason belongs into the Reasoning",
        )


def named(label: str, text: str) -> bool:
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


def _items(keys: list[str], instruction: str, input_text: str) -> Iterator[Fault]:
    doubled = next((key for n, key in enumerate(keys) if key in keys[:n]), None)
    if doubled:
        yield _fault(f"'{shortened(doubled)}' is answered twice", "answer each item once")
    known = _plain(input_text) + "\n" + _plain(instruction)
    for key in keys:
        if _bare(key) not in known and _plain(key) not in known:
            yield _fault(f"'{shortened(key)}' isn't in the input", "answer the items given, by their own names")
            return
    items = _items_of(input_text, keys)
    left_out = [item for item in items if not any(_answers(key, item) for key in keys)]
    if left_out and len(items) - len(left_out) >= max(2, 0.6 * len(items)):
        yield _fault(f"'{shortened(left_out[0])}' has no answer", "answer each item of the input")


def _answers(key: str, item: str) -> bool:
    """Whether a key is the item, its letter, or a part of it that no letter or digit goes on from."""
    if _LETTER.fullmatch(key) and _LETTERED.match(item):
        return re.split(r"\s*[：:.．、)）]", item)[0] == key
    bare = re.escape(_bare(key))
    return re.search(rf"(?<![a-z0-9]){bare}(?![a-z0-9])", _plain(item)) is not None


def _items_of(input_text: str, keys: list[str]) -> list[str]:
    """The items to be answered: lettered lines where the answers are lettered, else lines, else what commas part."""
    lines = [piece for line in input_text.split("\n") if (piece := line.strip())]
    if all(_LETTER.fullmatch(key) for key in keys):
        return [line for line in lines if _LETTERED.match(line)]
    return lines if len(lines) > 1 else [piece for piece in map(str.strip, _ITEM_SEPARATOR.split(input_text)) if piece]


def _bare(key: str) -> str:
    return _plain(_GLOSS.sub("", key))


def _fault(what: str, why: str) -> Fault:
    return Fault(Severity.WARNING, what, why)
