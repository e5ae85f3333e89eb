"""The notebook's cells, then the README's and the card's snippets, each as on a Colab: what `nox -s colab` runs.

    python on_colab.py NOTEBOOK README READER READER     in an empty folder, by the Python of Colab's packages

The readers are two more such Pythons, one for each page.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TORCHVISION_AS_THERE = """\
import torch
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
"""On Colab it fits the torch; here torch is another, for the CPU, and it would fail on import for want of this."""


def notebook(path: Path) -> None:
    """Run every cell on the seedling, two steps long."""
    cells = nbformat.read(path, as_version=4)
    client = NotebookClient(cells, timeout=900, resources={"metadata": {"path": "."}})
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
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
