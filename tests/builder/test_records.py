from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.errors import RecordError
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import CATEGORIES


def group(**changes: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "id": "open_qa-0001",
        "category": "open_qa",
        "topic": "geography",
        "ja": {"instruction": "川は？", "input": "", "reasoning": "長さで比べる。", "output": "信濃川です。"},
        "en": {"instruction": "River?", "input": "", "reasoning": "By length.", "output": "The Shinano."},
        "source": "authored",
        "license": "MIT",
        "generator": "a person",
    }
    return {**good, **changes}


def written(folder: Path, *lines: dict[str, Any] | str | bytes, name: str = "open_qa.jsonl") -> Path:
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    (folder / name).write_bytes(b"\n".join(raw) + b"\n")
    return folder


def faults(folder: Path) -> list[str]:
    with pytest.raises(RecordError) as caught:
        read_groups(folder)
    return caught.value.faults


def test_a_good_record_is_read_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = read_groups(written(tmp_path, "", group()))
    assert (found.group.id, found.location) == ("open_qa-0001", "open_qa.jsonl:2")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (group(category="openqa"), "open_qa-0001: the category is 'openqa'; write one of open_qa, closed_qa"),
        ({k: v for k, v in group().items() if k != "category"}, "'category' is missing"),
        ({k: v for k, v in group().items() if k != "ja"}, "'ja' is missing; every group has Japanese and English"),
        (group(en={**group()["en"], "output": ""}), "'en.output' is empty; write it, or move the group to drafts"),
        (group(en={**group()["en"], "output": " \n"}), "'en.output' is empty"),
        (group(en={**group()["en"], "answer": "x"}), "'en.answer' is not a field"),
        (group(id="open_qa-1"), "the id is 'open_qa-1'; write the category, a hyphen and four digits"),
        (group(id="closed_qa-0001"), "the id must begin with its category"),
        (group(ja={**group()["ja"], "reasoning": ""}), "'ja.reasoning' is empty; open_qa needs it"),
        (group(original={"zh": {"reasoning": "x"}}), "the group has no 'zh'"),
        (group(original={"ja": {}}), "'original' keeps nothing"),
        (group(chain={"id": "a", "step": 1}), "'chain' belongs to question_to_question"),
        ('{"id": "open_qa-0001", ', "not JSON at column"),
        ("[1, 2]", "a JSON list, not an object"),
        ("川".encode("shift_jis"), "is not UTF-8; save the file as UTF-8, not as Shift_JIS"),
        (b"\xef\xbb\xbf" + json.dumps(group()).encode(), "begins with a byte-order mark"),
    ],
)
def test_a_fault_is_told_with_file_line_and_remedy(
    line: dict[str, Any] | str | bytes, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (fault,) = faults(written(tmp_path, line))
    assert fault.startswith("open_qa.jsonl:1: ")
    assert told in fault


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    written(tmp_path, group(topic=""), "{", group(id="open_qa-0002"), group(id="open_qa-0002"))
    written(tmp_path, group(id="open_qa-0003"), name="creative.jsonl")
    told = faults(tmp_path)
    assert len(told) == 4
    assert "open_qa.jsonl:4: open_qa-0002: this id is taken by" in told[3]
    assert "the category is open_qa; move it to open_qa.jsonl" in told[2]


def test_an_empty_or_missing_folder_is_told(tmp_path: Path) -> None:
    assert "no *.jsonl file here" in faults(tmp_path)[0]
    assert "no such folder" in faults(tmp_path / "nowhere")[0]


def test_the_installed_records_cover_every_category_in_japanese_and_english() -> None:
    groups = read_groups(default_records_dir())
    assert os.path.isdir(default_records_dir())
    assert {located.group.category for located in groups} == set(CATEGORIES)
    for category in CATEGORIES:
        mine = [located.group for located in groups if located.group.category == category]
        assert len(mine) >= 12
        assert sum(group.zh is not None for group in mine) * 3 >= len(mine)
