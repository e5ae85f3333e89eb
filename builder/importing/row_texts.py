"""Read a JSONL file of millions of rows: cut into chunks of whole lines, the texts under whatever names it has them.

>>> texts_of(("Why?", [{"role": "user", "content": "a"}]), (("question",), ("answer",), ()))
['Why?', '[{"role": "user", "content": "a"}]']
"""

from __future__ import annotations

import codecs
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.columns import ColumnMap, is_missing, to_text
from bonsai.builder.importing.conversations import question_and_answer

CHUNK_BYTES = 2_000_000
_SNIFFED = 1000
"""Lines in which the columns are looked for."""


class Chunk(NamedTuple):
    """Some whole lines of the file: bytes ``start`` to ``end``, the first of them line ``line`` (from 1)."""

    number: int
    start: int
    end: int
    line: int


def split_into_chunks(source: Path) -> tuple[list[Chunk], str]:
    """Cut the file at line ends every `CHUNK_BYTES`, and take the digest of its whole content.

    Raises:
        RecordError: the file is empty.
    """
    chunks: list[Chunk] = []
    digest = xxhash.xxh3_128()
    line, start = 1, 0
    with source.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            block += file.readline()
            digest.update(block)
            chunks.append(Chunk(len(chunks), start, start + len(block), line))
            line += block.count(b"\n")
            start += len(block)
    if not chunks:
        raise RecordError([f"{source}: the file is empty; write one JSON object per line"])
    return chunks, digest.hexdigest()


def chunk_lines(data: bytes, chunk: Chunk) -> list[bytes]:
    """Split a chunk into lines, blank ones too, without the byte-order mark that some editors put first."""
    return (data.removeprefix(codecs.BOM_UTF8) if chunk.start == 0 else data).split(b"\n")


def find_columns(source: Path, fields: Sequence[str], renamed: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Find under which names the first lines have the fields, and conversations.

    Raises:
        RecordError: under none.
    """
    names: dict[str, None] = {}
    with source.open("rb") as file:
        for line in itertools.islice(file, _SNIFFED):
            try:
                row = json.loads(line.removeprefix(codecs.BOM_UTF8))
            except (ValueError, RecursionError):  # told with its line later
                continue
            names.update(dict.fromkeys(row if isinstance(row, dict) else ()))
    known = ColumnMap.of(names, renamed).names
    columns = tuple(tuple(name for name, meant in known.items() if meant == field) for field in fields)
    talks = tuple(name for name, meant in known.items() if meant == "messages")
    if names and not any((*columns, talks)):
        wanted = f"{', '.join(fields)} or messages; say which it is: --column output=NAME"
        raise RecordError([f"{source}: none of its columns ({', '.join(names)}) is {wanted}"])
    return (*(column or (field,) for column, field in zip(columns, fields, strict=True)), talks)


def texts_of(values: Sequence[Any], columns: Sequence[Sequence[str]]) -> list[str]:
    """Return a text for each field from the values of all columns; a conversation fills the first and the last."""
    texts: list[str] = []
    at = 0
    for names in columns[:-1]:
        found = [value for value in values[at : at + len(names)] if not is_missing(value)]
        at += len(names)
        value = found[0] if found else ""
        text = value if isinstance(value, str) else to_text(value)
        texts.append(json.dumps(value, ensure_ascii=False) if text is None else text)
    for talk in values[at:]:
        if not is_missing(talk) and not texts[-1]:
            question, texts[-1] = question_and_answer(talk)
            texts[0] = question if len(texts) > 1 else texts[0]
    return texts


def parse_with_nan(line: bytes) -> dict[str, Any] | None:
    """Parse a line that holds NaN, which is no JSON, but what pandas and Python write; None for any other one."""
    try:
        row = json.loads(line) if b"NaN" in line or b"Infinity" in line else None
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
