"""Uploads of large files."""

import base64
import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi

from tests.hub.raw_client import RawClient


def request_upload(ask: RawClient, repo: str, content: bytes) -> dict[str, dict[str, str]]:
    objects = [{"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}]
    answer = ask("POST", f"/{repo}.git/info/lfs/objects/batch", {"operation": "upload", "objects": objects})
    assert answer.status == 200
    plan = json.loads(answer.body)
    assert plan["transfer"] == "basic"
    actions: dict[str, dict[str, str]] = plan["objects"][0].get("actions", {})
    return actions


def path_of(action: dict[str, str]) -> str:
    address = urlsplit(action["href"])
    return f"{address.path}?{address.query}"


@pytest.mark.parametrize(
    ("path", "size", "sample", "mode"),
    [
        ("a.parquet", 10, b"PAR1", "lfs"),
        ("A.SAFETENSORS", 10, b"text", "lfs"),
        ("a.gguf", 10, b"GGUF", "lfs"),
        ("a.png", 10, b"\x89PNG", "lfs"),
        ("a.bin", 10, b"text", "lfs"),
        ("a.txt", 10, b"text", "regular"),
        ("a.txt", 10, "盆".encode()[:2], "regular"),
        ("a.txt", 10, b"te\x00xt", "lfs"),
        ("a.txt", 10, b"\xff\xfe\xfd\xfc\xfb", "lfs"),
        ("a.json", 10_000_001, b"{", "lfs"),
        ("a.parquet", 0, b"", "regular"),
        ("README.md", 10, b"---", "regular"),
    ],
)
def test_the_server_decides_which_files_are_large(
    ask: RawClient, model: str, path: str, size: int, sample: bytes, mode: str
) -> None:
    body = {"files": [{"path": path, "size": size, "sample": base64.b64encode(sample).decode()}]}
    answer = ask("POST", f"/api/models/{model}/preupload/main", body)
    assert json.loads(answer.body)["files"] == [{"path": path, "uploadMode": mode, "shouldIgnore": False}]


def test_gitattributes_and_gitignore_of_the_repository_are_honoured(ask: RawClient, api: HfApi, model: str) -> None:
    for name, content in {
        ".gitattributes": b"*.txt filter=lfs -text\n*.bin -filter\n",
        ".gitignore": b"*.tmp\n",
    }.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=model)
    files = [{"path": path, "size": 3, "sample": "YWJj"} for path in ("a.txt", "a.bin", "a.tmp", ".gitignore")]
    answer = ask("POST", f"/api/models/{model}/preupload/main", {"files": files})
    decided = json.loads(answer.body)["files"]
    assert [file["uploadMode"] for file in decided] == ["lfs", "regular", "regular", "regular"]
    assert [file["shouldIgnore"] for file in decided] == [False, False, True, False]
    assert "oid" in decided[3], "the file is here already, and its hash is told"
    body = {"files": files, "gitIgnore": "*.txt"}
    decided = json.loads(ask("POST", f"/api/models/{model}/preupload/main", body).body)["files"]
    assert [file["shouldIgnore"] for file in decided] == [True, False, False, False]


def test_wrong_content_is_refused_and_not_kept(ask: RawClient, model: str, hub_root: Path) -> None:
    action = request_upload(ask, model, b"right")["upload"]
    for wrong in (b"wrong", b"righ", b"right!", b""):
        refused = ask("PUT", path_of(action), wrong, token=None)
        assert refused.status == 400, wrong
        assert "bytes" in refused.error or "SHA-256" in refused.error
    store = hub_root / "repos" / "models" / f"{model}.git" / "lfs"
    assert not [path for path in store.rglob("*") if path.is_file()]
    assert ask("PUT", path_of(action), b"right", token=None).status == 200
    assert request_upload(ask, model, b"right") == {}, "what is here is not asked for again"


def test_an_address_is_good_for_one_object_only(ask: RawClient, model: str) -> None:
    action = request_upload(ask, model, b"right")["upload"]
    path, oid = path_of(action), hashlib.sha256(b"other").hexdigest()
    forged = path.replace(hashlib.sha256(b"right").hexdigest(), oid)
    assert ask("PUT", forged, b"other", token=None).status == 403
    assert ask("PUT", path.replace("size=5", "size=6"), b"right!", token=None).status == 403
    assert ask("PUT", path.replace("expires=", "expires=9"), b"right", token=None).status == 403
    assert ask("PUT", path.partition("?")[0], b"right", token=None).status == 403
    assert ask("PUT", path + "%C3%A9", b"right", token=None).status == 403


def test_an_object_is_verified_and_downloaded_by_git_lfs(ask: RawClient, model: str) -> None:
    content = b"\0" * 3000
    actions = request_upload(ask, model, content)
    pointer = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    verify = urlsplit(actions["verify"]["href"]).path
    assert ask("POST", verify, pointer).status == 404
    assert ask("PUT", path_of(actions["upload"]), content, token=None).status == 200
    assert ask("POST", verify, pointer).status == 200
    body = {"operation": "download", "objects": [pointer, {"oid": "0" * 64, "size": 1}]}
    found, missing = json.loads(ask("POST", f"/{model}.git/info/lfs/objects/batch", body, token=None).body)["objects"]
    assert ask("GET", path_of(found["actions"]["download"]), token=None).body == content
    assert missing["error"]["code"] == 404


def test_a_large_file_is_never_held_in_memory(api: HfApi, model: str, hub_root: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    with source.open("wb") as file:
        for number in range(300):
            file.write(number.to_bytes(2, "big") * 500_000)
    api.upload_file(path_or_fileobj=source, path_in_repo=source.name, repo_id=model)
    downloaded = Path(api.hf_hub_download(model, source.name, cache_dir=tmp_path / "cache"))
    assert downloaded.stat().st_size == 300_000_000
    status = Path(f"/proc/{server_of(hub_root)}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 250_000, f"the server needed {peak} KiB for a file of 300 MB"


def server_of(hub_root: Path) -> int:
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = command.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(hub_root).encode() in arguments:
            return int(command.parent.name)
    pytest.skip("no /proc on this system")


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"{}",
        {"operation": "steal", "objects": []},
        {"operation": "upload", "objects": [{"oid": "short", "size": 1}]},
        {"operation": "upload", "objects": [{"oid": "0" * 64, "size": -1}]},
        {"operation": "upload", "objects": [{"oid": "0" * 64}]},
        {"operation": "upload", "objects": [], "transfers": ["xet"]},
        {"operation": "upload", "objects": [{}] * 1001},
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(ask: RawClient, model: str, body: object) -> None:
    refused = ask("POST", f"/{model}.git/info/lfs/objects/batch", body)
    assert refused.status == 400
    assert refused.error
