"""Records written as a table, edited by a person, and merged back: only what was changed, and nothing lost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.export_file import export_file
from bonsai.builder.importing.import_file import import_file
from bonsai.builder.importing.merge import MergePlan, is_export, plan_merge, write_merge
from bonsai.builder.records import read_groups
from bonsai.cli.dataset import word_difference

FOX = {
    "id": "open_qa-0001",
    "category": "open_qa",
    "topic": "animals",
    "ja": {
        "instruction": "　字下げした一行目。\n狐は何科ですか。",
        "input": "",
        "reasoning": "狐は犬の仲間である。",
        "output": "イヌ科です。",
    },
    "en": {
        "instruction": "What family are foxes in?",
        "input": "",
        "reasoning": "Foxes are dog-like.",
        "output": "=Canidae, the dog family.",
    },
    "zh": {"instruction": "狐狸属于什么科？", "input": "", "reasoning": "狐狸像狗。", "output": "犬科。"},
    "original": {"ja": {"reasoning": "犬に似る。"}, "zh": {"reasoning": "像狗。"}},
    "skills": ["katakana_names"],
    "source": "authored",
    "license": "MIT",
    "generator": "human: A. Gardener",
}
PINE = {
    "id": "translation-0001",
    "category": "translation",
    "topic": "trees",
    "ja": {"text": "松は常緑です。", "reasoning": "「常緑」は evergreen。"},
    "en": {"text": "Pines are evergreen.", "reasoning": "No article before a plural."},
    "source": "authored",
    "license": "MIT",
    "generator": "human: A. Gardener",
}
ASK = {
    "id": "question_to_question-0001",
    "category": "question_to_question",
    "topic": "bread",
    "ja": {
        "instruction": "問いを深めて。",
        "input": "質問：なぜ。\n答え：気体。",
        "reasoning": "気体の先。",
        "output": "なぜ逃げないのですか。",
    },
    "en": {
        "instruction": "Go deeper.",
        "input": "Question: Why?\nAnswer: Gas.",
        "reasoning": "Follow it.",
        "output": "Why does it stay?",
    },
    "chain": {"id": "bread", "step": 1},
    "source": "authored",
    "license": "MIT",
    "generator": "human: A. Gardener",
}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    for group in (FOX, PINE, ASK):
        line = json.dumps(group, ensure_ascii=False, separators=(",", ": "))  # no spelling of ours
        (folder / f"{group['category']}.jsonl").write_text(line + "\n", encoding="utf-8")
    return folder


Rows = list[dict[str, Any]]


def read_sheet(path: Path) -> Rows:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    head, *rows = load_workbook(path).active.iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in rows]


def edit(path: Path, change: Callable[[Rows], object]) -> Path:
    """Change the rows of an export as a person would, in its own form."""
    rows = read_sheet(path)
    change(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes(out.getvalue().encode("cp932", "strict"))  # as a Japanese Excel saves it
    else:
        book = load_workbook(path)
        sheet = book.active
        sheet.delete_rows(1, sheet.max_row)
        for row in [columns, *([row.get(name) for name in columns] for row in rows)]:
            sheet.append(row)
            for cell in sheet[sheet.max_row]:
                cell.data_type = "s" if isinstance(cell.value, str) else cell.data_type
        book.save(path)
    return path


def find(rows: Rows, group_id: str, language: str) -> dict[str, Any]:
    return next(row for row in rows if (row["id"], row["language"]) == (group_id, language))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


def merged(path: Path, records: Path) -> MergePlan:
    plan = plan_merge(path, records)
    write_merge(plan, records, note="test")
    return plan


@pytest.mark.parametrize("wide", [False, True], ids=["long", "wide"])
@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_an_export_that_nobody_edited_changes_nothing(tmp_path: Path, records: Path, suffix: str, wide: bool) -> None:
    sheet = tmp_path / f"sheet{suffix}"
    exported = export_file(records, sheet, wide=wide)
    assert exported == (3, 3 if wide else 7)
    assert is_export(sheet)
    plan = plan_merge(sheet, records)
    assert (plan.edits, plan.changes, plan.notes) == ([], [], [])


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_an_edited_text_changes_its_line_and_no_other_byte(tmp_path: Path, records: Path, suffix: str) -> None:
    sheet = tmp_path / f"sheet{suffix}"
    export_file(records, sheet, languages=["ja", "en"])  # Chinese letters are none of CP932's

    def change(rows: Rows) -> None:
        find(rows, "open_qa-0001", "en")["output"] = "Canidae, the family of dogs."

    before = contents(records)
    plan = merged(edit(sheet, change), records)
    assert [tuple(text) for text in plan.edits] == [
        ("open_qa-0001", "en.output", "=Canidae, the dog family.", "Canidae, the family of dogs.")
    ]
    after = contents(records)
    old, new = "=Canidae, the dog family.", "Canidae, the family of dogs."
    assert after == before | {"open_qa.jsonl": before["open_qa.jsonl"].replace(old.encode(), new.encode())}


def test_every_kind_of_field_can_be_edited_and_the_rest_stays(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet)

    def change(rows: Rows) -> None:
        find(rows, "open_qa-0001", "zh")["reasoning_original"] = "像犬。"
        find(rows, "open_qa-0001", "ja")["topic"] = "zoology"  # in one of the group's rows
        find(rows, "translation-0001", "en")["text"] = "The pine is evergreen."
        for language in ("ja", "en"):
            find(rows, "question_to_question-0001", language)["step"] = 2
            find(rows, "question_to_question-0001", language)["chain"] = "loaf"

    merged(edit(sheet, change), records)
    groups = {located.group.id: json.loads(located.path.read_text("utf-8")) for located in read_groups(records)}
    assert groups["open_qa-0001"] == FOX | {
        "topic": "zoology",
        "original": {"ja": {"reasoning": "犬に似る。"}, "zh": {"reasoning": "像犬。"}},
    }
    assert groups["translation-0001"]["en"] == {
        "text": "The pine is evergreen.",
        "reasoning": "No article before a plural.",
    }
    assert groups["question_to_question-0001"]["chain"] == {"id": "loaf", "step": 2}


def test_a_group_side_by_side_is_edited_like_one_in_rows(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet, wide=True)

    def change(rows: Rows) -> None:
        rows[0]["output_zh"] = "犬科动物。"
        rows[1]["text_ja"] = "松は一年中緑です。"

    plan = merged(edit(sheet, change), records)
    assert {text.field for text in plan.edits} == {"zh.output", "ja.text"}
    assert json.loads((records / "open_qa.jsonl").read_text("utf-8")) == FOX | {
        "zh": FOX["zh"] | {"output": "犬科动物。"}
    }  # type: ignore[operator]


def test_another_category_moves_the_group_under_the_next_free_id(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    export_file(records, sheet, languages=["ja", "en"])

    def change(rows: Rows) -> None:
        find(rows, "open_qa-0001", "en")["category"] = "brainstorming"

    plan = merged(edit(sheet, change), records)
    assert [text.field for text in plan.edits] == ["category", "id"]
    assert read_groups(records)[0].group.id == "brainstorming-0001"
    assert not (records / "open_qa.jsonl").exists()


def test_rows_below_add_a_language_and_a_group(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet)

    def change(rows: Rows) -> None:
        pine = find(rows, "translation-0001", "ja")
        rows.append(
            {"id": "translation-0001", "language": "中文", "text": "松树四季常青。", "reasoning": "常绿即常青。"}
        )
        shared = {"id": "mine", "category": "brainstorming", "topic": "pots", "source": "authored", "license": "MIT"}
        shared["generator"] = pine["generator"]
        rows.append(
            shared | {"language": "ja", "instruction": "鉢の使い道を挙げて。", "output": "1. 植える。\n2. 飾る。"}
        )
        rows.append(shared | {"language": "en", "instruction": "List uses of pots.", "output": "1. Plant.\n2. Show."})

    merged(edit(sheet, change), records)
    groups = {located.group.id: located.group for located in read_groups(records)}
    assert groups["translation-0001"].zh.text == "松树四季常青。"
    assert groups["brainstorming-0001"].en.output == "1. Plant.\n2. Show."


def test_a_row_edited_on_both_sides_is_left_alone_and_told(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.jsonl"
    export_file(records, sheet)
    path = records / "open_qa.jsonl"
    path.write_text(path.read_text("utf-8").replace("イヌ科です。", "イヌ科に属します。"), encoding="utf-8")

    def change(rows: Rows) -> None:
        find(rows, "open_qa-0001", "ja")["output"] = "犬の仲間です。"
        find(rows, "open_qa-0001", "en")["output"] = "Canidae."

    plan = merged(edit(sheet, change), records)
    assert [text.field for text in plan.edits] == ["en.output"]
    assert any("edited here, and changed in the records since the export" in note for note in plan.notes)
    assert "イヌ科に属します。" in path.read_text("utf-8")


def test_what_the_records_gained_since_the_export_is_not_undone_by_an_untouched_row(
    tmp_path: Path, records: Path
) -> None:
    sheet = tmp_path / "sheet.csv"
    export_file(records, sheet)
    path = records / "open_qa.jsonl"
    path.write_text(path.read_text("utf-8").replace("イヌ科です。", "イヌ科に属します。"), encoding="utf-8")
    plan = plan_merge(sheet, records)
    assert plan.changes == []
    assert any("older than the records and untouched" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("output", "", "'en.output' is empty; write it"),
        ("category", "open-question", "the category is 'open-question'"),
        ("language", "fr", "the language is 'fr'; write one of ja, en, zh"),
        ("skills", "swimming", "skills"),
        ("chain", "bread", "chain"),
    ],
)
def test_an_edit_that_makes_no_record_is_refused_and_nothing_is_written(
    tmp_path: Path, records: Path, field: str, value: str, sentence: str
) -> None:
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet)

    def change(rows: Rows) -> None:
        find(rows, "open_qa-0001", "ja")["output"] = "犬の仲間です。"
        find(rows, "open_qa-0001", "en")[field] = value

    before = contents(records)
    with pytest.raises(RecordError, match=sentence):
        plan_merge(edit(sheet, change), records)
    assert contents(records) == before


def test_two_rows_that_name_two_topics_are_refused(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.jsonl"
    export_file(records, sheet)

    def change(rows: Rows) -> None:
        find(rows, "open_qa-0001", "en")["topic"] = "dogs"
        find(rows, "open_qa-0001", "zh")["topic"] = "foxes"

    with pytest.raises(RecordError, match=r"two rows give 'topic' different values: 'dogs' .* and 'foxes'"):
        plan_merge(edit(sheet, change), records)


def test_an_export_of_other_records_is_refused_and_can_come_in_as_new_groups(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RecordError, match=r"none of its groups is in .*; name their folder: --records"):
        plan_merge(sheet, empty)
    result = import_file(sheet, tmp_path / "new", records=empty)
    assert {group["id"]: group for group in result.groups} == {group["id"]: group for group in (FOX, PINE, ASK)}


def test_the_workbook_is_made_for_a_person(tmp_path: Path, records: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet)
    made = load_workbook(sheet).active
    assert made.freeze_panes == "B2"
    assert made["F2"].alignment.wrap_text
    assert {cell.number_format for cell in made[2]} == {"@"}
    lists = {str(chooser.sqref).split("2")[0]: chooser.formula1 for chooser in made.data_validations.dataValidation}
    assert "brainstorming" in lists["B"]
    assert lists["D"] == '"ja,en,zh"'


def test_control_characters_and_long_texts_survive_or_are_refused(tmp_path: Path, records: Path) -> None:
    odd = FOX | {"en": FOX["en"] | {"output": "a\u000bb _x000D_ c"}}  # type: ignore[operator]
    (records / "open_qa.jsonl").write_text(json.dumps(odd) + "\n", encoding="utf-8")
    sheet = tmp_path / "sheet.xlsx"
    export_file(records, sheet)
    assert plan_merge(sheet, records).changes == []
    long = FOX | {"en": FOX["en"] | {"output": "long " * 8000}}  # type: ignore[operator]
    (records / "open_qa.jsonl").write_text(json.dumps(long) + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"open_qa-0001: 'output' has 39,999 characters, a cell holds 32,767"):
        export_file(records, tmp_path / "long.xlsx")


def test_bad_arguments_of_an_export_are_refused_at_once(tmp_path: Path, records: Path) -> None:
    (tmp_path / "there.ods").write_text("x")
    with pytest.raises(RecordError) as refused:
        export_file(records, tmp_path / "there.ods", languages=["ja", "Klingon"])
    assert [fault.split(": ")[0] for fault in refused.value.faults] == [
        str(tmp_path / "there.ods"),
        str(tmp_path / "there.ods"),
        "--language Klingon",
    ]


def test_the_words_that_differ_are_set_off() -> None:
    pieces = word_difference("A red fox.", "A grey fox.")
    assert [text for text, style in pieces if "reverse" in style] == ["red", "grey"]
    assert "".join(text for text, _ in pieces) == "- A red fox.\n+ A grey fox."
