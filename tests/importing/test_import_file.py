"""Files as people have them: every format and encoding, what becomes a group, what a draft, what is refused."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.import_file import ImportResult, import_file
from bonsai.builder.records import read_groups

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
ZH = {
    "id": "a-zh",
    "instruction": "什么是盆栽？",
    "input": "",
    "reasoning": "盆与树。",
    "output": "种在盆里并修剪造型的树。",
}


def table(rows: list[dict[str, str]], delimiter: str = ",", line_end: str = "\r\n") -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def brought_in(path: Path, **options: Any) -> ImportResult:
    records = path.parent / "records"
    records.mkdir(exist_ok=True)
    given: dict[str, Any] = {"source": "my notes", "licence": "MIT", "records": records} | options
    return import_file(path, path.parent / "new", **given)


def check_the_group(result: ImportResult) -> None:
    (group,) = result.groups
    assert group["id"] == "open_qa-0001"
    for language, row in (("ja", JA), ("en", EN)):
        text = group[language]
        assert isinstance(text, dict)
        assert text == {name: row[name] for name in ("instruction", "input", "reasoning", "output")}
    assert group["source"] == "my notes; category guessed: no word tells; there is no input"
    assert result.drafts == ()


@pytest.mark.parametrize(
    ("encoding", "rule"),
    [
        ("utf-8", "valid UTF-8"),
        ("utf-8-sig", "byte-order mark"),
        ("utf-16", "byte-order mark"),
        ("cp932", "not UTF-8; valid CP932 with more full-width than half-width kana"),
    ],
)
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".tsv", "\t")])
def test_a_table_is_read_in_the_encodings_of_japanese_spreadsheets(
    tmp_path: Path, encoding: str, rule: str, suffix: str, delimiter: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(table([JA, EN], delimiter).encode(encoding))
    result = brought_in(path)
    assert (result.encoding, result.encoding_rule) == (encoding, rule)
    check_the_group(result)


def test_a_chinese_table_in_gb18030_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(table([{"id": "a-zh"} | ZH | {"output": ZH["output"] * 4}, EN]).encode("gb18030"))
    result = brought_in(path)
    assert result.encoding == "gb18030"
    assert result.languages == {"zh": 1, "en": 1}
    assert result.drafts[0].reason.startswith("no row in ja; a group needs ja and en")


def test_json_jsonl_parquet_and_xlsx_give_the_same_group(tmp_path: Path) -> None:
    import pyarrow
    from openpyxl import Workbook
    from pyarrow import parquet

    rows = [JA, EN]
    (tmp_path / "rows.json").write_text(json.dumps({"data": rows}))
    (tmp_path / "rows.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows) + "\r\n")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    book = Workbook()
    for row in [list(JA), *(list(row.values()) for row in rows)]:
        book.active.append(row)
    book.save(tmp_path / "rows.xlsx")
    for suffix in ("json", "jsonl", "parquet", "xlsx"):
        check_the_group(brought_in(tmp_path / f"rows.{suffix}", dry_run=True))


def test_what_is_written_can_be_read_as_records_and_numbers_follow_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lonely = {"instruction": "Name the tree.", "output": "Pine."}
    path.write_text("\n".join(json.dumps(row) for row in (JA, EN, lonely)))
    records = tmp_path / "records"
    records.mkdir()
    (records / "open_qa.jsonl").write_text('{"id": "open_qa-0041"}\n{"id": "open_qa-0017"}\n')
    before = (records / "open_qa.jsonl").read_bytes()
    result = brought_in(path)
    assert result.written == (tmp_path / "new" / "open_qa.jsonl", tmp_path / "new" / "drafts" / "drafts.jsonl")
    (located,) = read_groups(tmp_path / "new")
    assert located.group.id == "open_qa-0042"
    assert (records / "open_qa.jsonl").read_bytes() == before
    draft = json.loads(result.written[1].read_text(encoding="utf-8"))
    assert draft["reason"] == "no row in ja; a group needs ja and en: write it, or pair rows by 'group_id'"
    assert draft["rows"][0]["category_rule"] == "no word tells; there is no input"
    assert draft["rows"][0]["place"] == f"{path}:3"


def test_a_dry_run_shows_the_same_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (JA, EN)))
    result = brought_in(path, dry_run=True)
    assert result.guesses == {"open_qa: no word tells; there is no input": 2}
    assert (result.shape, result.categories, result.written) == ("BONSAI", {"open_qa": 1}, ())
    assert not (tmp_path / "new").exists()


def test_licence_source_and_a_fresh_folder_are_demanded_at_once(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(RecordError) as refused:
        brought_in(tmp_path / "rows.csv", source=" ", licence="")
    assert [fault.split(":")[0] for fault in refused.value.faults] == ["source", "licence", str(tmp_path / "new")]


def test_dolly_names_are_understood_and_an_unknown_category_waits_as_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {
            "group_id": "1",
            "instruction": "Sum up.",
            "context": "A long text.",
            "response": "Short.",
            "category": "summarization",
        },
        {
            "group_id": "1",
            "instruction": "要約して。",
            "context": "長い文です。",
            "response": "短い。",
            "category": "summarization",
        },
        {"group_id": "2", "instruction": "Hm", "context": "", "response": "Yes indeed.", "category": "chitchat"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    result = brought_in(path, dry_run=True)
    assert result.shape == "Dolly"
    reasons = [draft.reason for draft in result.drafts]
    assert reasons[0] == "'ja.reasoning' is empty; closed_qa needs it"
    assert "the category is 'chitchat'; write one of open_qa" in reasons[1]
    assert result.guesses == {"closed_qa: the file's 'summarization' is our closed_qa": 2}


def test_conversations_give_their_reasoning_and_longer_ones_wait(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    answer = "### Reasoning:\nPot and tree.\n\n### Response:\nA shaped tree."
    rows = [
        {"group_id": "1", "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}]},
        {
            "group_id": "1",
            "messages": [{"role": "user", "content": "何？"}, {"role": "assistant", "content": "木です。"}],
        },
        {"messages": [{"role": role, "content": "Hi there"} for role in ("user", "assistant", "user")]},
    ]
    path.write_text(json.dumps(rows))
    result = brought_in(path, dry_run=True)
    piece = result.drafts[0].rows[0].text
    assert (piece.instruction, piece.reasoning, piece.output) == ("What?", "Pot and tree.", "A shaped tree.")
    assert "has 3 turns (user, assistant, user)" in result.drafts[1].reason


def test_parallel_columns_are_one_group_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row = {f"{name}_{language}": own[name] for language, own in (("ja", JA), ("en", EN)) for name in JA if name != "id"}
    path.write_text(table([row, row | {"output_en": ""}]), encoding="utf-8", newline="")
    result = brought_in(path, dry_run=True)
    assert len(result.groups) == 1
    assert result.drafts[0].reason == "'en.output' is empty; write it"


def test_translation_rows_of_both_directions_become_one_group(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    ja, en = "木を植える。", "Plant a tree."
    shared = {"group_id": "t", "category": "translation", "instruction": "Translate."}
    rows = [
        shared | {"input": ja, "output": en, "reasoning": "を marks the object."},
        shared | {"input": en, "output": ja, "reasoning": "No article in Japanese."},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    (group,) = brought_in(path, dry_run=True).groups
    assert group["ja"] == {"text": ja, "reasoning": "No article in Japanese."}
    assert group["en"] == {"text": en, "reasoning": "を marks the object."}
    assert group["source"] == "my notes"


def test_all_faults_of_a_file_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('instruction,output\na,b\nx,y,z\nq,"two\r\nlines"\nw,"' + "長" * 100_001 + '"\nlast,"open\n')
    with pytest.raises(RecordError) as refused:
        brought_in(path)
    faults = refused.value.faults
    assert faults[0] == f"{path}:3: 3 cells below 2 column names; put a cell that contains ',' into quotes"
    assert faults[1] == f"{path}:6: 'output' has 100,001 characters; cut it to 100,000 or fewer"
    assert faults[2].startswith(f"{path}:7: unexpected end of data; double a quote")
    assert not (tmp_path / "new").exists()


def test_columns_that_make_no_shape_are_named_and_faults_beyond_fifty_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "?"}\n' * 60)
    with pytest.raises(RecordError, match="and 10 more faults") as refused:
        brought_in(path)
    assert refused.value.faults[0].startswith(
        f"{path}:1: the columns are question; name them instruction, input, output"
    )


def test_a_formula_in_a_workbook_is_refused_and_in_a_csv_it_is_text(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["instruction", "output"])
    book.active.append(["What is 1+1?", "=1+1"])
    book.save(tmp_path / "rows.xlsx")
    with pytest.raises(RecordError, match=r"Sheet:2: B2 holds the formula '=1\+1'; paste its value as text"):
        brought_in(tmp_path / "rows.xlsx")
    (tmp_path / "rows.csv").write_text('instruction,output\nWhat?,"=HYPERLINK(""http://x"")"\n')
    assert brought_in(tmp_path / "rows.csv", dry_run=True).drafts[0].rows[0].text.output == '=HYPERLINK("http://x")'


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.xlsx", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/worksheets/sheet1.xml", b" " * 20_000_000)
    with pytest.raises(RecordError, match="as in a zip bomb"):
        brought_in(tmp_path / "rows.xlsx")


def test_a_workbook_whose_parts_are_named_to_lie_elsewhere_writes_nothing(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["instruction", "output"])
    book.active.append(["What is 1+1?", "2."])
    inside = tmp_path / "inside"
    inside.mkdir()
    book.save(inside / "rows.xlsx")
    with zipfile.ZipFile(inside / "rows.xlsx", "a") as file:
        for name in ("../evil.txt", "../../evil.txt", str(tmp_path / "evil.txt")):
            file.writestr(name, "evil")
    assert brought_in(inside / "rows.xlsx").rows == 1
    assert [path for path in tmp_path.rglob("*") if path.stem == "evil"] == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.doc", b"x", "a '.doc' file; save it as one of .csv"),
        ("rows.xlsx", b"not a zip", "not an .xlsx file inside"),
        ("rows.parquet", b"PAR1", "not readable as Parquet"),
        ("rows.json", b'{"a": 1', r"rows\.json:1: not JSON"),
        ("rows.json", b"3", "a JSON int; write a list of objects"),
        ("rows.csv", b"a,b\n\x80\xff\xff,\xff", "neither UTF-8, CP932 nor GB18030"),
        ("rows.csv", b"instruction,output\n", "no row; a table needs a line of column names"),
        ("rows.csv", b"output,output\n1,2\n", "the column name 'output' occurs twice"),
        ("rows.jsonl", b"[1]\n", "a JSON list, not an object"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=sentence):
        brought_in(tmp_path / name)


def test_rows_that_claim_the_same_place_in_a_group_wait_as_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row | {"order": "7"}) for row in (JA, EN, EN)))
    result = brought_in(path, dry_run=True)
    assert f"two rows in 'en' ({path}:2, {path}:3) have the same key" in result.drafts[0].reason


def test_another_column_can_pair_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [JA | {"id": "1", "thought": "x"}, EN | {"id": "2", "thought": "x"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert brought_in(path, dry_run=True).groups == ()
    check_the_group(brought_in(path, dry_run=True, pair_by="thought"))
