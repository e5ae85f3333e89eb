"""What a run was made with: packages, source and machine."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.repo import Repo

SOURCE = "https://github.com/qeu/bonsai"
"""where anybody gets this project from"""
CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "huggingface_hub",
)


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Find the installed versions of what decides a run; a package that is not installed is left out."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def constraints_sha256() -> str | None:
    """Hash of the checkout's constraints.txt; None where the package was installed without a checkout."""
    path = CHECKOUT / "constraints.txt"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def source_commit() -> str | None:
    """The commit that is checked out; None without a checkout, or without its history."""
    try:
        with Repo(str(CHECKOUT)) as repo:
            return repo.head().decode()
    except (NotGitRepository, KeyError):
        return None


def machine() -> str:
    """Processor, cores and memory, as a reader knows them."""
    cores = f"{_processor()}, {os.cpu_count()} cores"
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and not every system these names
        return cores
    return f"{cores}, {memory:.0f} GiB of memory"


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
