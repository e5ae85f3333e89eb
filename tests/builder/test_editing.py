from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder import editing
from bonsai.builder.editing import (
    EditConflictError,
    GroupChange,
    GroupLine,
    change_groups,
    read_lines,
    undo,
)
from bonsai.builder.errors import FolderInUseError, RecordError
from bonsai.builder.files import exclusive
from bonsai.builder.records import default_records_dir, read_groups
from tests.builder.test_records import group


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A copy of the real records, which nobody minds."""
    return Path(shutil.copytree(default_records_dir(), tmp_path / "records"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def kept_steps(folder: Path) -> int:
    return len(list((folder.parent / f".{folder.name}.journal").glob("[0-9]*.json")))


def changed(line: GroupLine, language: str, field: str, text: str) -> GroupChange:
    record = json.loads(line.raw)
    record[language][field] = text
    return GroupChange(read=line, record=record)


def differing(before: bytes, after: bytes) -> list[int]:
    old, new = before.split(b"\n"), after.split(b"\n")
    assert len(old) == len(new)
    return [number for number, (one, other) in enumerate(zip(old, new, strict=True), 1) if one != other]


def test_an_edit_changes_its_line_and_no_other_byte(records: Path) -> None:
    before = contents(records)
    line = read_lines(records)["creative-0042"]
    change_groups(records, [changed(line, "ja", "reasoning", "季語を先に決める。\n「霧」は秋。")], note="edit")
    after = contents(records)
    assert [name for name in before if before[name] != after[name]] == ["creative.jsonl"]
    assert differing(before["creative.jsonl"], after["creative.jsonl"]) == [line.number]
    new = after["creative.jsonl"].split(b"\n")[line.number - 1].decode()
    old = line.raw.decode()
    assert list(json.loads(new)) == list(json.loads(old))
    assert new == old.replace(
        json.dumps(line.record["ja"]["reasoning"], ensure_ascii=False), '"季語を先に決める。\\n「霧」は秋。"'
    )


def test_a_group_edited_to_what_it_was_leaves_everything_as_it_was(records: Path) -> None:
    before = contents(records)
    lines = read_lines(records)
    change_groups(records, [GroupChange(read=line, record=line.record) for line in lines.values()], note="nothing")
    assert contents(records) == before
    assert undo(records) is None


@pytest.mark.parametrize(
    ("line", "record", "spelled"),
    [
        ('{"b":1,"a":{"x":"é","y":2}}', {"a": {"x": "è", "y": 2}, "b": 1}, '{"b":1,"a":{"x":"è","y":2}}'),
        ('{ "b" : 1, "a" : 2 }', {"b": 1, "a": 3}, '{ "b" : 1, "a" : 3 }'),
        ('{"a": "\\u65e5", "b": "x"}', {"a": "日", "b": "本"}, '{"a": "\\u65e5", "b": "\\u672c"}'),
        ('{"a": "\\/日", "b": 1}', {"a": "/日", "b": 2}, '{"a": "\\/日", "b": 2}'),
        ('{"a": 1.50, "b": 1e3, "c": 1}', {"a": 1.5, "b": 1000.0, "c": 2}, '{"a": 1.50, "b": 1e3, "c": 2}'),
        ('{"a": 1, "b": true}', {"a": 1, "b": 1}, '{"a": 1, "b": 1}'),
        ('{"a": "}, \\"b\\": {", "b": []}', {"a": "}, \"b\": {", "b": ["]"]}, '{"a": "}, \\"b\\": {", "b": ["]"]}'),
        ('{"id": "x", "source": "s"}', {"id": "x", "source": "s", "zh": 2}, '{"id": "x", "zh": 2, "source": "s"}'),
        ('{"id":"x","source":"g"}', {"id": "x", "source": "g", "read": [1]}, '{"id":"x","source":"g","read":[1]}'),
        ('{"ja": {"input": ""}}', {"ja": {"history": [], "input": ""}}, '{"ja": {"history": [], "input": ""}}'),
        ('{"a": 1, "b": 2, "c": 3}', {"b": 2}, '{"b": 2}'),
        ("  {}\r", {"a": 1}, '  {"a": 1}\r'),
        ("\ufeff{\"a\":1}", {"a": 2}, "\ufeff{\"a\":2}"),
        ("", {"a": "日", "b": [1]}, '{"a": "日", "b": [1]}'),
    ],
)  # fmt: skip
def test_a_line_keeps_its_own_spelling(line: str, record: dict[str, Any], spelled: str) -> None:
    assert editing.spell(record, line.encode()).decode() == spelled


def test_line_ends_marks_and_blank_lines_of_a_file_stay(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    first, second = (json.dumps(group(id=f"open_qa-{n:04d}"), ensure_ascii=False) for n in (1, 2))
    (folder / "open_qa.jsonl").write_bytes(f"\ufeff{first}\r\n\r\n  {second}\r\nnot JSON".encode())
    line = read_lines(folder)["open_qa-0002"]
    change_groups(folder, [GroupChange(read=line, record={**line.record, "topic": "rivers"})], note="edit")
    second = second.replace("geography", "rivers")
    assert (folder / "open_qa.jsonl").read_bytes() == f"\ufeff{first}\r\n\r\n  {second}\r\nnot JSON".encode()
    change_groups(folder, [GroupChange(record=group(id="open_qa-0003"))], note="add")
    third = json.dumps(group(id="open_qa-0003"), ensure_ascii=False)
    assert (folder / "open_qa.jsonl").read_bytes().endswith(f"\r\nnot JSON\n{third}\r\n".encode())
    undo(folder)
    undo(folder)
    assert (folder / "open_qa.jsonl").read_bytes().endswith(b"\r\nnot JSON")
    assert b"rivers" not in (folder / "open_qa.jsonl").read_bytes()


def test_a_change_is_refused_when_its_line_changed_underneath_and_no_other(records: Path) -> None:
    lines = read_lines(records)
    mine = changed(lines["open_qa-0007"], "en", "output", "Mine.")
    change_groups(records, [changed(lines["open_qa-0007"], "en", "output", "Theirs.")], note="theirs")
    before = contents(records)
    with pytest.raises(
        EditConflictError, match=r"open_qa.jsonl:7: open_qa-0007: the line was changed since it was read"
    ):
        change_groups(records, [changed(lines["open_qa-0001"], "en", "output", "Both or none."), mine], note="mine")
    assert contents(records) == before


def test_a_line_that_only_moved_is_still_the_line(records: Path) -> None:
    line = read_lines(records)["open_qa-0007"]
    path = records / "open_qa.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(rest + first + b"\n")
    change_groups(records, [changed(line, "en", "output", "Here.")], note="edit")
    assert read_lines(records)["open_qa-0007"].record["en"]["output"] == "Here."
    assert read_lines(records)["open_qa-0007"].number == 6


def test_a_group_that_is_gone_is_told(records: Path) -> None:
    line = read_lines(records)["open_qa-0007"]
    change_groups(records, [GroupChange(read=line)], note="remove")
    with pytest.raises(EditConflictError, match="open_qa-0007: the line is gone"):
        change_groups(records, [changed(line, "en", "output", "x")], note="edit")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"topic": " "}, "open_qa.jsonl:1: open_qa-0001: 'topic' is empty"),
        ({"surprise": 1}, "'surprise' is not a field"),
        ({"ja": None}, "'ja' is None"),
        ({"topic": "half \ud83d"}, "a text holds half of a character"),
        ({"id": "open_qa-1"}, "write the category, a hyphen and four digits"),
    ],
)
def test_what_is_no_group_is_not_written(records: Path, changes: dict[str, Any], told: str) -> None:
    before = contents(records)
    line = read_lines(records)["open_qa-0001"]
    with pytest.raises(RecordError, match=told):
        change_groups(records, [GroupChange(read=line, record={**line.record, **changes})], note="edit")
    assert contents(records) == before


def test_a_taken_id_is_refused(records: Path) -> None:
    with pytest.raises(EditConflictError, match="open_qa-0001: this id is taken"):
        change_groups(records, [GroupChange(record=group(id="open_qa-0001"))], note="add")
    twice = [GroupChange(record=group(id="open_qa-0900")), GroupChange(record=group(id="open_qa-0900"))]
    with pytest.raises(EditConflictError, match="open_qa-0900: this id is taken"):
        change_groups(records, twice, note="add")


def test_several_changes_are_one_step_back_and_forth(records: Path, tmp_path: Path) -> None:
    before = contents(records)
    lines = read_lines(records)
    drafts = tmp_path / "drafts" / "open_qa.jsonl"
    moved = {**json.loads(lines["closed_qa-0003"].raw), "id": "open_qa-0101", "category": "open_qa"}
    after = change_groups(
        records,
        [
            changed(lines["open_qa-0001"], "ja", "output", "一。"),
            changed(lines["open_qa-0050"], "en", "output", "Two."),
            GroupChange(read=lines["open_qa-0002"], drafts=drafts),
            GroupChange(read=lines["closed_qa-0003"], record=moved),
            GroupChange(record=group(id="open_qa-0102")),
        ],
        note="merge",
    )
    assert "open_qa-0002" not in after
    assert "closed_qa-0003" not in after
    assert after["open_qa-0102"].record == group(id="open_qa-0102")
    assert drafts.read_bytes() == lines["open_qa-0002"].raw + b"\n"
    read_groups(records)
    step = undo(records)
    assert step is not None
    assert step.note == "merge"
    assert {"open_qa-0001", "open_qa-0002", "closed_qa-0003", "open_qa-0101"} <= set(step.groups)
    assert contents(records) == before
    assert not drafts.exists()
    assert undo(records) is None


def test_undo_goes_back_step_by_step_in_another_process_too(records: Path) -> None:
    seen = [contents(records)]
    for number in range(3):
        line = read_lines(records)["open_qa-0009"]
        change_groups(records, [changed(line, "ja", "output", f"{number}。")], note=f"step {number}")
        seen.append(contents(records))
    script = f"from pathlib import Path; from bonsai.builder.editing import undo; undo(Path({str(records)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert contents(records) == seen[2]
    undo(records)
    undo(records)
    assert contents(records) == seen[0]


def test_undo_leaves_what_others_did_meanwhile(records: Path) -> None:
    line = read_lines(records)["open_qa-0009"]
    change_groups(records, [changed(line, "ja", "output", "私。")], note="edit open_qa-0009")
    path = records / "open_qa.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])  # an editor took the first line away
    undo(records)
    lines = read_lines(records)
    assert lines["open_qa-0009"].raw == line.raw
    assert "open_qa-0001" not in lines


def test_undo_is_refused_where_the_line_was_edited_since(records: Path) -> None:
    line = read_lines(records)["open_qa-0009"]
    change_groups(records, [changed(line, "ja", "output", "私。")], note="edit open_qa-0009")
    path = records / "open_qa.jsonl"
    path.write_bytes(path.read_bytes().replace("私。".encode(), "他人。".encode()))
    before = contents(records)
    with pytest.raises(EditConflictError, match="changed after “edit open_qa-0009”"):
        undo(records)
    assert contents(records) == before
    assert kept_steps(records) == 1


@pytest.mark.parametrize("survives", range(1, 8))
def test_a_killed_step_is_done_or_not_done(records: Path, tmp_path: Path, survives: int) -> None:
    before = contents(records)
    script = f"""
import json, os, sys
from pathlib import Path
from bonsai.builder import editing
folder = Path({str(records)!r})
lines = editing.read_lines(folder)
left = {survives}
replace = Path.replace
def counting(self, target):
    global left
    left -= 1
    if left == 0:
        os._exit(9)
    return replace(self, target)
Path.replace = counting
def edit(name):
    return editing.GroupChange(read=lines[name], record={{**lines[name].record, "topic": "killed"}})
removed = editing.GroupChange(read=lines["creative-0004"], drafts=Path({str(tmp_path / "drafts.jsonl")!r}))
editing.change_groups(folder, [edit("open_qa-0001"), edit("closed_qa-0002"), removed], note="killed")
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False).returncode
    whole = {name: line.record for name, line in read_lines(records).items()}
    topics = {name: whole[name]["topic"] == "killed" for name in ("open_qa-0001", "closed_qa-0002")}
    done = {*topics.values(), "creative-0004" not in whole, (tmp_path / "drafts.jsonl").exists()}
    assert len(done) == 1, "half a step"
    if done == {False}:
        assert contents(records) == before
    assert done == {survives >= 7}
    assert ended == 9
    if done == {True}:
        undo(records)
        assert contents(records) == before


def test_two_processes_that_edit_at_once_lose_nothing(records: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_edit_topic, [(records, f"classification-{number:04d}") for number in range(1, 25)])
    topics = [read_lines(records)[f"classification-{number:04d}"].record["topic"] for number in range(1, 25)]
    assert topics == ["at once"] * 24
    assert kept_steps(records) == 24


def _edit_topic(folder: Path, name: str) -> None:
    line = read_lines(folder)[name]
    change_groups(folder, [GroupChange(read=line, record={**line.record, "topic": "at once"})], note=name)


def test_a_folder_that_another_process_writes_is_waited_for_and_then_refused(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "_WAIT", 0.2)
    script = (
        "import sys\nfrom pathlib import Path\nfrom bonsai.builder.files import exclusive\n"
        f"with exclusive(Path({str(records)!r})):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        with pytest.raises(FolderInUseError, match="repeat the change"):
            change_groups(records, [GroupChange(record=group(id="open_qa-0900"))], note="add")
    finally:
        holder.communicate()
    with exclusive(records):  # and the same thread may hold it already
        change_groups(records, [GroupChange(record=group(id="open_qa-0900"))], note="add")


def test_files_keep_their_permissions_and_links(records: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in records.glob("*.jsonl"):
        path.chmod(0o640)
        (linked / path.name).symlink_to(path)
    line = read_lines(linked)["open_qa-0001"]
    change_groups(linked, [changed(line, "ja", "output", "一。")], note="edit")
    assert (linked / "open_qa.jsonl").is_symlink()
    assert read_lines(records)["open_qa-0001"].record["ja"]["output"] == "一。"
    assert (records / "open_qa.jsonl").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_git_sees_one_line_and_no_journal(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "records"
    shutil.copytree(default_records_dir(), folder)

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@x", *words]
        env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, env=env).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "records")
    change_groups(folder, [changed(read_lines(folder)["open_qa-0007"], "en", "output", "Here.")], note="edit")
    assert git("status", "--porcelain") == " M data/records/open_qa.jsonl\n"
    assert git("diff", "--numstat").split() == ["1", "1", "data/records/open_qa.jsonl"]
