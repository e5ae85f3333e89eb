"""A large file marked row by row: what is marked, that nothing is lost, and that a killed run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.check_rows import check_rows
from bonsai.builder.importing.row_texts import CHUNK_BYTES

SENTENCES = {
    "ja": "盆栽の水やりは、鉢土の表面が乾いてから行います。冬は三日に一度、夏は朝夕の二度が目安です。",
    "en": "Water a bonsai only when the surface of its soil has dried, about every third day in winter.",
    "zh": "盆栽浇水要等盆土表面干了以后再进行。冬天大约三天浇一次，夏天早晚各浇一次比较合适。",
}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def many_rows(path: Path, count: int) -> Path:
    chance = random.Random(3)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if number % 10 == 9:
            earlier = rows[chance.randrange(len(rows))]
            rows.append({"id": number, "instruction": "say", "output": earlier["output"][:-3] + "end"})
        else:
            rows.append({"id": number, "instruction": "say", "output": "".join(chance.choices(letters, k=900))})
    return written(path, rows)


def test_rows_are_marked_in_their_order_and_none_is_dropped(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for text in SENTENCES.values():
        rows += [{"instruction": "", "output": text}, {"instruction": "", "output": text}]
        rows.append({"instruction": "", "output": text[:12] + text[14:], "kept": 1.50})
    output = tmp_path / "checked.jsonl"
    result = check_rows(written(tmp_path / "rows.jsonl", rows), output, processes=1)
    found = read(output)
    assert [{name: row[name] for name in before} for row, before in zip(found, rows, strict=True)] == rows
    assert [row["duplicate_of"] for row in found] == [None, 1, None, None, 4, None, None, 7, None]
    assert [row["near_duplicate_of"] for row in found] == [None, None, 1, None, None, 4, None, None, 7]
    assert all(0.55 <= row["similarity"] < 1 for row in found[2::3])
    assert [row["detected_language"] for row in found] == ["ja"] * 3 + ["en"] * 3 + ["zh"] * 3
    assert (result.rows, result.duplicates, result.near_duplicates) == (9, 3, 3)
    assert result.languages == {"ja": 3, "en": 3, "zh": 3}
    assert [path.name for path in tmp_path.iterdir() if path not in (output, tmp_path / "rows.jsonl")] == []


def test_full_width_forms_are_the_same_text_but_another_sign_is_not(tmp_path: Path) -> None:
    rows = [
        {"instruction": text, "output": "ok"}
        for text in ("３＋２はいくつですか", "3+2はいくつですか", "3-2はいくつですか")
    ]
    check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", processes=1)
    assert [row["duplicate_of"] for row in read(tmp_path / "out.jsonl")] == [None, 1, None]


def test_thousands_of_form_letters_are_each_marked(tmp_path: Path) -> None:
    letters = [f"Dear customer {n * 7919}, your order {n * 104729} is on its way to you by rail." for n in range(2_000)]
    rows = [{"instruction": "Write to the customer.", "output": letter} for letter in letters]
    result = check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", processes=1)
    assert result.near_duplicates >= 1_995  # the shortest numbers leave the first ones less alike


def test_a_line_goes_through_byte_by_byte_before_the_new_columns(tmp_path: Path) -> None:
    line = b'{"output": "\\u76c6\\/", "n": 1.50,  "instruction": null}'
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n" + line)
    check_rows(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", processes=1)
    first, second = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert first.startswith(line[:-1] + b',"duplicate_of": null')
    assert json.loads(second)["duplicate_of"] == 1


def test_a_checked_file_checked_again_stays_the_same(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": SENTENCES["ja"]}, {"instruction": "q", "output": SENTENCES["ja"]}]
    check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "one.jsonl", processes=1)
    check_rows(tmp_path / "one.jsonl", tmp_path / "two.jsonl", processes=1)
    assert read(tmp_path / "two.jsonl") == read(tmp_path / "one.jsonl")


def test_every_faulty_line_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    lines = [b'{"output": "good"}', b"{oops", b'["output"]', b'{"text": "x"}', b'{"output": "\xff"}']
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(RecordError) as refused:
        check_rows(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", processes=1)
    assert [fault.split(":")[1] for fault in refused.value.faults] == ["2", "3", "4", "5"]
    assert "none of the columns instruction, input, output has text; write one, or drop" in refused.value.faults[2]
    assert not (tmp_path / "out.jsonl").exists()


def test_more_than_fifty_faults_are_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("[]\n" * 73)
    with pytest.raises(RecordError, match="and 23 more faulty lines"):
        check_rows(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", processes=1)


def test_an_existing_output_and_bad_settings_are_refused_together(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.jsonl", [{"output": "x"}])
    with pytest.raises(RecordError) as refused:
        check_rows(source, source, fields=(), threshold=2.0)
    assert [fault.split(": ")[0] for fault in refused.value.faults] == [str(source), "fields", "threshold"]


def test_two_processes_and_one_write_the_same_bytes_and_tell_their_progress(tmp_path: Path) -> None:
    source = many_rows(tmp_path / "rows.jsonl", 5_000)
    assert source.stat().st_size > 2 * CHUNK_BYTES
    told: list[tuple[int, int | None]] = []
    check_rows(source, tmp_path / "one.jsonl", processes=1, progress=lambda done, total: told.append((done, total)))
    result = check_rows(source, tmp_path / "two.jsonl", processes=2)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert result.near_duplicates + result.duplicates == 500
    assert told[-1] == (5_000, 5_000)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    source = many_rows(tmp_path / "rows.jsonl", 9_000)
    check_rows(source, tmp_path / "whole.jsonl", processes=1)
    output = tmp_path / "killed.jsonl"
    program = (
        "from pathlib import Path\nfrom bonsai.builder.importing.check_rows import check_rows\n"
        f"check_rows(Path({str(source)!r}), Path({str(output)!r}), processes=1)"
    )
    run = subprocess.Popen([sys.executable, "-c", program])
    work = tmp_path / "killed.jsonl.work"
    deadline = time.monotonic() + 30
    while len(list(work.glob("*/*.hashes.npy"))) < 2 and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not output.exists()
    before = {path: path.stat().st_mtime_ns for path in work.glob("*/*.hashes.npy")}
    assert len(before) >= 2
    kept: list[Path] = []
    check_rows(
        source,
        output,
        processes=1,
        progress=lambda done, total: kept.extend(
            p for p, t in before.items() if p.exists() and p.stat().st_mtime_ns == t
        ),
    )
    assert set(kept) == set(before)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("question", "passage", "answer"),
    [
        ("instruction", "context", "response"),
        ("質問", "文脈", "回答"),
        ("query", "input", "response"),
        ("Question", "passage", "Answer"),
    ],
)
def test_the_names_that_import_knows_are_compared_too(tmp_path: Path, question: str, passage: str, answer: str) -> None:
    texts = ("寒天は海藻から作る。", "豆腐は大豆から作る。", "寒天は海藻から作る。")
    rows = [{question: "一文に要約してください。", passage: text, answer: text[:4]} for text in texts]
    result = check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", processes=1)
    assert [row["duplicate_of"] for row in read(tmp_path / "out.jsonl")] == [None, None, 1]
    assert result.columns == (question, passage, answer)


@pytest.mark.parametrize(
    ("role", "text", "names"), [("role", "content", "messages"), ("from", "value", "conversations")]
)
def test_conversations_are_compared_by_all_of_their_turns(tmp_path: Path, role: str, text: str, names: str) -> None:
    def talk(*said: str) -> dict[str, Any]:
        return {names: [{role: ("user", "assistant")[n % 2], text: words} for n, words in enumerate(said)]}

    rows = [
        talk("寒天とは。", "海藻の食品です。"),
        talk("豆腐とは。", "大豆の食品です。"),
        talk("寒天とは。", "海藻の食品です。"),
    ]
    rows.append(talk("寒天とは。", "海藻の食品です。", "では心太は。", "同じ海藻からできます。"))
    check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", processes=1)
    found = read(tmp_path / "out.jsonl")
    assert [row["duplicate_of"] for row in found] == [None, None, 1, None]
    assert {row["detected_language"] for row in found} == {"ja"}


def test_numbers_lists_nan_and_null_are_compared_and_not_refused(tmp_path: Path) -> None:
    lines = [
        '{"instruction": "3×4は。", "input": NaN, "output": 12}',
        '{"instruction": "3×4は。", "input": null, "output": "12"}',
    ]
    lines += [
        '{"instruction": "三つ。", "output": ["昆布", "海苔"]}',
        '{"instruction": "正しいですか。", "output": true}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    check_rows(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", processes=1)
    assert [row["duplicate_of"] for row in read(tmp_path / "out.jsonl")] == [None, 1, None, None]


@pytest.mark.parametrize("own", ["similarity", "duplicate_of", "detected_language"])
def test_a_column_of_the_persons_own_stays_and_the_marks_go_by_other_names(tmp_path: Path, own: str) -> None:
    rows: list[dict[str, Any]] = [{"instruction": "q", "output": SENTENCES["ja"], own: 0.93}]
    rows += [
        {"instruction": "q", "output": SENTENCES["ja"]},
        {"instruction": "p", "output": SENTENCES["en"], own: None},
    ]
    result = check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", processes=1)
    found = read(tmp_path / "out.jsonl")
    assert [row.get(own) for row in found] == [0.93, None, None]
    assert [row["bonsai_duplicate_of"] for row in found] == [None, 1, None]
    assert result.marks[0] == "bonsai_duplicate_of"
    check_rows(tmp_path / "out.jsonl", tmp_path / "again.jsonl", processes=1)
    assert read(tmp_path / "again.jsonl") == found


def test_columns_of_no_known_name_are_told_once_and_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"Frage": "Warum?", "Antwort": SENTENCES["en"]}] * 3)
    with pytest.raises(RecordError) as refused:
        check_rows(path, tmp_path / "out.jsonl", processes=1)
    (fault,) = refused.value.faults
    assert "none of its columns (Frage, Antwort) is instruction" in fault
    assert "--column output=NAME" in fault
    named = {"Frage": "instruction", "Antwort": "output"}
    result = check_rows(path, tmp_path / "out.jsonl", renamed=named, processes=1)
    assert result.duplicates == 2


def test_a_short_or_foreign_answer_does_not_hide_the_language_of_its_question(tmp_path: Path) -> None:
    rows = [
        {"instruction": "水の化学式は何ですか。", "output": "H2O"},
        {"instruction": "What is water?", "output": "H2O"},
    ]
    rows += [
        {"instruction": "足すコードを書いて。", "output": "print(sum(range(1, 4)))"},
        {"input": "これは水です。", "output": "12"},
    ]
    check_rows(written(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", processes=1)
    assert [row["detected_language"] for row in read(tmp_path / "out.jsonl")] == ["ja", "en", "ja", "ja"]
