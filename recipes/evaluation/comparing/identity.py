"""Which model exactly: what an answer that was kept depends on, and what a reader calls it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from bonsai.recipes.inference.models.source import MODEL, AdapterAt, Address, Found, GgufAt, ModelAt, Provided


def is_elsewhere(found: Found) -> bool:
    """Whether somebody else runs it, and may put another model there tomorrow."""
    return isinstance(found, Address | Provided)


def base_of(found: Found) -> tuple[str, str | None] | None:
    """The base that has to be in memory; None: none of this machine's."""
    match found:
        case AdapterAt():
            return found.base, found.base_revision
        case ModelAt():
            return found.place, found.revision
    return None


def identity(found: Found) -> dict[str, Any]:
    """All that is known of who answers: where, and the state of the files there."""
    told = {name: str(value) for name, value in asdict(found).items() if value is not None}
    match found:
        case AdapterAt():
            states = {
                "files": _files(found.folder),
                "base_files": _state(found.base, found.base_revision),
            }
        case ModelAt():
            states = {"files": _state(found.place, found.revision)}
        case GgufAt():
            states = {"files": [_file(path) for path in (found.path, found.lora) if path is not None]}
        case _:
            states = {}
    return {"kind": type(found).__name__, **told, **states}


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The end of each name, where that tells them apart: ``seedling`` for ``out/adapters/seedling``."""
    ends = {name: name.rstrip("/").replace("#", "/").rpartition("/")[2] or name for name in names}
    often = Counter(ends.values())
    return {name: end if often[end] == 1 else name for name, end in ends.items()}


def _state(place: str, revision: str | None) -> Any:
    """Of a folder its files, of a repo the commit that lies in the cache."""
    folder = Path(place)
    if folder.is_dir():
        return _files(folder)
    cached = try_to_load_from_cache(place, MODEL, revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else revision


def _files(folder: Path) -> list[list[str | int]]:
    return [_file(path) for path in sorted(folder.iterdir()) if path.is_file()]


def _file(path: Path) -> list[str | int]:
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]
