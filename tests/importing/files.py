"""Files of the kind people have, and the import of one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bonsai.builder.importing.import_file import ImportResult, import_file

JA = {
    "id": "a-ja",
    "instruction": "盆栽とは何ですか。",
    "input": "",
    "reasoning": "鉢と樹木の関係から説明できる。",
    "output": "鉢の中で育て、形を整えた木です。",
}
EN = {
    "id": "a-en",
    "instruction": "What is a bonsai?",
    "input": "",
    "reasoning": "Pot and tree together explain it.",
    "output": "A tree that is grown\nand shaped in a pot.",
}
AGAR_JA = {
    "instruction": "寒天は何から作られますか。",
    "reasoning": "テングサを煮て固める。",
    "output": "海藻のテングサなどから作られます。",
}
AGAR_EN = {
    "instruction": "What is agar made from?",
    "reasoning": "It sets from boiled algae.",
    "output": "It is made from red algae such as tengusa.",
}


def table(rows: Sequence[Mapping[str, Any]], delimiter: str = ",", line_end: str = "\r\n") -> str:
    """Return rows as CSV."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(key: str = "g", ja: Mapping[str, Any] = AGAR_JA, en: Mapping[str, Any] = AGAR_EN) -> list[dict[str, Any]]:
    """Return the two rows of a group."""
    return [{"group_id": key} | dict(ja), {"group_id": key} | dict(en)]


def brought_in(path: Path, **options: Any) -> ImportResult:
    """Import a file into ``new`` beside it; no ids are taken yet."""
    records = path.parent / "records"
    records.mkdir(exist_ok=True)
    given: dict[str, Any] = {"source": "my notes", "license": "MIT", "records": records} | options
    return import_file(path, given.pop("to", path.parent / "new"), **given)
