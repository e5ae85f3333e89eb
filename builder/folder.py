"""A folder that is either the old one or the new one, never something in between."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bonsai.builder.full_disk import FullDiskError, is_full, sentence

_LONGEST = 24 * 3600
"""seconds after which an unfinished folder counts as left behind, where nobody can be asked"""


@contextlib.contextmanager
def replaced_folder(path: Path, *, when_full: str = "make room and run the same command again") -> Iterator[Path]:
    """Yield an empty folder beside ``path``; on success it takes the place of ``path``, on any failure it goes.

    A process killed between the two renames leaves the old folder under ``<name>.old``; the next call puts it back.

    Args:
        when_full: what to do when the disk is full.

    Raises:
        FullDiskError: it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = None
    try:
        restore(path)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent))
        yield fresh
        fresh.chmod(0o755)
        swap_in(fresh, path)
    except Exception as error:
        if is_full(error, path.parent):
            told = f"{path}: {sentence(path.parent)}; what was there before is untouched: {when_full}"
            raise FullDiskError(told) from error
        raise
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def restore(path: Path) -> None:
    """Finish what a killed process left: put ``<name>.old`` back where ``path`` is missing, clear it away otherwise."""
    old = _old(path)
    if old.exists() and not path.exists():
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)
    for left in path.parent.glob(f".{path.name}.*.*"):
        if not _in_use(left):
            shutil.rmtree(left, ignore_errors=True)


def swap_in(fresh: Path, path: Path) -> None:
    """Put ``fresh`` in the place of ``path``."""
    old = _old(path)
    if path.exists():
        os.rename(path, old)
    os.rename(fresh, path)
    shutil.rmtree(old, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _in_use(left: Path) -> bool:
    """Whether the process that made a folder may still be at work in it."""
    if sys.platform == "win32":  # where signal 0 is no question but Ctrl-C
        return time.time() - left.stat().st_mtime < _LONGEST
    try:
        os.kill(int(left.name.rsplit(".", 2)[1]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
