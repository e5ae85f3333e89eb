"""Decide in which language an answer is: mostly in that of its question, unless the question asks for another.

The column `language` is the answer's. Scripts decide it, and only where they leave no doubt: a Japanese answer that
names an English word stays Japanese, an English one that spells a name in katakana stays English, and code is no
language.

Example:
    >>> answer_language("質問：鉛筆1グロスは何本ですか。\\n答え：144本です。", Language.EN).value
    'ja'
    >>> answer_language("It is written チューリッヒ.", Language.EN).value
    'en'
"""

from __future__ import annotations

import re

from bonsai.builder.schema import Language

_KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9f]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]")
_BLOCK = re.compile(r"```.*?(?:```|$)|`[^`\n]*`", re.DOTALL)
_CODE_LINE = re.compile(r"^.*(?:[{}\[\]=;|<>\\]|\w\(|\"\w+\":).*$|^.*:$", re.MULTILINE)
_QUOTED = re.compile(r"（[^（）]*）|\([^()]*\)|「[^「」]*」|『[^『』]*』|“[^“”]*”|\"[^\"\n]*\"|《[^《》]*》|`[^`\n]*`")
"""What stands in quotation marks or brackets, which may be in any language."""
_ENGLISH_WORD = re.compile(
    r"\b(?:[Tt]he|of|an?|is|are|was|were|it|in|to|and|for|with|by|on|at|from|that|this|which|what|who|how|you|your|not|I)\b"
)
_LATIN_PER_CJK = 20
"""Latin letters for each Japanese or Chinese one from which a text is English that mentions a word of them, as 懸崖."""
_WORDS_IN_ENGLISH = 2
"""Different ones of these words that an English text has; a line of code or a name has fewer."""


def strip_code(text: str) -> str:
    """Return a text without what is marked as code, and without lines that look like it."""
    return _CODE_LINE.sub("", _BLOCK.sub(" ", text))


def answer_language(output: str, asked: Language) -> Language:
    """Return the language of an answer.

    Args:
        output: the answer.
        asked: the language of its question, which holds where the answer doesn't show another beyond doubt.
    """
    bare = _QUOTED.sub(" ", strip_code(output))
    kana, han, latin = (len(letters.findall(bare)) for letters in (_KANA, _HAN, _LATIN))
    cjk = kana + han
    if asked is not Language.EN:
        if (
            cjk * _LATIN_PER_CJK <= latin
            and len({word.casefold() for word in _ENGLISH_WORD.findall(bare)}) >= _WORDS_IN_ENGLISH
        ):
            return Language.EN
        if asked is Language.ZH and kana > han * 0.3:
            return Language.JA
        return asked
    if cjk and latin * 2 <= cjk:
        return Language.JA if kana else Language.ZH
    return asked
