"""Downloads: ranges, hashes, and the errors that clients distinguish."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from bonsai.hub.server.responses import wanted_range
from tests.hub.raw_client import RawClient

LARGE = hashlib.sha256(b"seed").digest() * 100_000
SMALL = "松竹梅".encode()


@pytest.fixture(scope="module")
def files(api: HfApi) -> str:
    api.create_repo("qeu/downloads")
    api.upload_file(path_or_fileobj=LARGE, path_in_repo="large.bin", repo_id="qeu/downloads")
    api.upload_file(path_or_fileobj=SMALL, path_in_repo="folder/small.txt", repo_id="qeu/downloads")
    return "/qeu/downloads/resolve/main"


def test_head_gives_commit_hash_and_size(ask: RawClient, api: HfApi, files: str) -> None:
    large = ask("HEAD", f"{files}/large.bin")
    sha = hashlib.sha256(LARGE).hexdigest()
    assert (large.status, large.body) == (200, b"")
    assert large.headers["x-repo-commit"] == api.model_info("qeu/downloads").sha
    assert large.headers["x-linked-etag"] == large.headers["etag"] == f'"{sha}"'
    assert large.headers["x-linked-size"] == large.headers["content-length"] == str(len(LARGE))
    small = ask("HEAD", f"{files}/folder/small.txt")
    assert small.headers["etag"] == f'"{hashlib.sha1(b"blob 9" + bytes(1) + SMALL).hexdigest()}"'
    assert "x-linked-etag" not in small.headers
    assert small.headers["content-length"] == "9"


@pytest.mark.parametrize("name", ["large.bin", "folder/small.txt"])
def test_a_range_is_answered_with_that_part(ask: RawClient, files: str, name: str) -> None:
    whole = LARGE if name == "large.bin" else SMALL
    for asked, part in {
        "bytes=0-3": whole[:4],
        "bytes=5-": whole[5:],
        "bytes=-4": whole[-4:],
        "bytes=2-99999999": whole[2:],
        "bytes=-99999999": whole,
    }.items():
        answer = ask("GET", f"{files}/{name}", headers={"Range": asked})
        assert (answer.status, answer.body) == (206, part), asked
        start = whole.rindex(part) if asked == "bytes=-4" else whole.index(part)
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
    for asked in (f"bytes={len(whole)}-", "bytes=-0"):
        answer = ask("GET", f"{files}/{name}", headers={"Range": asked})
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(whole)}"), asked
    for ignored in ("bytes=", "bytes=0-1,3-4", "lines=1-2", "bytes=3-1", "bytes=x-y"):
        assert ask("GET", f"{files}/{name}", headers={"Range": ignored}).body == whole, ignored


@given(header=st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True), size=st.integers(0, 3000))
def test_no_range_ever_leaves_the_file(header: str, size: int) -> None:
    part = wanted_range(header, size)
    if part:
        assert 0 <= part[0] <= part[1] <= size


def test_what_the_client_has_already_is_not_sent_again(ask: RawClient, files: str) -> None:
    etag = ask("HEAD", f"{files}/large.bin").headers["etag"]
    same = ask("GET", f"{files}/large.bin", headers={"If-None-Match": etag})
    assert (same.status, same.body) == (304, b"")
    changed = {"Range": "bytes=0-3", "If-Range": '"something else"'}
    assert ask("GET", f"{files}/large.bin", headers=changed).status == 200


def test_an_interrupted_download_is_resumed(api: HfApi, files: str, tmp_path: Path) -> None:
    blobs = tmp_path / "models--qeu--downloads" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(LARGE).hexdigest()}.incomplete").write_bytes(LARGE[:1_000_000])
    path = api.hf_hub_download("qeu/downloads", "large.bin", cache_dir=tmp_path)
    assert Path(path).read_bytes() == LARGE


def test_raw_sends_what_git_stores(ask: RawClient, files: str) -> None:
    raw = files.replace("resolve", "raw")
    assert ask("GET", f"{raw}/large.bin").body.startswith(b"version https://git-lfs.github.com/spec/v1\noid sha256:")
    assert ask("GET", f"{raw}/folder/small.txt").body == SMALL


def test_the_clients_tell_missing_repositories_revisions_and_files_apart(
    api: HfApi, files: str, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("qeu/none", "a.txt", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("gpt2", "config.json", cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("qeu/downloads", "large.bin", revision="none", cache_dir=tmp_path)
    for missing in ("none.txt", "folder", "folder/small.txt/more"):
        with pytest.raises(EntryNotFoundError):
            api.hf_hub_download("qeu/downloads", missing, cache_dir=tmp_path)
    no_exist = tmp_path / "models--qeu--downloads" / ".no_exist"
    assert list(no_exist.glob("*/none.txt")), (
        "the client remembers by the commit in the answer that the file is missing"
    )


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/HEAD",
        ".git/config",
        "%00",
        "a%ffb",
        "/etc/passwd",
    ],
)
def test_no_address_leads_out_of_the_repository(ask: RawClient, files: str, path: str) -> None:
    answer = ask("GET", f"{files}/{path}")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")


@pytest.mark.parametrize("revision", ["..%2f..%2fconfig", "refs%2f..%2f..%2fHEAD", "%00", "main%0a", "HEAD"])
def test_no_revision_leads_out_of_the_repository(ask: RawClient, files: str, revision: str) -> None:
    answer = ask("GET", f"/qeu/downloads/resolve/{revision}/large.bin")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "RevisionNotFound")
