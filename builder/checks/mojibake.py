"""Text that was decoded with the wrong encoding somewhere on its way here.

A garbled run gives itself away by being decodable: turned back into the bytes of the wrong encoding it is well-formed
text in the right one, which good text practically never is. What can't be turned back is left to ftfy's score of
unlikely Latin sequences (https://ftfy.readthedocs.io) and to the few sequences that only a lost decoding produces.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ftfy.badness import is_bad

from bonsai.builder.checks.finding import Severity
from bonsai.builder.checks.scripts import CJK_LETTER
from bonsai.builder.checks.text_fields import Fault, shortened

_LOST = re.compile(r"\ufffd|锟斤拷|烫烫烫|屯屯屯|\?{4,}|縺[^れいるりっんつ]|繧[^りる]|繝[^くい]|[銆锛鈥]")
"""the replacement character; U+FFFD read as GBK; uninitialised memory; question marks for what couldn't be encoded; the
leading bytes of kana read as Shift_JIS and of Chinese marks read as GBK"""

_CJK_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_LATIN_RUN = re.compile(r"(?:[\x80-\xff‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ][\x20-\x7e]?){5,}")
_LATIN_LETTER_OR_SIGN = re.compile(r"[\xa1-\xff]")
_LEAST_BYTES = 6


def mojibake(text: str) -> Iterator[Fault]:
    """The first garbled run, with what it may have been."""
    for run in _CJK_RUN.findall(text):
        for wrong in ("cp932", "gbk"):
            if meant := _turned_back(run, wrong):
                yield _garbled(run, meant)
                return
    for run in _LATIN_RUN.findall(text):
        for right in ("cp932", "gbk", "euc_jp"):
            if meant := _latin_turned_back(run, right):
                yield _garbled(run, meant)
                return
    if lost := _LOST.search(text):
        yield _garbled(text[lost.start() : lost.end() + 10], "")
    elif not CJK_LETTER.search(text) and is_bad(text):
        yield _garbled(text, "")


def _turned_back(run: str, wrong: str) -> str:
    """The run as UTF-8 if its bytes in the wrong encoding nearly all are; else nothing.

    Bytes at both ends may be missing: the decoder that did the damage dropped what it couldn't read.
    """
    data = run.encode(wrong, errors="ignore")
    if len(data) < _LEAST_BYTES or not CJK_LETTER.search(run):
        return ""
    meant = data.decode("utf-8", errors="ignore")
    if len(meant.encode("utf-8")) < 0.75 * len(data):
        return ""
    return meant if sum(map(_is_common, meant)) >= max(2, 0.8 * len(meant)) else ""


def _is_common(character: str) -> bool:
    """Whether the Japanese or the Chinese standard set has it: chance hits are letters of far-off scripts."""
    for encoding in ("shift_jis", "gb2312"):
        with contextlib.suppress(UnicodeEncodeError):
            return len(character.encode(encoding)) == 2
    return False


def _latin_turned_back(run: str, right: str) -> str:
    data = run.encode("cp1252", errors="ignore")
    if len(data) < _LEAST_BYTES or len(_LATIN_LETTER_OR_SIGN.findall(run)) < 2:
        return ""
    meant = data.decode(right, errors="ignore")
    return meant if len(CJK_LETTER.findall(meant)) >= 0.7 * len(meant) and len(meant) >= 3 else ""


def _garbled(run: str, meant: str) -> Fault:
    guess = f"; it may have been '{shortened(meant)}'" if meant else ""
    return Fault(
        Severity.ERROR,
        f"'{shortened(run)}' is garbled{guess}",
        "it was read in another encoding than it was written in; put the text in again, as UTF-8",
    )
