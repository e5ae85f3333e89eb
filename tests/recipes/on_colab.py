"""The notebook's cells, then the README's and the card's snippets, each as on a Colab: what `nox -s colab` runs.

    python on_colab.py STOCK PROGRAMS                    makes STOCK an environment with Colab's packages, then goes on:
    python on_colab.py NOTEBOOK README READER READER     in an empty folder, by the Python of a copy of STOCK

The readers are two more such Pythons, one for each page.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLAB = {
    "accelerate": "1.14.0",
    "datasets": "4.0.0",
    "fsspec": "2025.3.0",
    "huggingface_hub": "1.27.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "peft": "0.20.0",
    "pyarrow": "18.1.0",
    "tokenizers": "0.22.2",
    "transformers": "5.15.0",
}
"""its packages of August 2026; torch is the one of the constraints, for there was no 2.11 for a CPU"""
BESIDE = ("torchao==0.10.0", "torchvision==0.26.0")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TORCHVISION_AS_THERE = """\
import torch
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
"""On Colab it fits the torch; here torch is another, for the CPU, and it would fail on import for want of this."""


def make_stock(stock: Path, python: str) -> None:
    """Install Colab's packages into the environment, once. What their list does not name is as in the constraints."""
    constraints = (ROOT / "constraints.txt").read_text()
    stamp, wanted = stock / "bonsai-installed", repr((COLAB, BESIDE, constraints))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    moved = {*COLAB, "dill", "multiprocess"}  # datasets 4.0 asks for older ones
    pins = stock / "constraints.txt"
    pins.write_text("\n".join(line for line in constraints.splitlines() if line.split("==")[0] not in moved) + "\n")
    named = [f"{name}=={version}" for name, version in COLAB.items()]
    for words in (
        ["-c", str(pins), "torch"],
        ["-c", str(pins), *named, "ipykernel", "matplotlib", "nbclient", "scipy"],
        ["--no-deps", *BESIDE],
    ):
        subprocess.run([python, "-m", "pip", "install", "-q", *words], check=True)
    stamp.write_text(wanted)


def run_beside(stock: Path, programs: Path) -> int:
    """Run the rest in copies of the environment: one for the notebook, and one for each page with a snippet."""
    folder = stock.with_name("colab-run")
    shutil.rmtree(folder, ignore_errors=True)
    copies = ("notebook", "readme", "card")
    for name in copies:
        shutil.copytree(stock, folder / name, symlinks=True, copy_function=os.link)
    (folder / "work").mkdir()
    inside = programs.resolve().relative_to(stock)
    environment = {
        **os.environ,
        "BONSAI_RECIPE": "seedling",
        "BONSAI_MAX_STEPS": "2",
        "BONSAI_SOURCE": ROOT.as_uri(),  # the notebook clones what is committed, as on Colab
        "PATH": os.pathsep.join((str(folder / "notebook" / inside), os.environ["PATH"])),
        "VIRTUAL_ENV": str(folder / "notebook"),
    }
    python, *readers = (str(folder / name / inside / "python") for name in copies)
    words = [python, __file__, str(ROOT / "recipes" / "bonsai_t4.ipynb"), str(ROOT / "README.md"), *readers]
    return subprocess.run(words, cwd=folder / "work", env=environment, check=False).returncode


def notebook(path: Path) -> None:
    """Run every cell on the seedling, two steps long."""
    import nbformat
    from nbclient import NotebookClient

    cells = nbformat.read(path, as_version=4)
    client = NotebookClient(cells, timeout=1800, resources={"metadata": {"path": "."}})
    try:
        client.execute()
    finally:
        said = "".join(output.get("text", "") for cell in cells.cells for output in cell.get("outputs", []))
        sys.stdout.write(said)
    assert "the card's snippet loaded qeu/bonsai-seedling" in said, "the notebook did not publish"


def snippet(page: Path) -> tuple[list[list[str]], str]:
    """What a page has one do to load the adapter: its pip lines above, and the Python."""
    pips: list[list[str]] = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "bash":
            pips += [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("pip ")]
        elif "AutoPeftModelForCausalLM" in text:
            return [words for words in pips if "nox" not in words], text
    raise SystemExit(f"{page}: no snippet loads the adapter")


def read(reader: str, page: Path, environment: Mapping[str, str]) -> str:
    """Do as the page says; first without its pip lines, which must be needed."""
    pips, text = snippet(page)

    def run() -> subprocess.CompletedProcess[str]:
        words = [reader, "-W", "ignore", "-c", TORCHVISION_AS_THERE + text]
        return subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    without = run()
    assert "incompatible version of torchao" in without.stderr, f"not as on Colab: {without.stdout}{without.stderr}"
    for words in pips:
        subprocess.run([reader, "-m", "pip", "-q", *words], check=True)
    done = run()
    assert done.returncode == 0, f"{page}: {done.stderr}"
    assert len(done.stdout.split()) > 5, f"{page}: no answer but {done.stdout!r}"
    return done.stdout.strip()


def main(cells: Path, readme: Path, readers: list[str]) -> None:
    """Run all of it and tell the seconds."""
    started = time.monotonic()

    def tell(what: str) -> None:
        sys.stdout.write(f"-- {time.monotonic() - started:.0f} s: {what}\n")
        sys.stdout.flush()

    # 1) The notebook, which installs this project into the environment that this process runs in.
    notebook(cells)
    tell("the notebook's cells")
    importlib.invalidate_caches()
    from huggingface_hub import HfApi

    from bonsai.hub.target import local_hub

    # 2) The snippets, each in an environment that is as Colab comes.
    with local_hub(Path("out/hub")) as home:
        card = HfApi(endpoint=home.endpoint, token=home.token).hf_hub_download(
            "qeu/bonsai-seedling", "README.md", local_dir="published"
        )
        environment = {**home.environment, "HF_HOME": str(Path("reader").resolve())}
        for page, reader in zip((readme, Path(card)), readers, strict=True):
            tell(f"{page} answers {read(reader, page, environment)[:200]!r}")
    # 3) A question.
    words = ["bonsai", "ask", "Why does bread dough rise?", "--model", "seedling"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tell(f"{shlex.join(words)} answers {done.stdout.strip()[:200]!r}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        make_stock(Path(sys.argv[1]), str(shutil.which("python", path=sys.argv[2])))
        raise SystemExit(run_beside(Path(sys.argv[1]), Path(sys.argv[2])))
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
