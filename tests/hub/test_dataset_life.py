"""The life of a dataset repository, with `datasets` as its reader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

CARD = """\
---
license: mit
language: [ja, en]
tags: [bonsai]
size_categories: n<1K
---
# 盆栽
"""


def test_a_pushed_dataset_loads_by_config_split_revision_and_as_a_stream(
    api: HfApi, dataset: str, in_child: Callable[..., Any]
) -> None:
    result = in_child(
        """
        from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset
        from huggingface_hub import HfApi
        ja = Dataset.from_dict({"text": ["盆栽", "松", "梅"], "n": [1, 2, 3]})
        en = Dataset.from_dict({"text": ["bonsai"], "n": [1]})
        DatasetDict({"train": ja, "test": en}).push_to_hub(name)
        HfApi().create_tag(name, tag="v1", repo_type="dataset")
        en.push_to_hub(name, "en")
        ja.select([0]).push_to_hub(name, split="train")
        result = {
            "configs": get_dataset_config_names(name),
            "now": load_dataset(name, split="train").to_list(),
            "then": load_dataset(name, split="train", revision="v1").to_list(),
            "test": load_dataset(name)["test"].to_list(),
            "en": load_dataset(name, "en")["train"].to_list(),
            "stream": list(load_dataset(name, "en", split="train", streaming=True)),
        }
        """,
        name=dataset,
    )
    bonsai = {"text": "bonsai", "n": 1}
    assert result == {
        "configs": ["default", "en"],
        "now": [{"text": "盆栽", "n": 1}],
        "then": [{"text": "盆栽", "n": 1}, {"text": "松", "n": 2}, {"text": "梅", "n": 3}],
        "test": [bonsai],
        "en": [bonsai],
        "stream": [bonsai],
    }
    files = api.list_repo_tree(dataset, repo_type="dataset", recursive=True, path_in_repo="data")
    assert all(isinstance(file, RepoFile) and file.lfs for file in files), "Parquet belongs into the large-file store"


def test_one_commit_adds_large_and_small_files_and_deletes_others(api: HfApi, dataset: str, tmp_path: Path) -> None:
    api.upload_file(path_or_fileobj=b"old", path_in_repo="old/a.txt", repo_id=dataset, repo_type="dataset")
    before = api.dataset_info(dataset).sha
    large = bytes(range(256)) * 100
    created = api.create_commit(
        dataset,
        [
            CommitOperationAdd("README.md", CARD.encode()),
            CommitOperationAdd("data/train.parquet", large),
            CommitOperationAdd("empty.txt", b""),
            CommitOperationDelete("old/"),
        ],
        commit_message="Version 2",
        commit_description="Larger.",
        repo_type="dataset",
        parent_commit=before,
    )
    info = api.dataset_info(dataset, files_metadata=True)
    assert created.oid == info.sha
    assert created.commit_url == f"{api.endpoint}/datasets/{dataset}/commit/{info.sha}"
    assert {"license:mit", "language:ja", "language:en", "size_categories:n<1K", "bonsai"} <= set(info.tags or [])
    assert info.card_data
    assert info.card_data.license == "mit"
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert {key: sizes[key] for key in ("data/train.parquet", "empty.txt")} == {
        "data/train.parquet": 25600,
        "empty.txt": 0,
    }
    assert "old/a.txt" not in sizes
    newest = api.list_repo_commits(dataset, repo_type="dataset")[0]
    assert (newest.title, newest.message, newest.authors) == ("Version 2", "Larger.", ["qeu"])
    path = api.hf_hub_download(dataset, "data/train.parquet", repo_type="dataset", cache_dir=tmp_path)
    assert Path(path).read_bytes() == large


def test_an_uploaded_folder_comes_back_as_a_snapshot(api: HfApi, dataset: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, content in {"README.md": CARD, "data/a.txt": "松", "data/b.bin": "\0" * 5000, "ignored.pyc": "x"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    api.upload_folder(folder_path=source, repo_id=dataset, repo_type="dataset", ignore_patterns="*.pyc")
    snapshot = Path(api.snapshot_download(dataset, repo_type="dataset", cache_dir=tmp_path / "cache"))
    found = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}
    assert found == {".gitattributes", "README.md", "data/a.txt", "data/b.bin"}
    assert (snapshot / "data/a.txt").read_text() == "松"
    unchanged = api.upload_folder(folder_path=source, repo_id=dataset, repo_type="dataset", ignore_patterns="*.pyc")
    assert unchanged.oid == api.dataset_info(dataset).sha
    assert len(api.list_repo_commits(dataset, repo_type="dataset")) == 2, "nothing changed, so nothing is committed"


def test_a_card_the_hub_would_refuse_is_refused(api: HfApi, dataset: str) -> None:
    with pytest.raises(ValueError, match='"license" with value "licence: license" is not valid'):
        api.upload_file(
            path_or_fileobj=b"---\nlicense: 'licence: license'\n---\n",
            path_in_repo="README.md",
            repo_id=dataset,
            repo_type="dataset",
        )


def test_a_renamed_repository_keeps_its_files_and_a_deleted_one_is_gone(
    api: HfApi, dataset: str, new_name: Callable[[], str]
) -> None:
    api.upload_file(path_or_fileobj=b"\0" * 2000, path_in_repo="a.bin", repo_id=dataset, repo_type="dataset")
    renamed = new_name()
    api.move_repo(dataset, renamed, repo_type="dataset")
    assert not api.repo_exists(dataset, repo_type="dataset")
    assert api.list_repo_files(renamed, repo_type="dataset") == [".gitattributes", "a.bin"]
    api.delete_repo(renamed, repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(renamed)
    api.delete_repo(renamed, repo_type="dataset", missing_ok=True)


def test_creating_twice_is_refused_unless_that_is_fine(api: HfApi, dataset: str) -> None:
    with pytest.raises(OSError, match="already created this dataset repo"):
        api.create_repo(dataset, repo_type="dataset")
    assert api.create_repo(dataset, repo_type="dataset", exist_ok=True).repo_id == dataset
    assert api.create_repo(dataset).repo_type == "model", "a model may have the name of a dataset"


def test_upper_and_lower_case_are_the_same_in_an_address(api: HfApi, new_name: Callable[[], str]) -> None:
    name = new_name() + "-Pine"
    api.create_repo(name)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=name.lower())
    assert api.model_info(name.upper().replace("QEU", "qeu")).id == name
    with pytest.raises(OSError, match="already created this model repo"):
        api.create_repo(name.lower())
