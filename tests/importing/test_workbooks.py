"""Workbooks as Excel, LibreOffice and Google Sheets save them: read as a person sees them."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.number_formats import format_cell
from tests.importing.files import AGAR_EN, AGAR_JA, brought_in

HEADER = ["group_id", "category", "instruction", "input", "reasoning", "output"]
NOON = datetime.datetime(2026, 11, 3, 15, 4, 5)


def row(key: str, text: dict[str, str], **changed: Any) -> list[Any]:
    cells = {"group_id": key, "category": "open_qa", "input": None} | text | changed
    return [cells[name] for name in HEADER]


AGAR = [row("g1", AGAR_JA), row("g1", AGAR_EN)]
TOFU = [
    row("g2", AGAR_JA, instruction="豆腐は何から作られますか。", output="大豆から作られます。"),
    row("g2", AGAR_EN, instruction="What is tofu made from?", output="It is made from soybeans."),
]


def book(path: Path, sheets: dict[str, Sequence[Sequence[Any]]]) -> Workbook:
    made = Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for cells in rows:
            sheet.append(cells)
    made.save(path)
    return made


@pytest.mark.parametrize(
    ("value", "code", "seen"),
    [
        (0.25, "0%", "25%"),
        (0.125, "0.0%", "12.5%"),
        (7, "000", "007"),
        (1000001, "000-0000", "100-0001"),
        (9012345678, "000-0000-0000", "090-1234-5678"),
        (333, '#,##0"m"', "333m"),
        (1500, "[$¥-411]#,##0", "¥1,500"),
        (1500, '"$"#,##0.00_);[Red]("$"#,##0.00)', "$1,500.00"),
        (-1234, "#,##0_);(#,##0)", "(1,234)"),
        (-1234, "#,##0;[Red]-#,##0", "-1,234"),
        (-3, '0;"▲"0', "▲3"),
        (0, '#,##0;-#,##0;"-"', "-"),
        (0.5, "# ?/?", "1/2"),
        (1.75, "# ?/?", "1 3/4"),
        (12345, "0.00E+00", "1.23E+04"),
        (2.5, "0", "3"),
        (1.005, "0.00", "1.01"),
        (0.1 + 0.2, "General", "0.3"),
        (3.0, "General", "3"),
        (1e20, "General", "1E+20"),
        (5, 'General"個"', "5個"),
        (5, "第0回", "第5回"),
        (True, "General", "TRUE"),
        (False, "General", "FALSE"),
        (datetime.datetime(2026, 1, 2), "m/d", "1/2"),
        (NOON, 'yyyy"年"m"月"d"日"', "2026年11月3日"),
        (NOON, "yyyy-mm-dd", "2026-11-03"),
        (NOON, "YYYY-MM-DD HH:MM:SS", "2026-11-03 15:04:05"),
        (NOON, "h:mm AM/PM", "3:04 PM"),
        (NOON, "d-mmm-yy", "3-Nov-26"),
        (NOON, "dddd, mmmm d, yyyy", "Tuesday, November 3, 2026"),
        (NOON, '[$-411]ggge"年"m"月"d"日"', "令和8年11月3日"),
        (NOON, "[$-411]ge.m.d", "R8.11.3"),
        (datetime.datetime(1989, 1, 7), '[$-411]ggge"年"', "昭和64年"),
        (NOON, 'm"月"d"日"(aaa)', "11月3日(火)"),
        (NOON, "yyyymmdd", "20261103"),
        (datetime.time(12, 0), "h:mm", "12:00"),
        (datetime.time(9, 30), 'h"時"mm"分"', "9時30分"),
        (datetime.timedelta(hours=30, minutes=5), "[h]:mm", "30:05"),
        (datetime.date(2026, 11, 3), "General", "2026-11-03"),
    ],
)
def test_a_typed_cell_is_written_as_it_is_seen(value: object, code: str, seen: str) -> None:
    assert format_cell(value, code) == seen


def test_typed_cells_of_a_file_become_the_answers_that_a_person_sees(tmp_path: Path) -> None:
    made = book(tmp_path / "rows.xlsx", {"Sheet": [HEADER, *AGAR]})
    sheet = made.active
    for at in (2, 3):
        sheet.cell(at, 6).value, sheet.cell(at, 6).number_format = 7, "000"
    made.save(tmp_path / "rows.xlsx")
    (group,) = brought_in(tmp_path / "rows.xlsx", dry_run=True).groups
    assert (group["ja"]["output"], group["en"]["output"]) == ("007", "007")


def test_the_formats_that_only_a_japanese_excel_has_show_a_date_and_no_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    made = book(path, {"Sheet": [HEADER, *AGAR]})
    for at in (2, 3):
        made.active.cell(at, 6).value, made.active.cell(at, 6).number_format = 46329, "0"
    made.save(path)
    # openpyxl writes no format that depends on the country: number 31 is a long date in Japan
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["xl/styles.xml"] = parts["xl/styles.xml"].replace(b'numFmtId="1"', b'numFmtId="31"')
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    (draft,) = brought_in(path, dry_run=True).drafts  # an English answer doesn't look so
    assert draft.rows[0].text.output == "2026年11月3日"


def test_an_error_in_a_cell_is_a_missing_value_and_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    rows = [HEADER, *AGAR, row("g2", AGAR_JA, output="#N/A"), row("g2", AGAR_EN, reasoning="#REF!")]
    book(path, {"Sheet": rows})
    result = brought_in(path, dry_run=True)
    assert [group["topic"] for group in result.groups] == ["imported"]
    assert "'ja.output' is empty; write it" in result.drafts[0].reasons
    assert any("2 cells with an error were read as missing (F4 #N/A, E5 #REF!)" in note for note in result.notes)


def test_escapes_of_the_format_do_not_stay_in_the_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    texts = [
        row("g1", AGAR_JA, output="一行目_x000D_\n二行目です。"),
        row("g1", AGAR_EN, output="a_x0041_b _x005F_x0041_ is it."),
    ]
    book(path, {"Sheet": [HEADER, *texts]})
    (group,) = brought_in(path, dry_run=True).groups
    assert group["ja"]["output"] == "一行目\n二行目です。"
    assert group["en"]["output"] == "aAb _x0041_ is it."


def test_every_visible_sheet_is_read_and_told_and_a_hidden_one_is_only_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    old = [row("g3", AGAR_JA, instruction="古い問いは何ですか。"), row("g3", AGAR_EN, instruction="What is old?")]
    made = book(
        path, {"旧": [HEADER, *old], "一": [HEADER, *AGAR], "二": [HEADER, *TOFU], "メモ": [["これは覚え書きです。"]]}
    )
    made["旧"].sheet_state = "hidden"
    made.active = 1
    made.save(path)
    result = brought_in(path, dry_run=True)
    assert [group["ja"]["instruction"][:2] for group in result.groups] == ["寒天", "豆腐"]
    assert [note.removeprefix(f"{path}:").strip() for note in result.notes if "sheet" in note or "column" in note][
        :1
    ] == ["sheet '旧' is hidden and was left out; --sheet names it"]
    assert f"{path}:一: 2 rows" in result.notes
    assert f"{path}:メモ: no column that is read; left out" in result.notes
    named = brought_in(path, dry_run=True, sheet="旧")
    assert [group["en"]["instruction"] for group in named.groups] == ["What is old?"]
    with pytest.raises(RecordError, match="no sheet '三'; it has '旧', '一', '二', 'メモ'"):
        brought_in(path, dry_run=True, sheet="三")


def test_a_sheet_for_each_language_is_paired_and_two_lists_numbered_alike_are_not(tmp_path: Path) -> None:
    book(tmp_path / "languages.xlsx", {"日本語": [HEADER, AGAR[0], TOFU[0]], "English": [HEADER, AGAR[1], TOFU[1]]})
    assert len(brought_in(tmp_path / "languages.xlsx", dry_run=True).groups) == 2
    renumbered = [["g1", *cells[1:]] for cells in TOFU]
    book(tmp_path / "lists.xlsx", {"一": [HEADER, *AGAR], "二": [HEADER, *renumbered]})
    result = brought_in(tmp_path / "lists.xlsx", dry_run=True)
    assert [group["en"]["output"] for group in result.groups] == [AGAR_EN["output"], "It is made from soybeans."]


def test_hidden_rows_are_left_out_and_merged_cells_count_for_all_of_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    made = book(path, {"Sheet": [HEADER, *AGAR, *TOFU, row("g3", AGAR_JA), row("g3", AGAR_EN)]})
    sheet = made.active
    for cells in ("A2:A3", "B2:B3", "A4:A5", "B4:B5"):
        sheet.merge_cells(cells)
    sheet.row_dimensions[6].hidden = sheet.row_dimensions[7].hidden = True
    made.save(path)
    result = brought_in(path, dry_run=True)
    assert [group["category"] for group in result.groups] == ["open_qa", "open_qa"]
    assert result.drafts == ()
    assert any("2 hidden rows were left out (6, 7)" in note for note in result.notes)
    assert any("merged cells were read as the same value" in note for note in result.notes)


def test_a_title_above_and_notes_beside_the_table_are_told_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    book(
        path,
        {"Sheet": [["学習データ一覧"], [], ["2026年", None, "第二版"], HEADER, [*AGAR[0], "メモ", "予備"], AGAR[1]]},
    )
    result = brought_in(path, dry_run=True)
    assert len(result.groups) == 1
    assert f"{path}:Sheet:1: above the column names, and left out: '学習データ一覧'" in result.notes
    assert any("cells without a column name were left out" in note and "'メモ'" in note for note in result.notes)


def test_strict_open_xml_is_read_like_the_usual_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    book(path, {"Sheet": [HEADER, *AGAR]})
    usual = b"http://schemas.openxmlformats.org/"
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts.items():
            for kind in (b"spreadsheetml", b"officeDocument", b"drawingml"):
                strict = b"http://purl.oclc.org/ooxml/" + kind
                data = data.replace(usual + kind + b"/2006", strict) if not name.endswith(".rels") else data
            new.writestr(name, data)
    assert len(brought_in(path, dry_run=True).groups) == 1


def test_a_formula_is_refused_where_it_would_be_read_and_left_out_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    book(path, {"Sheet": [[*HEADER, "長さ"], [*AGAR[0], "=LEN(F2)"], [*AGAR[1], "=LEN(F3)"]]})
    assert len(brought_in(path, dry_run=True).groups) == 1
    book(path, {"Sheet": [HEADER, AGAR[0], row("g1", AGAR_EN, output="=1+1")]})
    with pytest.raises(RecordError, match=r"Sheet:3: F3 holds the formula '=1\+1'; paste its value as text"):
        brought_in(path, dry_run=True)


def test_a_million_formatted_empty_rows_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    made = book(path, {"Sheet": [HEADER, *AGAR]})
    made.active.cell(200_000, 3).number_format = "@"
    made.save(path)
    result = brought_in(path, dry_run=True)
    assert (result.rows, len(result.groups)) == (2, 1)
