"""The rows that the project itself publishes, read back into the groups they were built from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from bonsai.builder.bonsai import BonsaiBuilder
from bonsai.builder.records import default_records_dir, read_groups
from tests.importing.files import brought_in

EVERY = 9
"""of so many groups one is taken"""
CHAINS = ("gauge", "charm-price")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A few groups of each category as they are in the records, by id."""
    found = {}
    for number, located in enumerate(read_groups(default_records_dir())):
        group = located.group.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        # defaults that the records spell out: an empty input or Reasoning
        for language in ("ja", "en", "zh"):
            if language in group and "instruction" in group[language]:
                group[language] = {"input": "", "reasoning": ""} | group[language]
        group = {"category": str(located.group.category)} | group
        chosen = group["chain"]["id"] in CHAINS if "chain" in group else number % EVERY == 0 or group.get("skills")
        if chosen:
            found[group["id"]] = group
    return found


@pytest.fixture(scope="module")
def published(records: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    """All rows of these groups, in whichever split."""
    return _built(records, tmp_path_factory, "default")


@pytest.fixture(scope="module")
def messages(records: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    """The same rows as conversations."""
    return _built(records, tmp_path_factory, "messages")


def _built(records: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, config: str) -> datasets.Dataset:
    groups = [located for located in read_groups(default_records_dir()) if located.group.id in records]
    builder = BonsaiBuilder(config_name=config, cache_dir=str(tmp_path_factory.mktemp("cache")), groups=groups)
    builder.download_and_prepare()
    loaded = builder.as_dataset()
    return datasets.concatenate_datasets([split for split in loaded.values() if len(split)])


def to_csv(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_csv(folder / "rows.csv")
    return folder / "rows.csv"


def to_json(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_json(folder / "rows.json", force_ascii=False)
    return folder / "rows.json"


def to_jsonl(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_json(folder / "rows.jsonl")
    return folder / "rows.jsonl"


def to_parquet(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def to_disk(rows: datasets.Dataset, folder: Path) -> Path:
    half = len(rows) // 2
    parts = {"train": rows.select(range(half)), "test": rows.select(range(half, len(rows)))}
    datasets.DatasetDict(parts).save_to_disk(folder / "saved")
    return folder / "saved"


def by_pandas_csv(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_pandas().to_csv(folder / "rows.csv", index=True, encoding="utf-8-sig")
    return folder / "rows.csv"


def by_pandas_json(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_pandas().to_json(folder / "rows.json")
    return folder / "rows.json"


def by_pandas_split(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_pandas().to_json(folder / "rows.json", orient="split", force_ascii=False)
    return folder / "rows.json"


def by_pandas_excel(rows: datasets.Dataset, folder: Path) -> Path:
    rows.to_pandas().to_excel(folder / "rows.xlsx", index=False)
    return folder / "rows.xlsx"


def with_names(rows: datasets.Dataset, folder: Path) -> Path:
    names = rows.features["category"].names
    listed = [row | {"category": names[row["category"]]} for row in rows]
    (folder / "rows.json").write_text(json.dumps(listed, ensure_ascii=False, indent=1), encoding="utf-8")
    return folder / "rows.json"


WAYS = (to_csv, to_json, to_jsonl, to_parquet, to_disk, by_pandas_csv, by_pandas_json, by_pandas_split, by_pandas_excel)


@pytest.mark.parametrize("way", [*WAYS, with_names])
def test_published_rows_are_whole_groups_again_in_whatever_form_they_were_saved(
    tmp_path: Path,
    records: dict[str, dict[str, Any]],
    published: datasets.Dataset,
    way: Callable[[datasets.Dataset, Path], Path],
) -> None:
    result = brought_in(way(published, tmp_path), source=None, license=None, dry_run=True)
    assert [draft.reason for draft in result.drafts] == []
    assert {group["id"]: group for group in result.groups} == records
    assert any("derived from" not in group["source"] for group in result.groups)
    assert any("rows that a build derives from others were left out" in note for note in result.notes)


@pytest.mark.parametrize("way", [to_csv, to_json, to_parquet, to_disk])
def test_the_messages_config_gives_every_text_back_and_says_what_it_lacks(
    tmp_path: Path,
    records: dict[str, dict[str, Any]],
    messages: datasets.Dataset,
    way: Callable[[datasets.Dataset, Path], Path],
) -> None:
    result = brought_in(way(messages, tmp_path), dry_run=True, source="authored", generator="a person")
    texts = {
        group["id"]: {name: group[name] for name in ("ja", "en", "zh") if name in group} for group in result.groups
    }
    expected = {
        name: {language: group[language] for language in ("ja", "en", "zh") if language in group}
        for name, group in records.items()
        if group["category"] != "question_to_question"
    }
    # A few groups may mix languages, which only their skills allow, and conversations don't have these.
    lost = expected.keys() - texts.keys()
    assert texts == {name: group for name, group in expected.items() if name not in lost}
    assert all(records[name].get("skills") for name in lost)
    assert len(lost) < 10
    reasons = {str(draft.rows[0].text.columns["category"]): draft.reason for draft in result.drafts}
    assert "'chain' belongs to question_to_question" in reasons["question_to_question"]


def test_one_language_alone_waits_for_the_other(
    tmp_path: Path, published: datasets.Dataset, records: dict[str, dict[str, Any]]
) -> None:
    japanese = published.filter(lambda row: row["language"] == "ja")
    result = brought_in(to_parquet(japanese, tmp_path), source=None, license=None, dry_run=True)
    assert result.groups == ()
    assert any("no row in en; a group needs ja and en" in reason for reason in result.reasons)
