"""What a release would do, without doing it: the tree with sizes, what is new, and the card before and after."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from huggingface_hub import HfApi

from bonsai.hub.client.content import KEPT, Files, difference, read, size, tree
from bonsai.hub.client.push import tags

CARD = "README.md"


class Planned(NamedTuple):
    """One file of the repo after, or before, the release."""

    path: str
    size: int
    """bytes; of what is removed, those it has now"""
    state: Literal["added", "changed", "removed", "same", "the Hub's own"]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A release that was not made."""

    repo_id: str
    tag: str
    tagged: str | None
    """the commit that carries the tag now"""
    head: str | None
    """main's commit now; None: there is no such repo yet"""
    files: tuple[Planned, ...]
    """by path"""
    card: str
    """the card's unified diff; empty: the same"""

    @property
    def sent(self) -> int:
        """Bytes that would travel."""
        return sum(file.size for file in self.files if file.state in ("added", "changed"))


def preview(api: HfApi, *, repo_id: str, repo_type: str, files: Files, tag: str) -> Preview:
    """Compare ``files`` with main; only questions go to the Hub."""
    head = there = tagged = None
    if api.repo_exists(repo_id, repo_type=repo_type):
        head = api.repo_info(repo_id, repo_type=repo_type).sha
        there = tree(api, repo_id, repo_type, head or "main")
        tagged = tags(api, repo_id, repo_type).get(tag)
    change = difference(files, there or {})
    states: dict[str, Literal["added", "changed", "removed"]] = {
        **dict.fromkeys(change.added, "added"),
        **dict.fromkeys(change.changed, "changed"),
        **dict.fromkeys(change.removed, "removed"),
    }
    planned = [Planned(name, size(content), states.get(name, "same")) for name, content in files.items()]
    for name, entry in (there or {}).items():
        if name not in files:
            planned.append(Planned(name, entry.size, "the Hub's own" if name in KEPT else "removed"))
    before = _card(api, repo_id, repo_type, head) if head is not None and there and CARD in there else ""
    after = read(files[CARD]).decode("utf-8") if CARD in files else ""
    return Preview(
        repo_id=repo_id,
        tag=tag,
        tagged=tagged,
        head=head,
        files=tuple(sorted(planned)),
        card="\n".join(_diff(before, after)),
    )


def _card(api: HfApi, repo_id: str, repo_type: str, revision: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, CARD, repo_type=repo_type, revision=revision, local_dir=folder)
        return Path(path).read_bytes().decode("utf-8")


def _diff(before: str, after: str) -> Iterator[str]:
    return difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{CARD} on the Hub", f"{CARD} of this release", lineterm=""
    )
