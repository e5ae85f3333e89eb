"""Branches, tags, commit ids, and squashing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from tests.hub.raw_client import RawClient


def test_a_file_is_read_at_branch_tag_commit_and_short_commit(api: HfApi, model: str, tmp_path: Path) -> None:
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=model).oid
    api.create_tag(model, tag="v1.0", tag_message="The first one.")
    api.create_branch(model, branch="feature/pine")
    api.upload_file(path_or_fileobj=b"2", path_in_repo="a.txt", repo_id=model)
    api.upload_file(path_or_fileobj=b"3", path_in_repo="a.txt", repo_id=model, revision="feature/pine")
    expected = {
        None: "2",
        "main": "2",
        "feature/pine": "3",
        "refs/heads/feature/pine": "3",
        "v1.0": "1",
        "refs/tags/v1.0": "1",
        first: "1",
        first[:7]: "1",
    }
    for revision, content in expected.items():
        path = api.hf_hub_download(model, "a.txt", revision=revision, cache_dir=tmp_path)
        assert Path(path).read_text() == content, revision
    assert api.model_info(model, revision=first[:10]).sha == first


def test_refs_list_branches_and_tags_with_their_commits(api: HfApi, model: str) -> None:
    sha = api.model_info(model).sha
    api.create_branch(model, branch="b")
    api.create_tag(model, tag="t", tag_message="annotated")
    refs = api.list_repo_refs(model, include_pull_requests=True)
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.branches] == [
        ("b", "refs/heads/b", sha),
        ("main", "refs/heads/main", sha),
    ]
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("t", "refs/tags/t", sha)]
    assert (refs.converts, refs.pull_requests) == ([], [])
    api.delete_branch(model, branch="b")
    api.delete_tag(model, tag="t")
    refs = api.list_repo_refs(model)
    assert ([ref.name for ref in refs.branches], refs.tags) == (["main"], [])


def test_a_branch_or_tag_that_exists_is_a_conflict(api: HfApi, model: str) -> None:
    api.create_branch(model, branch="b")
    api.create_tag(model, tag="t")
    attempts: list[Callable[[], None]] = [
        lambda: api.create_branch(model, branch="b"),
        lambda: api.create_tag(model, tag="t"),
    ]
    for again in attempts:
        with pytest.raises(HfHubHTTPError, match=r"Reference refs/.* already exists") as refused:
            again()
        assert refused.value.response.status_code == 409
    api.create_branch(model, branch="b", exist_ok=True)
    api.create_tag(model, tag="t", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="one is a folder of the other"):
        api.create_branch(model, branch="b/c")


def test_main_stays_and_what_is_not_there_cannot_be_deleted(api: HfApi, model: str) -> None:
    with pytest.raises(HfHubHTTPError, match="Cannot delete refs/heads/main"):
        api.delete_branch(model, branch="main")
    with pytest.raises(RevisionNotFoundError):
        api.delete_branch(model, branch="none")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(model, tag="none")
    with pytest.raises(RevisionNotFoundError):
        api.create_branch(model, branch="b", revision="none")


@pytest.mark.parametrize("name", ["a..b", "a b", "../x", "x.lock", "-x", "x~1", "refs/heads/x", "x" * 300])
def test_a_name_git_would_not_take_is_refused(api: HfApi, model: str, name: str) -> None:
    with pytest.raises(BadRequestError, match="cannot be the name of a branch or tag"):
        api.create_branch(model, branch=name)
    with pytest.raises(BadRequestError, match="cannot be the name of a branch or tag"):
        api.create_tag(model, tag=name)


def test_only_a_branch_can_be_committed_to(api: HfApi, model: str) -> None:
    api.create_tag(model, tag="t")
    for revision in ("t", str(api.model_info(model).sha), "none"):
        with pytest.raises(RevisionNotFoundError):
            api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=model, revision=revision)


def test_the_parquet_branch_of_the_dataset_viewer_is_not_here(ask: RawClient, dataset: str) -> None:
    for path in (
        f"/datasets/{dataset}/resolve/refs%2Fconvert%2Fparquet/a",
        f"/api/datasets/{dataset}/revision/refs%2Fconvert%2Fparquet",
    ):
        answer = ask("GET", path)
        assert (answer.status, answer.headers["x-error-code"]) == (404, "RevisionNotFound")


def test_squashing_leaves_the_files_and_one_commit(api: HfApi, model: str) -> None:
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"{number}.txt", repo_id=model)
    api.super_squash_history(model, commit_message="One.")
    assert [commit.title for commit in api.list_repo_commits(model)] == ["One."]
    assert api.list_repo_files(model) == [".gitattributes", "0.txt", "1.txt", "2.txt"]
