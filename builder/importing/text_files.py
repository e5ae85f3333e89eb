"""Bytes to text, whatever editor or spreadsheet wrote them: UTF-8, UTF-16 with its mark, Shift_JIS (CP932), GB18030."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from bonsai.builder.schema import RecordError

LARGEST_FILE = 512 * 1024**2
"""Bytes; a file to be paired is held in memory. `check_rows` has no such limit."""
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

_NO_CHARACTER = re.compile("[\x80\xa0\uf8f0-\uf8f3]")
"""What Python makes of the bytes that CP932 leaves free, instead of refusing them."""


class Decoded(NamedTuple):
    """A file's text, the encoding it was read with, and the rule that chose it."""

    text: str
    encoding: str
    rule: str


def read_text(path: Path, encoding: str | None = None) -> Decoded:
    """Read a text file; ``encoding`` overrules the guess.

    Raises:
        RecordError: if the file is too large, or no encoding fits.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise RecordError([f"{path}: {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}; split the file"])
    raw = path.read_bytes()
    if encoding is not None:
        try:
            return Decoded(raw.decode(encoding), encoding, "as told")
        except (UnicodeDecodeError, LookupError) as error:
            raise RecordError([f"{path}: not {encoding} ({error}); name the encoding the file was saved in"]) from None
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _with(path, raw, name, "byte-order mark")
    strict = _attempt(raw, "utf-8")
    if strict is not None:
        return Decoded(strict, "utf-8", "valid UTF-8")
    return _legacy(path, raw)


def _legacy(path: Path, raw: bytes) -> Decoded:
    """Chinese read as CP932 is full of half-width kana; Japanese is full of full-width ones."""
    japanese = _attempt(raw, "cp932")
    if japanese is not None and _NO_CHARACTER.search(japanese):
        japanese = None
    if japanese is not None:
        full = sum("\u3041" <= character <= "\u30fa" for character in japanese)
        half = sum("\uff61" <= character <= "\uff9f" for character in japanese)
        if full > half:
            return Decoded(japanese, "cp932", "not UTF-8; valid CP932 with more full-width than half-width kana")
    chinese = _attempt(raw, "gb18030")
    if chinese is not None:
        return Decoded(chinese, "gb18030", "not UTF-8; not Japanese in CP932; valid GB18030")
    if japanese is not None:
        return Decoded(japanese, "cp932", "not UTF-8; not GB18030; valid CP932")
    line = raw[: _first_fault(raw)].count(b"\n") + 1
    raise RecordError([f"{path}:{line}: neither UTF-8, CP932 nor GB18030; save it as UTF-8, or name its encoding"])


def _with(path: Path, raw: bytes, encoding: str, rule: str) -> Decoded:
    try:
        return Decoded(raw.decode(encoding), encoding, rule)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise RecordError(
            [f"{path}:{line}: the file has the mark of {encoding}, this line not; save it anew"]
        ) from None


def _attempt(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _first_fault(raw: bytes) -> int:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(raw)
