"""How a withdrawal is written down: in a commit's title, for programs, and at the head of the card, for readers."""

from __future__ import annotations

import re

from huggingface_hub import HfApi

_TITLE = re.compile(r"Withdraw (\S+)(?:, make \S+ current again)?")
_NOTE = re.compile(r"<!-- withdrawn (\S+) -->\n.*?<!-- /withdrawn -->\n\n?", re.DOTALL)
_FRONT_MATTER = re.compile(r"---\n.*?\n---\n+", re.DOTALL)


def title(tag: str, *, instead: str | None = None) -> str:
    """The commit's title."""
    return f"Withdraw {tag}" + (f", make {instead} current again" if instead else "")


def withdrawn_tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """The commit of the newest withdrawal by tag."""
    found: dict[str, str] = {}
    for commit in api.list_repo_commits(repo_id, repo_type=repo_type):
        if withdrawal := _TITLE.fullmatch(commit.title):
            found.setdefault(withdrawal[1], commit.commit_id)
    return found


def with_note(card: str, tag: str, reason: str, *, instead: str | None) -> str:
    """The card with the withdrawal at its head, below the metadata."""
    use = f" Use {instead}.　{instead} を使ってください。" if instead else ""
    note = (
        f"<!-- withdrawn {tag} -->\n> **{tag} was withdrawn.** {tag} は取り下げました。 {reason}{use}\n"
        "<!-- /withdrawn -->\n\n"
    )
    metadata = _FRONT_MATTER.match(card)
    end = metadata.end() if metadata else 0
    return card[:end] + note + card[end:]


def without_notes(card: str) -> str:
    """The card as it was released."""
    return _NOTE.sub("", card)
