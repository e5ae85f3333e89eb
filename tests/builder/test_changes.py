"""What changed between two versions: rows, words, groups, the CHANGELOG, and its way to the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from bonsai.builder import release
from bonsai.builder.changes import (
    CHANGELOG,
    FieldChange,
    changelog,
    changelog_entry,
    changes_html,
    changes_json,
    compare_versions,
    id_ranges,
    rows_of_records,
    rows_of_release,
    version_key,
)
from bonsai.builder.errors import ReleaseError
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.release import dataset_release
from bonsai.hub.target import local_hub


def row(row_id: str, **texts: Any) -> dict[str, Any]:
    group, _, language = row_id.rpartition("-")
    return {"id": row_id, "group_id": group, "language": language, "instruction": "?", "output": "!", **texts}


def by_id(*rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in rows}


BEFORE = by_id(
    row("open_qa-0001-ja", output="琵琶湖です。"),
    row("open_qa-0001-en", output="Lake Biwa."),
    row("open_qa-0002-ja"),
    row("open_qa-0003-en", skills=["katakana_names"]),
)
AFTER = by_id(
    row("open_qa-0001-ja", output="滋賀県の琵琶湖です。"),
    row("open_qa-0001-en", output="Lake Biwa."),
    row("open_qa-0001-zh"),
    row("open_qa-0003-en", skills=["katakana_names"]),
    row("open_qa-0004-ja"),
    row("open_qa-0005-ja"),
)


def test_rows_are_counted_by_language_and_groups_by_what_happened_to_them() -> None:
    found = compare_versions(BEFORE, AFTER, names=("v1", "v2"))
    assert found.counts() == {
        "en": {"unchanged": 2},
        "ja": {"changed": 1, "added": 2, "removed": 1},
        "zh": {"added": 1},
    }
    assert {group: kind for group, (kind, _) in found.groups().items()} == {
        "open_qa-0001": "changed",  # a language came, another was edited
        "open_qa-0002": "removed",
        "open_qa-0004": "added",
        "open_qa-0005": "added",
    }


def test_a_version_is_no_different_from_itself() -> None:
    rows = rows_of_records(read_groups(default_records_dir()))
    found = compare_versions(rows, rows, names=("a", "a"))
    assert found.rows == []
    assert sum(found.unchanged.values()) == len(rows)
    assert "Nothing changed" in changes_html(found)


@pytest.mark.parametrize(
    ("before", "after", "went", "came"),
    [
        ("琵琶湖です。", "滋賀県の琵琶湖です。", "", "滋賀県の"),
        ("It's one of 12 bags", "It's one of 13 bags", "12", "13"),
        ("叫霞浦湖", "叫琵琶湖", "霞浦", "琵琶"),
        ("", "new\nlines", "", "new\nlines"),
    ],
)
def test_a_text_changes_word_by_word(before: str, after: str, went: str, came: str) -> None:
    pieces = list(FieldChange("output", before, after).words())
    assert "".join(text for state, text in pieces if state != "added") == before
    assert "".join(text for state, text in pieces if state != "removed") == after
    assert "".join(text for state, text in pieces if state == "removed") == went
    assert "".join(text for state, text in pieces if state == "added") == came


def test_the_page_runs_nothing_of_a_record() -> None:
    evil = by_id(row("open_qa-0001-ja", output="<script>alert(1)</script>[b]x[/b]"))
    page = changes_html(compare_versions(BEFORE, evil, names=("v1", "<v2>")))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_machines_get_every_field_before_and_after() -> None:
    plain = changes_json(compare_versions(BEFORE, AFTER, names=("v1", "v2")))
    (ja,) = (one for one in plain["groups"][0]["rows"] if one["id"] == "open_qa-0001-ja")
    assert ja["fields"] == {"output": {"before": "琵琶湖です。", "after": "滋賀県の琵琶湖です。"}}
    assert json.loads(json.dumps(plain)) == plain


def test_ids_in_a_run_are_drawn_together() -> None:
    ids = ["open_qa-0009", "open_qa-0010", "open_qa-0011", "open_qa-0020", "closed_qa-0021"]
    assert list(id_ranges(ids)) == ["open_qa-0009 to -0011", "open_qa-0020", "closed_qa-0021"]


def test_versions_are_sorted_as_numbers() -> None:
    assert sorted(["v0.10.0", "v0.9.1", "v0.2.0"], key=version_key) == ["v0.2.0", "v0.9.1", "v0.10.0"]


def test_an_entry_stands_above_the_earlier_ones_and_the_heading_once() -> None:
    found = compare_versions(BEFORE, AFTER, names=("v1", "v2"))
    first = changelog("## v1 (2026-01-01)\n\nThe first release.\n", "")
    second = changelog(changelog_entry(found, released="2026-02-02"), first)
    assert second.count("# Changes\n") == 1
    assert second.index("## v2 (2026-02-02)") < second.index("## v1 (2026-01-01)")
    assert "Since v1: groups 2 added, 1 changed, 1 removed." in second
    assert "Groups added: open_qa-0004 to -0005." in second


def test_a_release_tells_what_changed_since_the_one_before(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "dataset"
    shutil.copytree(dataset, built)
    repo_id = "qeu/bonsai"
    with local_hub(tmp_path / "hub") as target:
        api = HfApi(endpoint=target.endpoint, token=target.token)
        # 1. The first release has nothing before it.
        first = dataset_release(built, repo_id, api)
        assert "The first release" in bytes(first.files[CHANGELOG]).decode()
        first.push(api, may_move_tag=False)
        # 2. Published again, it makes no commit; and a release that isn't there is named beside those that are.
        assert not dataset_release(built, repo_id, api).push(api, may_move_tag=False).changed
        with pytest.raises(ReleaseError, match=r"no release 'v9'; it has v0\.1\.0"):
            rows_of_release(api, repo_id, "v9")
        # 3. The next version, with the rows of a group gone.
        import pyarrow.parquet as pq

        path = built / "default" / "test-00000-of-00001.parquet"
        table = pq.read_table(path)
        gone = table["group_id"][0].as_py()
        pq.write_table(table.filter([group != gone for group in table["group_id"].to_pylist()]), path)
        monkeypatch.setattr(release, "TAG", "v0.2.0")
        second = dataset_release(built, repo_id, api)
        log, card = (bytes(second.files[name]).decode() for name in (CHANGELOG, "README.md"))
        assert f"Groups removed: {gone}." in log
        assert log.index("## v0.2.0") < log.index("## v0.1.0")
        assert "## Changes in v0.2.0" in card
        assert "0 added, 0 changed, 1 removed" in card
        assert gone not in card.partition("## Changes in")[2].partition("\n## ")[0]
