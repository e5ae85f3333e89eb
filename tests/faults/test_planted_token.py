"""A token never leaves the environment.

It is not in what a release prints, stores or uploads, nor in the arguments of the processes it starts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dulwich.repo import Repo
from huggingface_hub import HfApi

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import run_hub
from tests.conftest import Run
from tests.faults.proxy import Act, Fault, faulty_way_to
from tests.faults.watching import arguments_of_what_is_started
from tests.recipes.tiny import write_tiny_llama

TOKEN = "hf_planted-" + "Xq7" * 9

FAULTS = (
    Fault(name="none", act=Act.INTRUDE),
    Fault(name="refused", act=Act.ANSWER, status=403, lasts=True),
    Fault(name="nonsense", act=Act.ANSWER, status=418, lasts=True),
)


def everything_left(place: Path) -> Iterator[tuple[str, bytes]]:
    """Each file below ``place``, and each object of the git repositories among them as it was before compression."""
    for path in sorted(place.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(place)), path.read_bytes()
        elif path.suffix == ".git":
            with Repo(str(path)) as repository:
                for oid in repository.object_store:
                    yield f"{path.name} {oid.decode()}", repository.object_store[oid].as_raw_string()


@pytest.mark.slow
def test_a_release_leaves_its_token_nowhere(dataset: Path, bonsai: Run, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    said = []
    with (
        arguments_of_what_is_started() as arguments,
        run_hub(tmp_path / "hub", users={"qeu": TOKEN}) as hub,
        faulty_way_to(hub.endpoint) as (way, plan),
    ):
        for fault in reversed(FAULTS):
            plan.begin(fault, at=6)
            environment = {**hub.environment(), "HF_ENDPOINT": way, "HF_DEBUG": ""}
            done = bonsai("publish", "dataset", cwd=tmp_path, check=False, **environment)
            assert (done.returncode == 0) is (fault.name == "none"), done.stderr
            said.append(done.stdout + done.stderr)
    assert "released" in said[-1]
    assert [number for number, text in enumerate(said) if TOKEN in text] == []
    for part in (b"bonsai.hub.server.serve", b"\0publish\0", b"bonsai.builder.verify"):
        assert any(part in line for line in arguments), f"{part!r} was not seen, so nothing is known of it"
    assert [line for line in arguments if TOKEN.encode() in line] == []
    assert [name for name, content in everything_left(tmp_path) if TOKEN.encode() in content] == []


@pytest.mark.slow
def test_a_training_and_its_release_leave_the_token_nowhere(dataset: Path, bonsai: Run, tmp_path: Path) -> None:
    """Checkpoints, those on the Hub too, the adapter, its evaluation, both cards and the logs among them."""
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    base = write_tiny_llama(tmp_path / "tiny")
    with run_hub(tmp_path / "hub", users={"qeu": TOKEN}) as hub:
        api = HfApi(endpoint=hub.endpoint, token=TOKEN)
        publish_files(
            api, repo_id="qeu/tiny-llama", repo_type="model", files=folder_files(base), message="tiny", tag="v1.0"
        )
        environment = {**hub.environment(), "HF_DEBUG": ""}
        said = [
            bonsai(*arguments, cwd=tmp_path, **environment)
            for arguments in (("train", "tiny", "--no-gguf"), ("publish",))
        ]
        checkpoints = api.list_repo_files("qeu/bonsai-tiny-checkpoints")
    assert any(name.endswith("optimizer.pt") for name in checkpoints), checkpoints
    assert (tmp_path / "out/adapters/tiny/evaluation").is_dir()
    assert [done.args for done in said if TOKEN in done.stdout + done.stderr] == []
    assert [name for name, content in everything_left(tmp_path) if TOKEN.encode() in content] == []


def test_a_token_in_the_environment_is_not_in_a_traceback(tmp_path: Path) -> None:
    """Also where something breaks that nobody expected: no value of ours is shown with its fields."""
    code = (
        "import os\nfrom bonsai.hub.target import HubTarget\n"
        "there = HubTarget(endpoint='http://127.0.0.1:9', token=os.environ['HF_TOKEN'], is_local=False)\n"
        "raise ValueError(there, str(there))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_TOKEN": TOKEN, "PYTHONPATH": ":".join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ValueError: (HubTarget(endpoint=" in done.stderr
    assert TOKEN not in done.stderr
