"""Inputs that get far, for a fuzzer to start from."""

from __future__ import annotations

import base64
import io
import json
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl import Workbook

from bonsai.builder.records import default_records_dir
from tests.hub.raw_client import commit_body, file, header

COLUMNS = ("instruction", "input", "output", "category")
ROW = ("What is 2 + 2?", "", "4.", "open_qa")
ROWS = [ROW, ("日本の首都は？", "", "東京です。", "open_qa")]


@cache
def seeds(target: str) -> list[bytes]:
    """A few for each of `targets.TARGETS`; the same ones each time, though a workbook bears the time it was made."""
    match target:
        case "records":
            lines = (default_records_dir() / "open_qa.jsonl").read_bytes().splitlines(keepends=True)
            return [lines[0], b"".join(lines[:2])]
        case "import.csv":
            table = "\n".join(",".join(f'"{cell}"' for cell in row) for row in (COLUMNS, *ROWS)).encode()
            return [table, table.decode().encode("cp932")]
        case "import.json":
            return [json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in ROWS]).encode()]
        case "import.jsonl":
            talk = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]}
            return [
                b"\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))).encode() for row in ROWS),
                json.dumps(talk).encode(),
            ]
        case "import.xlsx":
            book, stream = Workbook(), io.BytesIO()
            for row in (COLUMNS, *ROWS):
                book.worksheets[0].append(row)
            book.save(stream)
            return [stream.getvalue()]
        case "import.parquet":
            sink = pa.BufferOutputStream()
            pq.write_table(pa.table({name: [row[i] for row in ROWS] for i, name in enumerate(COLUMNS)}), sink)
            return [bytes(sink.getvalue())]
        case "card":
            return [b"```\n---\nlicense: x\n---\n{{ a }} | b <script>", "盆栽\n### Response:".encode()]
        case "readme":
            return [b"---\nlicense: mit\nlanguage: [ja]\nconfigs:\n- config_name: a\n  data_files: a.csv\n---\n# A\n"]
        case "commit":
            return [b"bytes=0-9\n" + commit_body(header(), file("a.txt")), b"bytes=-5\n" + commit_body(header())]
        case _:
            made = base64.b64encode(commit_body(header(), file("a.txt")))
            return [
                b'POST api/repos/create\ncontent-type: application/json\n\n{"name": "a", "type": "dataset"}',
                b"POST api/datasets/qeu/a/commit/main\ncontent-type: application/x-ndjson\n\n" + base64.b64decode(made),
                b"GET datasets/qeu/a/resolve/main/a.txt\nrange: bytes=0-1\n\n",
                b"GET api/datasets/qeu/a/tree/main?recursive=1\n\n",
            ]
