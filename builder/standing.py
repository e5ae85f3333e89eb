"""Whether a build still stands: made of what lies here now, and lying there as it was made.

A build is a function of the records, the probes, this code and the installed packages, so that the same fingerprint of
them means the same bytes, and checking them all again would find what it found.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bonsai.builder
import bonsai.dataset_card


def ingredients(records: Path, repo_id: str, *, check: bool) -> str:
    """SHA-256 over everything that decides what a build makes: about 0.2 s."""
    digest = hashlib.sha256(repr((repo_id, check, platform.python_version())).encode())
    packages = (Path(str(module.__file__)).parent for module in (bonsai.builder, bonsai.dataset_card))
    for folder in (records, *packages):
        _add(digest, folder, (path for path in folder.rglob("*") if "__pycache__" not in path.parts))
    for installed in sorted(f"{one.name}=={one.version}" for one in importlib.metadata.distributions()):
        digest.update(installed.encode() + b"\0")
    return digest.hexdigest()


def write_down(dataset: Path, made_of: str, summary: list[str]) -> None:
    """Note beside ``dataset`` what it was made of, what it is, and what the person was told.

    A full disk takes no note, and the next build is made anew: the dataset itself is whole.
    """
    note = {"made_of": made_of, "made": _files(dataset), "summary": summary}
    with contextlib.suppress(OSError):
        _note(dataset).write_text(json.dumps(note, ensure_ascii=False) + "\n", encoding="utf-8")


def standing(dataset: Path, made_of: str) -> list[str] | None:
    """The summary of the build in ``dataset`` if it stands, else None."""
    try:
        note: dict[str, Any] = json.loads(_note(dataset).read_text(encoding="utf-8"))
        unchanged = note["made_of"] == made_of and note["made"] == _files(dataset)
        return [str(line) for line in note["summary"]] if unchanged else None
    except (OSError, ValueError, KeyError, TypeError):  # no note, or not one of ours: build
        return None


def _note(dataset: Path) -> Path:
    return dataset.with_name(f"{dataset.name}.built.json")  # beside, for what lies within is published


def _files(folder: Path) -> str:
    digest = hashlib.sha256()
    _add(digest, folder, folder.rglob("*"))
    return digest.hexdigest()


def _add(digest: Any, folder: Path, paths: Iterable[Path]) -> None:
    for path in sorted(path for path in paths if path.is_file()):
        name = str(path.relative_to(folder)).encode()
        digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
