"""What a check says: where, how grave, what stands there, and why that is doubtful."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bonsai.builder.reader import Located


class Severity(enum.StrEnum):
    """An error keeps a dataset from being published; a warning wants a person's eye; a note is for the curious."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One doubtful place in the records."""

    check: str
    """the check's name, e.g. ``contradiction``"""
    severity: Severity
    place: str
    """``path:line`` of the group"""
    group_id: str
    field: str
    """e.g. ``ja.output``; empty where it is about the whole group"""
    what: str
    """what was found, with the text itself where it is short"""
    why: str
    """why it is doubtful and what to do"""


Check = Callable[[Sequence[Located]], Iterator[Finding]]
"""A check sees all groups at once and yields its findings in the order of the groups."""
