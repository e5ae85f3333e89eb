"""Replace folders atomically, and recognize disk-full errors of Python, datasets, safetensors and torch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bonsai.builder.errors import BonsaiError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_TEXT = re.compile(r"No space left on device|os error 28\b")
_TORCH = re.compile(r"inline_container\.cc|PytorchStreamWriter failed")
"""of torch.save, which does not say why a write came to nothing"""
_NOTHING = 2**20
"""bytes; with less room than this it was the room"""


class DiskFullError(BonsaiError, OSError):
    """No room is left; what was there before is untouched."""


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, or what caused it, is a lack of room on the disk of ``folder`` or of temporary files."""
    link: BaseException | None = error
    met: list[BaseException] = []
    while link is not None and link not in met:  # contexts may go round in a circle
        met.append(link)
        if (isinstance(link, OSError) and link.errno in _NUMBERS) or _TEXT.search(str(link)):
            return True
        if _TORCH.search(str(link)) and shutil.disk_usage(folder).free < _NOTHING:
            return True
        link = link.__cause__ or link.__context__
    return False


def describe_disks(folder: Path) -> str:
    """Which disks it may be."""
    temporary = Path(tempfile.gettempdir())
    same = os.stat(folder).st_dev == os.stat(temporary).st_dev
    return f"no room is left on the disk of {folder}" + (
        "" if same else f", or on that of temporary files, {temporary}"
    )


class FolderInUseError(BonsaiError, RuntimeError):
    """Another run is writing into the folder; nothing was touched."""


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep other processes from writing into the folder ``path`` for as long as the block lasts.

    The lock is the operating system's, on a file beside the folder: it goes with its process, however that ends. The
    file says who holds it. The same thread may take it again.

    Raises:
        FolderInUseError: another process holds it; raised at once, nobody waits.
    """
    from filelock import FileLock, Timeout  # here and not above: `--help` needs none

    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise FolderInUseError(
            f"{path}: {_holder(file)} is writing here; wait until it has ended, or end it, or work elsewhere with "
            "--out FOLDER. 別の実行が使用中です。終わるまで待つか、--out で別の場所を指定してください。"
        ) from None
    try:
        if lock.lock_counter == 1:
            program = Path(sys.argv[0]).stem
            command = " ".join(["bonsai" if program == "main" else program, *sys.argv[1:]])[:200]
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            with contextlib.suppress(OSError):  # Windows keeps even its holder from writing: then it stays unnamed
                file.write_text(json.dumps({"pid": os.getpid(), "since": started, "command": command}), "utf-8")
        yield
    finally:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                file.unlink()  # while it is held: whoever waits notices and makes a new one
        lock.release()


def _holder(file: Path) -> str:
    try:
        told = json.loads(file.read_text("utf-8"))
        return f"process {told['pid']} (since {told['since']}: {told['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


_LONGEST = 24 * 3600
"""seconds after which an unfinished folder counts as left behind, where nobody can be asked"""


@contextlib.contextmanager
def atomic_replace_dir(path: Path, *, when_full: str = "make room and run the same command again") -> Iterator[Path]:
    """Yield an empty folder beside ``path``; on success it takes the place of ``path``, on any failure it goes.

    A process killed between the two renames leaves the old folder under ``<name>.old``; the next call puts it back.

    Args:
        when_full: what to do when the disk is full.

    Raises:
        FullDiskError: it was.
        FolderInUseError: another process writes here.
    """
    with exclusive(path):
        yield from _replaced(path, when_full)


def _replaced(path: Path, when_full: str) -> Iterator[Path]:
    fresh = None
    try:
        recover_dir(path)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent))
        yield fresh
        fresh.chmod(0o755)
        swap_dirs(fresh, path)
    except Exception as error:
        if is_disk_full(error, path.parent):
            told = f"{path}: {describe_disks(path.parent)}; what was there before is untouched: {when_full}"
            raise DiskFullError(told) from error
        raise
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def recover_dir(path: Path) -> None:
    """Finish what a killed process left: put ``<name>.old`` back where ``path`` is missing, clear it away otherwise."""
    old = _old(path)
    if old.exists() and not path.exists():
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)
    for left in path.parent.glob(f".{path.name}.*.*"):
        if not _in_use(left):
            shutil.rmtree(left, ignore_errors=True)


def swap_dirs(fresh: Path, path: Path) -> None:
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
