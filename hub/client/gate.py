"""The gate before a release: every check is asked, and all reasons against it are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from huggingface_hub import HfApi

from bonsai.hub.errors import HubError


class Check(NamedTuple):
    """Something that must be in order."""

    name: str
    """what is looked at, in a word or two"""
    reasons: Callable[[], Iterable[str]]
    """each reason against the release, as a sentence; none: it may pass"""


class GateError(HubError):
    """A release that was refused before anything was sent."""

    def __init__(self, what: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        count = "1 reason" if len(reasons) == 1 else f"{len(reasons)} reasons"
        super().__init__(f"{what} is not published, for {count}:\n" + "\n".join(f"  - {reason}" for reason in reasons))


def gate(what: str, checks: Sequence[Check], *, sentences: tuple[type[Exception], ...] = (HubError,)) -> None:
    """Ask all checks.

    Args:
        what: the release, as the person calls it.
        sentences: errors whose text is a reason as well; a check may simply read what it needs.

    Raises:
        GateError: with every reason of every check, in their order.
    """
    against: list[str] = []
    for check in checks:
        try:
            against += [f"{check.name}: {reason}" for reason in check.reasons()]
        except sentences as error:
            against.append(f"{check.name}: {error}")
    if against:
        raise GateError(what, against)


def pinned(api: HfApi, repo_id: str, repo_type: str, revision: str) -> Iterable[str]:
    """Reasons why a revision that a release names would not be found, or not be the same, by a stranger.

    A branch moves; what is no branch of the repo and is found there is a tag or a commit.
    """
    if not api.repo_exists(repo_id, repo_type=repo_type):
        yield f"{repo_id} is not on {api.endpoint}; publish it first, or correct its name"
    elif not api.revision_exists(repo_id, revision, repo_type=repo_type):
        yield f"{repo_id} has no revision {revision} on {api.endpoint}; publish it first, or pin another"
    elif revision in {branch.name for branch in api.list_repo_refs(repo_id, repo_type=repo_type).branches}:
        yield f"{repo_id} is named at {revision}, a branch, which moves; pin a tag or a commit"
