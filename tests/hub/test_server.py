"""The server as a process: starting, stopping, being killed, sharing its storage."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bonsai.hub.errors import ServeError
from bonsai.hub.server.serve import HubAddress, run_hub
from tests.hub.raw_client import RawClient, commit_body, file, header

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bonsai.hub.server.serve", *arguments]


@contextmanager
def served(root: Path) -> Iterator[tuple[subprocess.Popen[str], HfApi]]:
    process = subprocess.Popen(
        command("--root", str(root), "--port", "0"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    endpoint = process.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
    try:
        yield process, HfApi(endpoint=endpoint, token="local-qeu")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_what_to_export_and_stops_quietly(tmp_path: Path, stop: signal.Signals) -> None:
    with served(tmp_path) as (process, api):
        assert api.whoami()["name"] == "qeu"
        process.send_signal(stop)
        assert process.wait(10) == 0
        assert process.stdout
        assert process.stderr
        out, complaints = process.stdout.read(), process.stderr.read()
    assert complaints == ""
    assert "export HF_TOKEN=local-qeu" in out
    assert "export HF_HUB_DISABLE_XET=1" in out
    assert "Python を起動する前に設定してください" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "'0.0.0.0' is refused: this server is for this machine only"),
        (["--host", "example.org"], "is refused"),
        (["--port", "70000"], "port 70000 does not exist"),
        (["--user", "qeu:secret"], "--user takes a name alone; a token goes into the environment variable"),
        (["--user", "datasets"], "'datasets' cannot be a user's name"),
        (["--user", "盆栽"], "cannot be a user's name"),
        (["--root", "/proc/none"], "the repositories cannot be kept in /proc/none"),
    ],
)
def test_an_impossible_start_is_one_sentence(tmp_path: Path, arguments: list[str], reason: str) -> None:
    defaults = ["--root", str(tmp_path), "--port", "0"]
    done = subprocess.run(command(*defaults, *arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("told", ["qeu", "qeu: other:x", "a:x b"])
def test_a_user_without_a_token_is_one_sentence_that_tells_no_other_token(tmp_path: Path, told: str) -> None:
    done = subprocess.run(
        command("--root", str(tmp_path), "--port", "0"),
        env={**ENVIRONMENT, "BONSAI_HUB_USERS": told},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"hub: BONSAI_HUB_USERS: entry [12] has no token; .*\n", done.stderr)


def test_a_secret_token_is_neither_printed_nor_in_argv(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("--root", str(tmp_path), "--port", "0"),
        env={**ENVIRONMENT, "BONSAI_HUB_USERS": "qeu:hush"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    said = process.stdout.readline()
    try:
        endpoint = said.strip().removeprefix("HF_ENDPOINT=")
        assert HfApi(endpoint=endpoint, token="hush").whoami()["name"] == "qeu"
        assert b"hush" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        said += "".join(process.stdout.readline() for _ in range(5))
    finally:
        process.terminate()
        said += process.communicate(timeout=10)[0]
    assert "HF_TOKEN=<the token of qeu>" in said
    assert "hush" not in said


def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServeError, match=f"port {port} cannot be used .*--port 0"),
            run_hub(tmp_path, port=port),
        ):
            pass


def test_help_fits_on_a_page() -> None:
    done = subprocess.run(command("--help"), env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert "BONSAI_HUB_USERS" in done.stdout
    assert len(done.stdout.splitlines()) < 25


def test_run_hub_does_not_import_the_clients() -> None:
    code = "import sys, bonsai.hub.server.serve; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert not {"huggingface_hub", "uvicorn", "starlette", "filelock"} & set(done.stdout.split())


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    with run_hub(tmp_path / "hub") as address:
        api = HfApi(endpoint=address.endpoint, token=address.token)
        api.create_repo("qeu/kept", private=True)
        sha = api.upload_file(path_or_fileobj=b"\0" * 5000, path_in_repo="a.bin", repo_id="qeu/kept").oid
        api.create_tag("qeu/kept", tag="v1")
    with run_hub(tmp_path / "hub") as address:
        api = HfApi(endpoint=address.endpoint, token=address.token)
        info = api.model_info("qeu/kept", revision="v1")
        assert (info.sha, info.private) == (sha, True)
        path = api.hf_hub_download("qeu/kept", "a.bin", cache_dir=tmp_path)
        assert Path(path).read_bytes() == b"\0" * 5000


def test_a_server_killed_in_the_middle_of_an_upload_leaves_the_repository_whole(tmp_path: Path) -> None:
    with served(tmp_path / "hub") as (process, api):
        before = api.create_repo("qeu/whole") and api.model_info("qeu/whole").sha
        endpoint = urlsplit(api.endpoint)
        connection = HTTPConnection(endpoint.hostname or "", endpoint.port)
        connection.putrequest("POST", "/api/models/qeu/whole/commit/main")
        connection.putheader("Authorization", f"Bearer {api.token}")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.send(b'{"key": "header", "value": {"summary": "half"}}\n' + b"x" * 500_000)
        time.sleep(0.2)
        process.kill()
        process.wait()
        connection.close()
    with served(tmp_path / "hub") as (_, api):
        assert api.model_info("qeu/whole").sha == before
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="qeu/whole")
        assert api.list_repo_files("qeu/whole") == [".gitattributes", "a.txt"]


def test_servers_killed_among_many_commits_lose_none_they_acknowledged(tmp_path: Path) -> None:
    """Killed at random moments, also while a branch is being moved and git's own lock files lie about."""
    acknowledged: set[str] = set()
    for life in range(3):
        with served(tmp_path / "hub") as (process, api):
            api.create_repo("qeu/tough", exist_ok=True)
            ask = RawClient(hub=HubAddress(endpoint=api.endpoint, token=str(api.token)))

            def write(writer: int, life: int = life, ask: RawClient = ask) -> None:
                for number in range(1000):
                    name = f"{life}-{writer}-{number}"
                    body = commit_body(header(name), *(file(f"{name}/{n}", f"{name} {n}".encode()) for n in range(20)))
                    try:
                        answer = ask("POST", "/api/models/qeu/tough/commit/main", body, token=ask.hub.token)
                    except (OSError, HTTPException):
                        return
                    assert answer.status == 200, answer.error
                    acknowledged.add(name)

            with ThreadPoolExecutor(4) as pool:
                written = [pool.submit(write, writer) for writer in range(4)]
                time.sleep(0.4 + 0.13 * life)
                process.kill()
            for future in written:
                future.result()
    with served(tmp_path / "hub") as (_, api):
        files = [path for path in api.list_repo_files("qeu/tough") if path != ".gitattributes"]
        folders = {path.partition("/")[0] for path in files}
        assert acknowledged
        assert acknowledged <= folders
        assert len(files) == 20 * len(folders), "no commit is there in part"
        assert api.upload_file(path_or_fileobj=b"x", path_in_repo="after.txt", repo_id="qeu/tough").oid


def test_git_lock_files_of_a_dead_server_do_not_stop_the_next_one(tmp_path: Path) -> None:
    with run_hub(tmp_path) as address:
        api = HfApi(endpoint=address.endpoint, token=address.token)
        api.create_repo("qeu/stale")
        repository = tmp_path / "repos" / "models" / "qeu" / "stale.git"
        (repository / "bonsai.writing").touch()
        (repository / "refs" / "heads" / "main.lock").touch()
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="qeu/stale")
        assert not (repository / "bonsai.writing").exists()


def test_two_servers_on_one_storage_do_not_lose_each_others_commits(tmp_path: Path) -> None:
    with run_hub(tmp_path) as one, run_hub(tmp_path) as other:
        apis = [HfApi(endpoint=address.endpoint, token=address.token) for address in (one, other)]
        apis[0].create_repo("qeu/shared")

        def write(number: int) -> None:
            apis[number % 2].upload_file(
                path_or_fileobj=b"\0%d" % number, path_in_repo=f"{number}.bin", repo_id="qeu/shared"
            )

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(24)))
        assert len(apis[1].list_repo_files("qeu/shared")) == 25
        assert len(apis[0].list_repo_commits("qeu/shared")) == 25


def test_git_itself_reads_the_storage(tmp_path: Path) -> None:
    with run_hub(tmp_path / "hub") as address:
        api = HfApi(endpoint=address.endpoint, token=address.token)
        api.create_repo("qeu/git")
        operations = [CommitOperationAdd(f"{n}.txt", b"%d" % n) for n in range(50)]
        api.create_commit("qeu/git", operations, commit_message="盆栽")
        api.create_tag("qeu/git", tag="v1", tag_message="first")
    repository = tmp_path / "hub" / "repos" / "models" / "qeu" / "git.git"
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), "fsck", "--strict"], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert not re.search("error|missing|corrupt", done.stdout + done.stderr)
    log = subprocess.run(["git", "-C", str(repository), "log", "--format=%s", "v1"], capture_output=True, text=True)
    assert log.stdout.splitlines() == ["盆栽", "initial commit"]
