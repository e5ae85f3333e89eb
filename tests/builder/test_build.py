from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import yaml

from bonsai.builder.bonsai import CONFIGS, FEATURES, BonsaiBuilder
from bonsai.builder.build import build_dataset, content_hash, parquet_name
from bonsai.builder.errors import RecordError
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.rows import SPLITS, assign_split, group_to_rows
from bonsai.builder.schema import CATEGORIES


@pytest.fixture(scope="module")
def built(dataset: Path) -> Path:
    return dataset


def test_the_same_records_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build_dataset(default_records_dir(), tmp_path / "again", "qeu/bonsai")
    first = {p.relative_to(built): p.read_bytes() for p in built.rglob("*") if p.is_file()}
    again = {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert first == again
    assert content_hash(built) == content_hash(tmp_path / "again")


def test_every_config_and_split_holds_its_rows(built: Path) -> None:
    rows = [row for located in read_groups(default_records_dir()) for row in group_to_rows(located.group)]
    assert "probes" in CONFIGS
    for config in set(CONFIGS) - {"probes"}:
        ids = set()
        for split in SPLITS:
            part = datasets.Dataset.from_parquet(str(built / parquet_name(config, split)))
            ids |= set(part["id"])
        if config in ("ja", "en", "zh"):
            assert ids == {row["id"] for row in rows if row["language"] == config}
        elif config == "preference":
            kept = [row for row in rows if row["reasoning_original"] is not None and row["input_original"] is None]
            assert ids == {row["id"] for row in kept if row["reasoning_original"] != row["reasoning"]}
        elif config == "translation":
            assert ids == {row["id"] for row in rows if row["category"] == "translation"}
        else:
            assert ids == {row["id"] for row in rows}


def test_the_builder_class_alone_gives_the_same_rows(built: Path, tmp_path: Path) -> None:
    builder = BonsaiBuilder(config_name="ja", cache_dir=str(tmp_path))
    builder.download_and_prepare()
    train = builder.as_dataset(split="train")
    assert train.features == FEATURES
    published = datasets.Dataset.from_parquet(str(built / parquet_name("ja", "train")))
    assert train.remove_columns("warnings").to_list() == published.remove_columns("warnings").to_list()


def test_parallel_texts_and_chains_never_straddle_a_split() -> None:
    chains: dict[str, set[str]] = {}
    for located in read_groups(default_records_dir()):
        chain = getattr(located.group, "chain", None)
        if chain is not None:
            chains.setdefault(chain.id, set()).add(assign_split(located.group))
    assert chains
    assert all(len(splits) == 1 for splits in chains.values())


def test_each_category_is_cut_near_eighty_ten_ten() -> None:
    groups = [located.group for located in read_groups(default_records_dir())]
    for category in CATEGORIES:
        mine = [assign_split(group) for group in groups if group.category == category]
        assert 0.70 <= mine.count("train") / len(mine) <= 0.92, category
        assert mine.count("validation"), category
        assert mine.count("test"), category


def test_the_card_states_what_the_hub_reads(built: Path) -> None:
    card = (built / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "mit"
    assert front["language"] == ["ja", "en", "zh"]
    assert [c["config_name"] for c in front["configs"] if c.get("default")] == ["default"]
    assert {c["config_name"] for c in front["configs"]} == {i["config_name"] for i in front["dataset_info"]}
    assert 'load_dataset("qeu/bonsai", "ja")' in card
    for category in CATEGORIES:
        assert f"### {category}" in card


def test_a_fault_leaves_the_previous_build_untouched(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    build_dataset(default_records_dir(), out, "qeu/bonsai", check=False)
    before = content_hash(out)
    records = tmp_path / "records"
    records.mkdir()
    (records / "open_qa.jsonl").write_text("{\n")
    with pytest.raises(RecordError):
        build_dataset(records, out, "qeu/bonsai")
    assert content_hash(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset", "records"]


def test_building_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['bonsai', 'build', '--no-check', '--out', sys.argv[1]]\n"
        "from bonsai.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'trl', 'peft'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dataset" / "README.md").is_file()


def test_the_probes_are_a_config_of_their_own(built: Path) -> None:
    probes = datasets.Dataset.from_parquet(str(built / parquet_name("probes", "test")))
    assert len(probes) >= 60
    assert {"highest_mountain", "capital", "multi_step", "qtq_opening", "radioactivity"} <= set(probes["kind"])


def test_derived_rows_are_translations_and_at_most_a_quarter() -> None:
    rows = [row for located in read_groups(default_records_dir()) for row in group_to_rows(located.group)]
    derived = [row for row in rows if row["source"].startswith("derived from")]
    assert {row["category"] for row in derived} == {"translation"}
    assert 0 < len(derived) <= len(rows) / 4


def test_an_error_of_the_checks_keeps_the_build_from_replacing_the_last_one(tmp_path: Path) -> None:
    records = tmp_path / "records"
    shutil.copytree(default_records_dir(), records)
    path = records / "open_qa.jsonl"
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    wrong = {**first, "id": "open_qa-9000", "en": {**first["en"], "output": "Lake Nowhere, with 12 square kilometres."}}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(wrong, ensure_ascii=False) + "\n")
    with pytest.raises(RecordError, match=r"open_qa.jsonl:\d+: open_qa-\d{4}: \[contradiction\]"):
        build_dataset(records, tmp_path / "dataset", "qeu/bonsai")
    assert [p.name for p in tmp_path.iterdir()] == ["records"]
