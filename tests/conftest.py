"""What several rooms' tests share: a Hub, a build, a tiny base model, and the command as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_DISABLE_XET"] = "1"  # the clients read it when imported, below; the local Hub speaks plain LFS
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background, and children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from bonsai.builder.build import build
from bonsai.builder.reader import default_records
from bonsai.hub.running import HubAddress, running_hub

ROOT = Path(__file__).parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]

TINY_RECIPE = """
from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-tiny", base_model="qeu/tiny-llama", base_model_revision="v1.0", base_model_licence="mit",
    dataset_revision="v0.1.0", categories=("classification",), languages=("en",), r=4, lora_alpha=8,
    learning_rate=1e-2, max_steps=12, per_device_train_batch_size=2, max_length=4096, packing=False, needs_gpu=False,
)
"""
"""As a recipe module would have it: a random model of a few thousand weights, trained by the real code."""

COMMAND = (
    "import sys, bonsai.recipes\n"
    "bonsai.recipes.__path__ = [*bonsai.recipes.__path__, sys.argv.pop(1)]\n"
    "from bonsai.cli.main import main\n"
    "main()\n"
)


@pytest.fixture(scope="session")
def recipes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes of the tests' own, seen by the command beside the published ones."""
    recipes = tmp_path_factory.mktemp("recipes")
    (recipes / "tiny.py").write_text(TINY_RECIPE)
    return recipes


@pytest.fixture(scope="session")
def bonsai(recipes_folder: Path) -> Run:
    """Run the `bonsai` command in a child process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BONSAI_"))}

    def run(*arguments: str | Path, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, str(recipes_folder), *map(str, arguments)],
            cwd=cwd,
            env={**kept, "HF_HOME": str(cwd / "hf-home"), "COLUMNS": "200", **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real records, built."""
    out = tmp_path_factory.mktemp("built") / "dataset"
    build(default_records(), out, "qeu/bonsai")
    return out


@pytest.fixture(scope="session")
def far_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubAddress]:
    """A Hub that stands for the real one: named by HF_ENDPOINT, written to because HF_TOKEN is set."""
    with running_hub(tmp_path_factory.mktemp("far"), users={"qeu": "far-token", "stranger": "other-token"}) as address:
        yield address
