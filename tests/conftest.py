"""What several rooms' tests share: a Hub, a build, a tiny base model, and the command as a person runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ["HF_HUB_DISABLE_XET"] = "1"  # the clients read it when imported, below; the local Hub speaks plain LFS
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background, and children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from bonsai.builder.build import build_dataset
from bonsai.builder.records import default_records_dir
from bonsai.hub.server.serve import HubAddress, run_hub

ROOT = Path(__file__).parents[1]
HF = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()"]
"""the `hf` command; its script is missing where the package was linked from another environment"""
Run = Callable[..., subprocess.CompletedProcess[str]]

TINY_RECIPE = """
from bonsai.recipes.training.recipe import Recipe

RECIPE = Recipe(
    repo_id="qeu/bonsai-tiny", base_model="qeu/tiny-llama", base_model_revision="v1.0", base_model_license="mit",
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
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def wheel(shared_folder: Path) -> Path:
    """What a person installs, built from the files of this checkout, once for all workers."""
    folder = shared_folder / "wheel"
    with FileLock(shared_folder / "wheel.lock"):
        if not list(folder.glob("*.whl")):
            listed = subprocess.run(
                ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
            ).stdout.splitlines()
            for name in listed:
                if (ROOT / name).is_file():
                    (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(ROOT / name, folder / "source" / name)
            build_it = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
            subprocess.run([*build_it, "-w", str(folder), str(folder / "source")], check=True)
    return next(folder.glob("*.whl"))


def name_dependencies(site: Path) -> None:
    """Let an environment find its dependencies here, but not this checkout: a .pth brings no further .pth with it."""
    folders = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(folders) + "\n")


@pytest.fixture(scope="session")
def command(wheel: Path, shared_folder: Path) -> Path:
    """The `bonsai` that is on a person's path: the script of the built wheel, in an environment of its own.

    A recipe of the tests' own lies among the published ones there, as a person would put it.
    """
    environment = shared_folder / "installed"
    done = environment / "done"
    with FileLock(shared_folder / "installed.lock"):
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
            paths = {"base": str(environment), "platbase": str(environment)}
            python = environment / Path(sysconfig.get_path("scripts", vars=paths)).name / Path(sys.executable).name
            install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
            subprocess.run([*install, str(wheel)], check=True)
            site = Path(sysconfig.get_path("purelib", vars=paths))
            name_dependencies(site)
            (site / "bonsai" / "recipes" / "tiny.py").write_text(TINY_RECIPE)
            done.touch()
    return Path(sysconfig.get_path("scripts", vars={"base": str(environment)})) / "bonsai"


@pytest.fixture(scope="session")
def bonsai(command: Path) -> Run:
    """Run the installed `bonsai` command in a child process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BONSAI_"))}

    def run(*arguments: str | Path, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(command), *map(str, arguments)],
            cwd=cwd,
            env={**kept, "HF_HOME": str(cwd / "hf-home"), "COLUMNS": "200", **env},
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a terminal may have another
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real records, built."""
    out = tmp_path_factory.mktemp("built") / "dataset"
    build_dataset(default_records_dir(), out, "qeu/bonsai")
    return out


@pytest.fixture(scope="session")
def far_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubAddress]:
    """A Hub that stands for the real one: named by HF_ENDPOINT, written to because HF_TOKEN is set."""
    with run_hub(tmp_path_factory.mktemp("far"), users={"qeu": "far-token", "stranger": "other-token"}) as address:
        yield address
