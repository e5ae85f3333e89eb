"""The adapter as GGUF, for llama.cpp, made by llama.cpp's own converter.

The converter is no package; a whole llama.cpp lies in the source package of llama-cpp-python. It is fetched once, held
to its hash, and only its Python files are unpacked: nothing is compiled. Of the base model it needs the config alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

from bonsai.recipes.training.recipe import RecipeError

SOURCE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SCRIPT = "convert_lora_to_gguf.py"
WANTED = (SCRIPT, "conversion/", "gguf-py/gguf/")
"""out of vendor/llama.cpp"""
OUT_TYPE = "f16"
SECONDS = 600
_FETCHING = threading.Lock()


class GgufError(RecipeError):
    """There is no GGUF adapter; the adapter itself is whole."""


def convert(adapter: Path, base_config: Path, cache: Path, *, name: str) -> Path:
    """Write ``<name>-f16.gguf`` into the adapter's folder.

    Args:
        adapter: the folder with adapter_config.json and adapter_model.safetensors.
        base_config: the base model's config.json.
        cache: where the converter is kept.
        name: the repo's, without its owner.

    Returns:
        The file; the same adapter gives the same bytes.

    Raises:
        GgufError: the converter can't be had, or it does not know this architecture.
    """
    script = converter(cache)
    made = adapter / f"{name}-{OUT_TYPE}.gguf"
    arguments = ["--base", str(base_config.parent), "--outtype", OUT_TYPE, "--outfile", str(made), str(adapter)]
    done = _run([sys.executable, str(script), *arguments])
    if done.returncode or not made.is_file():
        made.unlink(missing_ok=True)
        raise GgufError(
            f"{adapter}: llama.cpp's converter gave up ({_last_line(done)}); publish without the GGUF adapter"
        )
    return made


def fetch_ahead(cache: Path) -> None:
    """Fetch the converter beside other work; what goes wrong is told by `converter` when it is needed."""

    def fetch() -> None:
        with contextlib.suppress(GgufError, OSError):
            converter(cache)

    threading.Thread(target=fetch, name="llama.cpp's converter").start()


def converter(cache: Path) -> Path:
    """llama.cpp's script, fetched unless it is in ``cache``.

    Raises:
        GgufError: the package index can't be reached or holds other bytes.
    """
    home = cache / SOURCE.replace("==", "-")
    with _FETCHING:
        if (home / SCRIPT).is_file():
            return home / SCRIPT
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            unpacked = Path(work) / "unpacked"
            _unpack(_fetch(Path(work)), unpacked)
            os.replace(unpacked, home)
    return home / SCRIPT


def _fetch(work: Path) -> Path:
    requirement = work / "requirement.txt"
    requirement.write_text(f"{SOURCE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--retries", "1", "--no-deps", "--require-hashes"]
    done = _run([*pip, "--no-binary", SOURCE.partition("==")[0], "-d", str(work), "-r", str(requirement)])
    found = sorted(work.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        raise GgufError(f"{SOURCE}, which holds llama.cpp's converter, can't be fetched ({_last_line(done)})")
    return found[0]


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, name = member.name.partition("/vendor/llama.cpp/")
            if name.startswith(WANTED) and name.endswith((".py", ".json")):
                member.name = name
                tar.extract(member, folder, filter="data")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1]
