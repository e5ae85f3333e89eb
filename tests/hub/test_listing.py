"""Listings: trees and history in pages, repositories by author, search and tag."""

from collections.abc import Callable

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub.raw_client import RawClient


def test_a_list_read_in_pages_does_not_mix_two_commits(ask: RawClient, api: HfApi, model: str) -> None:
    api.create_commit(model, [CommitOperationAdd(f"{n}.txt", b"x") for n in range(10)], commit_message="ten")
    first = ask("GET", f"/api/models/{model}/tree/main?limit=4")
    api.delete_files(model, ["*.txt"])
    found, link = [], first.headers.get("link")
    while link:
        page = ask("GET", link[1 : link.index(">")].removeprefix(api.endpoint))
        found.append(page.body.count(b'"path"'))
        link = page.headers.get("link")
    assert found == [4, 3]


def test_expand_adds_the_commit_that_last_changed_a_path(api: HfApi, model: str) -> None:
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a/one.txt", repo_id=model, commit_message="one")
    api.upload_file(path_or_fileobj=b"\0" * 2000, path_in_repo="a/two.bin", repo_id=model, commit_message="two")
    api.upload_file(path_or_fileobj=b"3", path_in_repo="three.txt", repo_id=model, commit_message="three")
    paths = ["a", "a/one.txt", "a/two.bin", "missing", ".gitattributes"]
    infos = {info.path: info for info in api.get_paths_info(model, paths, expand=True)}
    titles = {path: info.last_commit.title for path, info in infos.items() if info.last_commit}
    assert titles == {"a": "two", "a/one.txt": "one", "a/two.bin": "two", ".gitattributes": "initial commit"}
    folder, large = infos["a"], infos["a/two.bin"]
    assert isinstance(folder, RepoFolder)
    assert isinstance(large, RepoFile)
    assert large.lfs
    assert (large.size, large.lfs.size, large.lfs.pointer_size) == (2000, 2000, 129)


def test_a_tree_starts_anywhere_but_at_a_file(api: HfApi, model: str) -> None:
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a/b/c.txt", repo_id=model)
    assert [entry.path for entry in api.list_repo_tree(model, "a")] == ["a/b"]
    assert [entry.path for entry in api.list_repo_tree(model, "a", recursive=True)] == ["a/b", "a/b/c.txt"]
    for path in ("a/b/c.txt", "none"):
        with pytest.raises(EntryNotFoundError):
            list(api.list_repo_tree(model, path))


def test_history_comes_in_pages_newest_first(ask: RawClient, api: HfApi, model: str) -> None:
    for number in range(3):
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="a.txt", repo_id=model, commit_message=f"{number}")
    commits = api.list_repo_commits(model, formatted=True)
    assert [commit.title for commit in commits] == ["2", "1", "0", "initial commit"]
    assert commits[0].formatted_title == "2"
    page = ask("GET", f"/api/models/{model}/commits/main?limit=3")
    assert 'rel="next"' in page.headers["link"]


def test_repositories_are_found_by_author_search_and_tag(api: HfApi, guest: HfApi, new_name: Callable[[], str]) -> None:
    name = new_name() + "-Pine"
    api.create_repo(name, repo_type="dataset")
    card = b"---\nlanguage: [ja]\ntask_categories: [text-generation]\ntags: [pine]\n---\n"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=name, repo_type="dataset")
    guest.create_repo("guest/pine", repo_type="dataset", exist_ok=True)
    assert [found.id for found in api.list_datasets(author="qeu", search="pine")] == [name]
    assert [found.id for found in api.list_datasets(filter="pine")] == [name]
    assert [
        found.id for found in api.list_datasets(language="ja", task_categories="text-generation", filter="pine")
    ] == [name]
    assert [found.id for found in api.list_datasets(author="guest")] == ["guest/pine"]
    assert list(api.list_datasets(filter=["pine", "language:en"])) == []
    assert next(iter(api.list_datasets(limit=1, full=True, search="pine"))).siblings


def test_expand_of_repo_info_gives_only_what_was_asked(ask: RawClient, api: HfApi, model: str) -> None:
    info = api.model_info(model, expand=["sha", "private"])
    assert (len(info.sha or ""), info.private, info.tags) == (40, False, None)
    full = api.model_info(model)
    assert (full.downloads, full.likes, full.gated, full.author) == (0, 0, False, "qeu")
    assert full.created_at
    assert full.last_modified


def test_a_space_is_stored_like_any_other_repository(api: HfApi, new_name: Callable[[], str]) -> None:
    name = new_name()
    assert api.create_repo(name, repo_type="space", space_sdk="static") == f"{api.endpoint}/spaces/{name}"
    api.upload_file(path_or_fileobj=b"<p>", path_in_repo="index.html", repo_id=name, repo_type="space")
    assert api.space_info(name).sdk == "static"
    assert [found.id for found in api.list_spaces(search=name)] == [name]


def test_a_wrong_page_is_refused(ask: RawClient, model: str) -> None:
    for query in ("limit=x", "cursor=x", "cursor=main:x", "limit=" + "9" * 50):
        assert ask("GET", f"/api/models/{model}/tree/main?{query}").status == 400, query
    assert ask("GET", f"/api/models/{model}/commits/main?cursor=-1").status == 400
