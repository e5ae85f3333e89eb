"""Write files and folders atomically, lock folders, and recognize disk-full errors.

All writing goes to a temporary name beside the target and is renamed, so a reader sees the old content or the new one,
and never half of either. The trade-offs:

* Beside the target, not in the folder for temporary files: a rename is atomic only within one file system.
* No fsync: a killed process loses nothing, but a power cut may. What is written here can be made again.
* A file that replaces another one does not inherit its permissions; it gets those of the umask.
* A process killed while it writes leaves its temporary file or folder behind. `atomic_replace_dir` clears away those of
  dead processes; the others are named ``.<name>.<random>.part``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bonsai.builder.errors import DiskFullError, FolderInUseError

_FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = re.compile(r"No space left on device|os error 28\b")
"""In the messages of datasets and safetensors, whose errors carry no number."""
_TORCH_TEXT = re.compile(r"inline_container\.cc|PytorchStreamWriter failed")
"""In the message of `torch.save`, which does not say why a write failed."""
_NO_ROOM = 2**20
"""Bytes; if less is free, a failed `torch.save` is put down to the full disk."""
_LEFTOVER_SECONDS = 24 * 3600
"""After which an unfinished folder counts as left behind, where its process cannot be looked up."""


@contextlib.contextmanager
def atomic_open(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that becomes ``path`` on success and is removed on failure."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, the same bytes on every system: this is how all text files are written.

    `Path.write_text` would end lines as the system does, and a dataset built on Windows would have another hash. Half a
    surrogate pair, which a model may produce, becomes ``?``.
    """
    with atomic_open(path) as file:
        file.write(text.encode("utf-8", "replace"))


@contextlib.contextmanager
def atomic_create_dir(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``path``, which must not exist, on success and is removed on failure."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def atomic_replace_dir(path: Path, *, when_full: str = "make room and run the same command again") -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` on success and is removed on failure.

    A folder cannot replace another one in one rename. A process killed between the two renames leaves the old folder
    under ``<name>.old``; the next call puts it back.

    Args:
        when_full: what to do when the disk is full; ends the message of that error.

    Raises:
        DiskFullError: the disk is full; ``path`` is untouched.
        FolderInUseError: another process writes here.
    """
    with exclusive(path):
        fresh = None
        try:
            recover_dir(path)
            # The process id is in the name so that `recover_dir` can tell whether the folder is still in use.
            fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent))
            yield fresh
            fresh.chmod(0o755)  # mkdtemp makes it private
            old = path.with_name(f"{path.name}.old")
            if path.exists():
                os.rename(path, old)
            os.rename(fresh, path)
            shutil.rmtree(old, ignore_errors=True)
        except Exception as error:
            if is_disk_full(error, path.parent):
                disks = f"no room is left on the disk of {path.parent}"
                temporary = Path(tempfile.gettempdir())
                if os.stat(temporary).st_dev != os.stat(path.parent).st_dev:
                    disks += f", or on that of temporary files, {temporary}"
                raise DiskFullError(f"{path}: {disks}; what was there before is untouched: {when_full}") from error
            raise
        finally:
            if fresh is not None:
                shutil.rmtree(fresh, ignore_errors=True)


def recover_dir(path: Path) -> None:
    """Finish what a killed process left: put ``<name>.old`` back if ``path`` is missing, remove it otherwise."""
    old = path.with_name(f"{path.name}.old")
    if old.exists() and not path.exists():
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)
    for leftover in path.parent.glob(f".{path.name}.*.*"):
        if not _is_in_use(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    """Tell whether the process that made an unfinished folder may still be running."""
    if sys.platform == "win32":  # where signal 0 asks nothing but sends Ctrl-C
        return time.time() - folder.stat().st_mtime < _LEFTOVER_SECONDS
    try:
        os.kill(int(folder.name.rsplit(".", 2)[1]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


_ELSEWHERE = (
    "wait until it has ended, or end it, or work elsewhere with --out FOLDER. "
    "別の実行が使用中です。終わるまで待つか、--out で別の場所を指定してください。"
)


@contextlib.contextmanager
def exclusive(path: Path, *, wait: float = 0, remedy: str = _ELSEWHERE) -> Iterator[None]:
    """Keep other processes from writing into the folder ``path`` for as long as the block lasts.

    The lock is the operating system's, on a file beside the folder, and ends with its process, however that ends. The
    file names the process that holds the lock. The same thread may take it again.

    Args:
        wait: seconds for another process to end its work.
        remedy: what to do when it has not; ends the message of the error.

    Raises:
        FolderInUseError: another process holds the lock.
    """
    from filelock import FileLock, Timeout  # not above: `--help` does without

    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        try:
            note = json.loads(file.read_text("utf-8"))
            holder = f"process {note['pid']} (since {note['since']}: {note['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            holder = "another process"
        raise FolderInUseError(f"{path}: {holder} is writing here; {remedy}") from None
    try:
        if lock.lock_counter == 1:
            program = Path(sys.argv[0]).stem
            command = " ".join(["bonsai" if program == "main" else program, *sys.argv[1:]])[:200]
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            with contextlib.suppress(OSError):  # Windows keeps even the holder from writing: then it stays unnamed
                file.write_bytes(json.dumps({"pid": os.getpid(), "since": started, "command": command}).encode())
        yield
    finally:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                file.unlink()  # before the release: a process that gets the lock notices and makes a new file
        lock.release()


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Tell whether an error, or its cause, is a full disk: that of ``folder`` or of temporary files."""
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and link not in seen:  # contexts can form a circle
        seen.append(link)
        if (isinstance(link, OSError) and link.errno in _FULL_NUMBERS) or _FULL_TEXT.search(str(link)):
            return True
        if _TORCH_TEXT.search(str(link)) and shutil.disk_usage(folder).free < _NO_ROOM:
            return True
        link = link.__cause__ or link.__context__
    return False
