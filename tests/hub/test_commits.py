"""Commits are atomic."""

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError

from tests.hub.raw_client import RawClient, commit_body, file, header


def test_a_commit_on_an_outdated_parent_is_refused_with_412(api: HfApi, model: str) -> None:
    seen = api.model_info(model).sha
    api.upload_file(path_or_fileobj=b"first", path_in_repo="a.txt", repo_id=model, parent_commit=seen)
    with pytest.raises(HfHubHTTPError, match="The branch was updated since you opened this page") as refused:
        api.upload_file(path_or_fileobj=b"second", path_in_repo="a.txt", repo_id=model, parent_commit=seen)
    assert refused.value.response.status_code == 412
    assert len(api.list_repo_commits(model)) == 2


def test_of_sixteen_writers_who_check_the_parent_none_is_lost(api: HfApi, model: str) -> None:
    def write(number: int) -> int:
        for attempt in range(200):
            parent = api.model_info(model).sha
            try:
                operation = CommitOperationAdd(f"{number}.txt", str(number).encode())
                api.create_commit(model, [operation], commit_message=f"{number}", parent_commit=parent)
            except HfHubHTTPError as error:
                if error.response.status_code != 412:
                    raise
            else:
                return attempt
        raise AssertionError("never got through")

    with ThreadPoolExecutor(16) as pool:
        attempts = list(pool.map(write, range(16)))
    assert sum(attempts) > 0, "nobody was ever too late: the test tested nothing"
    assert len(api.list_repo_files(model)) == 17
    assert len(api.list_repo_commits(model)) == 17


def test_of_sixty_four_writers_who_do_not_check_none_is_lost_either(ask: RawClient, api: HfApi, model: str) -> None:
    def write(number: int) -> int:
        body = commit_body(header(f"{number}"), file(f"folder/{number}.txt"), file("shared.txt", str(number).encode()))
        return ask("POST", f"/api/models/{model}/commit/main", body).status

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(write, range(64))) == {200}
    assert len(list(api.list_repo_tree(model, "folder"))) == 64
    assert len(api.list_repo_commits(model)) == 65


def test_a_commit_cut_off_in_the_middle_never_happened(ask: RawClient, api: HfApi, model: str) -> None:
    body = commit_body(header(), *(file(f"{number}.txt", b"x" * 100_000) for number in range(20)))
    address = urlsplit(api.endpoint)
    connection = HTTPConnection(address.hostname or "", address.port)
    connection.putrequest("POST", f"/api/models/{model}/commit/main")
    connection.putheader("Authorization", f"Bearer {api.token}")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[: len(body) // 2])
    connection.close()
    assert ask("POST", f"/api/models/{model}/commit/main", commit_body(header(), file("after.txt"))).status == 200
    assert api.list_repo_files(model) == [".gitattributes", "after.txt"]


def test_one_bad_operation_undoes_the_good_ones(ask: RawClient, api: HfApi, model: str) -> None:
    body = commit_body(header(), file("good.txt"), {"key": "deletedFile", "value": {"path": "missing.txt"}})
    refused = ask("POST", f"/api/models/{model}/commit/main", body)
    assert (refused.status, refused.headers["x-error-code"]) == (404, "EntryNotFound")
    assert api.list_repo_files(model) == [".gitattributes"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the commit is empty"),
        (b"\n\n", "the commit is empty"),
        (b"{not json}\n", "line 1 of the commit is not JSON"),
        (b"[" * 100_000, "line 1 of the commit is not JSON"),
        (b'"text"\n', "line 1 of the commit must be"),
        (b'{"key": "header"}\n', "line 1 of the commit must be"),
        (commit_body(file("a.txt")), "the first line must be the header"),
        (commit_body(header("")), "needs a 'summary'"),
        (commit_body({"key": "header", "value": {"summary": 3}}), "needs a 'summary'"),
        (commit_body(header(parentCommit="main")), "is not a commit id"),
        (
            commit_body(header(), {"key": "rename", "value": {}}),
            "line 2 of the commit: the operation 'rename' is unknown",
        ),
        (commit_body(header(), {"key": "file", "value": {"path": "a"}}), "line 2 of the commit needs 'content'"),
        (
            commit_body(header(), {"key": "file", "value": {"path": "a", "content": "*", "encoding": "base64"}}),
            "'content' is not base64",
        ),
        (commit_body(header(), {"key": "lfsFile", "value": {"path": "a", "oid": "../../secret"}}), "is not a SHA-256"),
        (commit_body(header(), {"key": "lfsFile", "value": {"path": "a", "oid": "0" * 64}}), "was not uploaded"),
        (commit_body(header(), file("a"), file("a/b")), "'a/b' cannot be added: 'a' is a file"),
        (commit_body(header(), file("README.md", b"---\ntags: x\n---\n")), "Invalid metadata in README.md"),
        (
            commit_body(
                header(), file("a", b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 1\n" % 7)
            ),
            "was not uploaded",
        ),
    ],
)
def test_a_commit_that_makes_no_sense_is_answered_with_a_sentence(
    ask: RawClient, api: HfApi, model: str, body: bytes, reason: str
) -> None:
    refused = ask("POST", f"/api/models/{model}/commit/main", body)
    assert refused.status == 400
    assert reason in refused.error
    assert len(api.list_repo_commits(model)) == 1


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "./a",
        ".git/config",
        "a/.GIT/hooks/x",
        "a\x00b",
        "a\\b",
        "",
        "a/",
        "\ud800",
    ],
)
def test_a_path_that_leads_out_of_the_repository_is_refused(ask: RawClient, model: str, path: str) -> None:
    refused = ask("POST", f"/api/models/{model}/commit/main", commit_body(header(), file(path)))
    assert refused.status == 422
    assert "path" in refused.error


def test_a_file_too_large_for_git_is_refused(ask: RawClient, model: str) -> None:
    refused = ask("POST", f"/api/models/{model}/commit/main", commit_body(header(), file("a.txt", b"x" * 10_000_001)))
    assert (refused.status, "must be uploaded as LFS" in refused.error) == (413, True)
    refused = ask("POST", f"/api/models/{model}/commit/main", commit_body(header(), file("a.txt", b"x" * 16_000_000)))
    assert (refused.status, "line 2" in refused.error) == (413, True)


def test_files_are_copied_within_a_repository_and_deleted(api: HfApi, model: str, tmp_path: Path) -> None:
    api.create_commit(
        model,
        [CommitOperationAdd("weights.bin", b"\0" * 3000), CommitOperationAdd("note.txt", b"note")],
        commit_message="add",
    )
    first = api.model_info(model).sha
    api.create_commit(
        model,
        [
            CommitOperationCopy("weights.bin", "old/weights.bin", src_revision=first),
            CommitOperationCopy("note.txt", "old/note.txt"),
            CommitOperationDelete("weights.bin"),
        ],
        commit_message="move",
    )
    assert sorted(api.list_repo_files(model)) == [".gitattributes", "note.txt", "old/note.txt", "old/weights.bin"]
    copied = api.hf_hub_download(model, "old/weights.bin", cache_dir=tmp_path)
    assert Path(copied).read_bytes() == b"\0" * 3000


def test_copy_file_of_the_web_client_is_understood(ask: RawClient, api: HfApi, model: str) -> None:
    copy = {"key": "copyFile", "value": {"path": "b.txt", "srcPath": "a.txt"}}
    assert ask("POST", f"/api/models/{model}/commit/main", commit_body(header(), file("a.txt"))).status == 200
    assert ask("POST", f"/api/models/{model}/commit/main", commit_body(header(), copy)).status == 200
    assert api.list_repo_files(model) == [".gitattributes", "a.txt", "b.txt"]


def test_deleting_what_is_not_there_says_so(api: HfApi, model: str) -> None:
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("missing.txt", model)
    with pytest.raises(EntryNotFoundError, match="A folder with this name doesn't exist"):
        api.delete_folder("missing", model)


def test_a_pull_request_is_refused_with_a_hint(api: HfApi, model: str) -> None:
    with pytest.raises(BadRequestError, match="no pull requests; commit to a branch instead"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=model, create_pr=True)


def test_two_and_a_half_thousand_files_are_one_commit(api: HfApi, dataset: str) -> None:
    operations = [CommitOperationAdd(f"data/{n // 100:02}/{n:04}.txt", b"%d" % n) for n in range(2500)]
    api.create_commit(dataset, operations, commit_message="many", repo_type="dataset")
    listed = list(api.list_repo_tree(dataset, repo_type="dataset", recursive=True))
    assert len(listed) == 2500 + 26 + 1, "files, folders and .gitattributes, on three pages"
    assert len({entry.path for entry in listed}) == len(listed)
    assert len(list(api.list_repo_tree(dataset, "data", repo_type="dataset", expand=True))) == 25
    assert len(api.list_repo_commits(dataset, repo_type="dataset")) == 2


def test_a_name_with_spaces_and_japanese_survives(api: HfApi, dataset: str, tmp_path: Path) -> None:
    name = "盆栽 の #1?.txt"
    api.upload_file(path_or_fileobj=b"a", path_in_repo=name, repo_id=dataset, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"\0\1", path_in_repo=f"b/{name}", repo_id=dataset, repo_type="dataset")
    for path, content in ((name, b"a"), (f"b/{name}", b"\0\1")):
        downloaded = api.hf_hub_download(dataset, path, repo_type="dataset", cache_dir=tmp_path)
        assert Path(downloaded).read_bytes() == content


def test_large_files_no_pattern_covers_are_added_to_gitattributes(api: HfApi, model: str, tmp_path: Path) -> None:
    api.upload_file(path_or_fileobj=b"\0\1", path_in_repo="odd name.xyz", repo_id=model)
    attributes = Path(api.hf_hub_download(model, ".gitattributes", cache_dir=tmp_path)).read_text()
    assert attributes.endswith("/odd[[:space:]]name.xyz filter=lfs diff=lfs merge=lfs -text\n")
    again = api.upload_file(path_or_fileobj=b"\0\2", path_in_repo="odd name.xyz", repo_id=model)
    after = Path(api.hf_hub_download(model, ".gitattributes", revision=again.oid, cache_dir=tmp_path)).read_text()
    assert after == attributes, "one line is enough"
