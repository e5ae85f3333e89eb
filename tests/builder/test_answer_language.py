"""The column `language`, the configs and the recipes' `languages` follow the answer, and a check holds them to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.answer_language import answer_language
from bonsai.builder.bonsai import in_config
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.language import check_language
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.rows import group_to_rows
from bonsai.builder.schema import Language
from bonsai.builder.signatures import reader_columns, sign
from bonsai.recipes.training.data import matches_recipe
from bonsai.recipes.training.recipe import load_recipe
from tests.builder.test_records import group, written


@pytest.mark.parametrize(
    ("output", "asked", "answer"),
    [
        ("質問：1グロスは何本ですか。\n答え：144本です。", "en", "ja"),
        ("質問：コウジカビは何に使われますか。\n答え：味噌など（学名Aspergillus oryzae）。", "en", "ja"),
        ("Question: What is the bonsai style 懸崖?\nAnswer: The cascade, in which the trunk hangs.", "ja", "en"),
        ("Question: Which two coins have a hole?\nAnswer: The 5-yen and the 50-yen coin.", "zh", "en"),
        ("質問：虹の外側は何色ですか。\n答え：赤。", "zh", "ja"),
        ("信濃川です。", "en", "ja"),
        ("维也纳，日语写作“ウィーン”。", "zh", "zh"),
        ("It is written チューリッヒ.", "en", "en"),
        ("ドナウ川, the Danube.", "en", "en"),
        ("Yours faithfully です。", "ja", "ja"),
        ("Portable Document Format", "ja", "ja"),
        ("144", "zh", "zh"),
        ("B", "ja", "ja"),
        ("SELECT name FROM loans WHERE returned IS NULL;", "ja", "ja"),
        ("```python\nfor line in lines:\n    print(line, 'is not in the list')\n```", "zh", "zh"),
        ('{\n "who": "the band and the choir",\n "what": "a concert for you"\n}', "ja", "ja"),
        ("if it is not in the list:\n    names.append(it)", "ja", "ja"),
        ("打开“设置”，选择“语言”。", "zh", "zh"),
        ("東京都", "ja", "ja"),
    ],
)
def test_an_answers_language_is_its_prose(output: str, asked: str, answer: str) -> None:
    assert answer_language(output, Language(asked)) == answer


def crossing(**changes: Any) -> dict[str, Any]:
    ja = {
        "instruction": "英語に訳し、英語で答えてください。",
        "input": "日本でいちばん長い川は？",
        "reasoning": "長さで比べる。",
    }
    en = {"instruction": "Translate into Japanese and answer in Japanese.", "input": "Which river is the longest?"}
    ja["output"] = "Question: Which is the longest river in Japan?\nAnswer: It is the Shinano."
    en |= {"reasoning": "By length.", "output": "質問：日本でいちばん長い川はどれですか。\n答え：信濃川です。"}
    return group(ja=ja, en=en, skills=["translate_then_answer"], **changes)


def test_configs_and_recipes_take_the_row_by_its_answer_and_the_id_stays(tmp_path: Path) -> None:
    (located,) = read_groups(written(tmp_path, crossing()))
    ja, en = group_to_rows(located.group)
    assert [(ja["id"], ja["language"]), (en["id"], en["language"])] == [
        ("open_qa-0001-ja", "en"),
        ("open_qa-0001-en", "ja"),
    ]
    assert in_config(ja, "en")
    assert not in_config(ja, "ja")
    japanese = dataclasses.replace(load_recipe("seedling"), categories=("open_qa",), languages=("ja",))
    assert [matches_recipe(japanese, row["category"], dict(row)) for row in (ja, en)] == [False, True]


def test_a_signature_counts_for_the_text_that_was_read(tmp_path: Path) -> None:
    signed = sign(crossing(), "ja", reader="Sato", kind="person", date="2026-12-01")
    (located,) = read_groups(written(tmp_path, signed))
    ja, en = group_to_rows(located.group)
    assert reader_columns(located.group, ja)["read_by_people"] == ["Sato"]
    assert reader_columns(located.group, en)["read_by_people"] == []


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ja", {"output": "It is the Shinano, which is the longest of the rivers in Japan."}),
        ("en", {"output": "信濃川が、日本の川の中でいちばん長い川です。"}),
        ("en", {"output": "Сена является самой длинной рекой"}),
    ],
)
def test_an_answer_in_a_language_nobody_asked_for_is_an_error(
    tmp_path: Path, language: str, text: dict[str, str]
) -> None:
    record = group()
    record[language] = {**record[language], **text}
    found = check_language(read_groups(written(tmp_path, record)))
    assert f"{language}.output" in [
        one.field for one in found if one.severity is Severity.ERROR or "script" in one.hint
    ]


def test_no_row_of_the_records_contradicts_its_column() -> None:
    groups = read_groups(default_records_dir())
    assert not [one for one in check_language(groups) if one.severity is Severity.ERROR]
    crossed = [
        row
        for located in groups
        for row in group_to_rows(located.group)
        if row["source_language"] is None and not row["id"].endswith(row["language"])
    ]
    assert len([row for row in crossed if row["id"].endswith("-ja") and row["language"] == "en"]) >= 20
    assert len([row for row in crossed if row["id"].endswith("-en") and row["language"] == "ja"]) >= 20
    assert all("translate_then_answer" in row["skills"] for row in crossed)
