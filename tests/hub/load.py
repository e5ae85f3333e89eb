"""Many clients of one Hub at once: each uploads and downloads on and on, and at the end nothing may be lost or torn.

A client is the real one, in a thread. Several share a repo, so that their commits meet on one branch.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_url
from huggingface_hub.utils import get_session

SIZES = (200, 5_000, 60_000, 800_000)
"""bytes of a file; the last two go by LFS, the last takes most of the time"""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that the Hub has acknowledged."""

    repo_id: str
    commit: str
    path: str
    sha256: str


@dataclass(kw_only=True)
class Loaded:
    """What a load came to."""

    seconds: float = 0.0
    uploads: list[Upload] = field(default_factory=list)
    upload_seconds: list[float] = field(default_factory=list)
    download_seconds: list[float] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    torn: list[str] = field(default_factory=list)
    """downloads that were not what had been uploaded"""
    refused: list[str] = field(default_factory=list)
    """requests that ended in an error, as told"""
    lost: list[str] = field(default_factory=list)
    """acknowledged uploads that are not in the history or not on main at the end"""


def load(endpoint: str, token: str, *, clients: int, repos: int, seconds: float, seed: int) -> Loaded:
    """Let so many clients at the Hub for so long, then look for every file that was acknowledged."""
    api = HfApi(endpoint=endpoint, token=token)
    names = [f"qeu/load-{seed}-{number}" for number in range(repos)]
    for name in names:
        api.create_repo(name)
    loaded, lock = Loaded(), threading.Lock()
    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        for client in range(clients):
            pool.submit(_client, api, names[client % repos], client, started + seconds, loaded, lock, seed)
    loaded.seconds = time.monotonic() - started
    for name in names:
        loaded.lost += _lost(api, name, [upload for upload in loaded.uploads if upload.repo_id == name])
    return loaded


def _client(
    api: HfApi, repo_id: str, client: int, until: float, loaded: Loaded, lock: threading.Lock, seed: int
) -> None:
    drawn, number = random.Random(seed * 1000 + client), 0
    while time.monotonic() < until:
        number += 1
        content = drawn.randbytes(drawn.choice(SIZES))
        try:
            begun = time.monotonic()
            upload = _upload(api, repo_id, f"client-{client}/{number}.bin", content)
            with lock:
                loaded.upload_seconds.append(time.monotonic() - begun)
                loaded.uploads.append(upload)
                loaded.bytes_up += len(content)
                other = drawn.choice(loaded.uploads)
            for wanted in (upload, other):
                begun = time.monotonic()
                got = _download(api, wanted)
                with lock:
                    loaded.download_seconds.append(time.monotonic() - begun)
                    loaded.bytes_down += len(got)
                    if hashlib.sha256(got).hexdigest() != wanted.sha256:
                        loaded.torn.append(f"{wanted.repo_id} {wanted.path} at {wanted.commit}")
        except Exception as error:  # noqa: BLE001  # whatever it is: it is counted and shown
            with lock:
                loaded.refused.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")


def _upload(api: HfApi, repo_id: str, path: str, content: bytes) -> Upload:
    made = api.create_commit(
        repo_id, [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)], commit_message=path
    )
    return Upload(repo_id=repo_id, commit=str(made.oid), path=path, sha256=hashlib.sha256(content).hexdigest())


def _download(api: HfApi, upload: Upload) -> bytes:
    url = hf_hub_url(upload.repo_id, upload.path, revision=upload.commit, endpoint=api.endpoint)
    response = get_session().get(url, headers=api._build_hf_headers(), follow_redirects=True, timeout=60)
    response.raise_for_status()
    return bytes(response.content)


def _lost(api: HfApi, repo_id: str, uploads: Sequence[Upload]) -> list[str]:
    history = {commit.commit_id for commit in api.list_repo_commits(repo_id)}
    lost = [f"{upload.path}: commit {upload.commit}" for upload in uploads if upload.commit not in history]
    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(repo_id, local_dir=folder, max_workers=4)
        for upload in uploads:
            path = Path(folder) / upload.path
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != upload.sha256:
                lost.append(f"{upload.path}: not on main, or other bytes")
    return lost
