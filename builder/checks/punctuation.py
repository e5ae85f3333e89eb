"""Punctuation of another language."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.scripts import CJK_LETTER, HAN, KANA
from bonsai.builder.checks.text_fields import Fault, shortened
from bonsai.builder.schema import Language

_CJK = f"{KANA}{HAN}ー"
_ASCII_AFTER_CJK = re.compile(rf"[{_CJK}][）」”]?[,;.?!](?![A-Za-z0-9.,?!/])|(?<=[A-Za-z0-9]),(?=[{_CJK}])")
_ASCII_COLON = re.compile(rf"[{HAN}]:(?=[{HAN}\s])")
_DOUBLED = re.compile(r"[。、，；：]{2,}|(?<!\.)\.\.(?!\.)|,,")
_FULL_WIDTH = re.compile("[，。、；：！？（）]")
_JAPANESE_DOT = re.compile(rf"(?<=[{HAN}])・(?=[{HAN}])")
_QUOTED = re.compile(r"“[^“”]*”|\"[^\"]*\"|「[^「」]*」")
_JAPANESE_QUOTE = re.compile(rf"[「『][^「」『』{KANA}]+[」』]")
_CODE = re.compile(r"`[^`]*`|[A-Za-z_]+\([^()\n]*\)")


def odd_punctuation(text: str, language: Language) -> Iterator[Fault]:
    """Marks that the language of the text doesn't use."""
    plain = _CODE.sub("x", text)
    if doubled := _DOUBLED.search(plain):
        yield _odd(doubled.group(), "it stands there twice; delete one")
    match language:
        case Language.EN:
            for line in _QUOTED.sub("", plain).split("\n"):
                if not CJK_LETTER.search(line) and (mark := _FULL_WIDTH.search(line)):
                    yield _odd(mark.group(), "English uses the half-width mark and a space")
        case Language.JA:
            if mark := _ASCII_AFTER_CJK.search(plain):
                yield _odd(mark.group(), "Japanese uses the full-width mark (、。！？)")
        case Language.ZH:
            if mark := _ASCII_AFTER_CJK.search(plain) or _ASCII_COLON.search(plain):
                yield _odd(mark.group(), "Chinese uses the full-width mark (，。：！？)")
            unquoted = _QUOTED.sub("", re.sub(r"“[^“”]*”", "", plain))
            if mark := _JAPANESE_DOT.search(unquoted):
                yield _odd(mark.group(), "that is the Japanese middle dot; Chinese uses ·")
            if mark := _JAPANESE_QUOTE.search(unquoted):
                yield _odd(mark.group(), "simplified Chinese quotes with “”")


def _odd(mark: str, why: str) -> Fault:
    return Fault(Severity.WARNING, f"'{shortened(mark)}' is odd here", why)
