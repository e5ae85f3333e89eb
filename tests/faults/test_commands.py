"""The commands as a user types them: a dry run, refused preflight checks, releases listed, withdrawn and restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bonsai.hub.publish import publish_files
from bonsai.hub.server.serve import HubAddress

PUBLISH = "from rich.console import Console\nfrom pathlib import Path\nfrom bonsai.cli.publish import publish\n"


def python(code: str, *arguments: str, cwd: Path, hub: HubAddress) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BONSAI_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**kept, **hub.environment(), "HF_HOME": str(cwd / "hf-home"), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_dry_run_shows_the_tree_the_card_and_every_reason(dataset: Path, far_hub: HubAddress, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    dry = PUBLISH + "publish(['dataset'], out=Path('out'), console=Console(), dry_run=True)"
    done = python(dry, cwd=tmp_path, hub=far_hub)
    assert done.returncode == 0, done.stderr
    assert "default/train-00000-of-00001.parquet" in done.stdout
    assert "+++ README.md of this release" in done.stdout
    assert "nothing speaks against it; nothing was sent" in done.stdout

    (tmp_path / "out" / "dataset" / "state.pt").write_bytes(b"x")
    (tmp_path / "out" / "dataset" / "notes.md").write_text("taro@bonsai-lovers.jp")
    done = python(PUBLISH + "publish(['dataset'], out=Path('out'), console=Console())", cwd=tmp_path, hub=far_hub)
    assert "PreflightError: dataset is not published, for 2 reasons:" in done.stderr
    assert "private: notes.md holds personal data: 'taro@bonsai-lovers.jp' looks like a mail address" in done.stderr
    assert "weights: state.pt is a pickle" in done.stderr


def test_releases_are_listed_withdrawn_and_put_back(far_hub: HubAddress, tmp_path: Path) -> None:
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    for version in ("v0.1.0", "v0.2.0"):
        card = f"---\nlicense: apache-2.0\n---\n\n{version}\n".encode()
        publish_files(
            api, repo_id="qeu/bonsai-seedling", repo_type="model", files={"README.md": card}, message="r", tag=version
        )
    command = "from bonsai.cli.publish import app\napp()"

    def bonsai(*arguments: str) -> str:
        done = python(command, *arguments, cwd=tmp_path, hub=far_hub)
        assert done.returncode == 0, done.stderr
        return done.stdout

    newest, oldest = (line for line in bonsai("list", "seedling").splitlines() if line.strip().startswith("v0"))
    assert ("v0.2.0" in newest, "current 現行" in newest) == (True, True)
    assert ("v0.1.0" in oldest, "current 現行" in oldest) == (True, False)
    assert "main holds v0.1.0" in bonsai("current", "seedling", "v0.1.0")
    assert "withdrawn, the card says so" in bonsai("withdraw", "seedling", "v0.2.0", "--reason", "Too eager.")
    assert "v0.2.0" not in bonsai("list", "seedling")
