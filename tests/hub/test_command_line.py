"""The `hf` command against the local Hub."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError

from bonsai.hub.http_client import httpx, set_idle_timeout
from tests.conftest import HF


@pytest.fixture
def hf(child_environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    def run(*arguments: str, fails: bool = False) -> str:
        command = [*HF, *arguments]
        done = subprocess.run(command, env=child_environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout if not fails else done.stdout + done.stderr

    return run


def test_a_repository_lives_its_life_on_the_command_line(
    hf: Callable[..., str], api: HfApi, new_name: Callable[[], str], tmp_path: Path
) -> None:
    name, renamed = new_name(), new_name()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("松")
    (folder / "b.bin").write_bytes(bytes(5000))
    dataset = ("--type", "dataset")
    assert "qeu" in hf("auth", "whoami")
    hf("repos", "create", name, *dataset)
    hf("upload", name, str(folder), *dataset, "--commit-message", "By hand")
    assert api.list_repo_files(name, repo_type="dataset") == [".gitattributes", "a.txt", "b.bin"]
    hf("repos", "tag", "create", name, "v1", *dataset)
    hf("repos", "branch", "create", name, "dev", *dataset)
    hf("upload", name, str(folder / "a.txt"), "c.txt", *dataset, "--revision", "dev")
    hf("download", name, *dataset, "--revision", "v1", "--local-dir", str(tmp_path / "got"))
    assert (tmp_path / "got" / "a.txt").read_text() == "松"
    assert (tmp_path / "got" / "b.bin").read_bytes() == bytes(5000)
    assert not (tmp_path / "got" / "c.txt").exists()
    assert "v1" in hf("repos", "tag", "list", name, *dataset)
    assert json.loads(hf("datasets", "info", name, "--format", "json"))["id"] == name
    assert name in hf("datasets", "list", "--author", "qeu", "--search", name, "--format", "json")
    hf("repos", "settings", name, *dataset, "--private")
    assert api.dataset_info(name).private
    hf("repos", "delete-files", name, "b.bin", *dataset)
    hf("repos", "tag", "delete", name, "v1", *dataset, "--yes")
    assert "not found" in hf("download", name, "none.txt", *dataset, fails=True).lower()
    hf("repos", "move", name, renamed, *dataset)
    hf("repos", "delete", renamed, *dataset, "--yes")
    assert not api.repo_exists(renamed, repo_type="dataset")


def test_the_http_library_is_the_one_that_the_client_speaks() -> None:
    assert issubclass(HfHubHTTPError, httpx.HTTPError)
    set_idle_timeout()
    try:
        assert isinstance(get_session(), httpx.Client)
    finally:
        set_client_factory(httpx.Client)
