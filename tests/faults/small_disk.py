"""A disk with little room, for real: a tmpfs, mounted by root, or else in a namespace that this user may make."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A folder on a disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def leave(self, room: int | None) -> None:
        """Fill the disk until ``room`` bytes are left; None: give all of it back."""
        ballast = self.path / "ballast"
        ballast.unlink(missing_ok=True)
        if room is not None:
            free = os.statvfs(self.path)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - room, 1))


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of so many megabytes, mounted at ``place``; the test is skipped where nobody may mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield SmallDisk(place)
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        return
    script = f"{' '.join(mount[:-1])} '{place}' && echo mounted && exec cat"
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip(f"no disk can be mounted here, not even in a namespace: {holder.stderr.read().decode()}")
        yield SmallDisk(Path(f"/proc/{holder.pid}/root{place}"))  # the disk as the holder sees it; goes when it goes
        holder.kill()
