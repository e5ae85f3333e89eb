"""A card taken apart: its lines, sections and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
_FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
_CELL = re.compile(r"(?<!\\)\|")
QUOTING = "text"
"""the language of a fenced block that quotes a record or a model"""


class Line(NamedTuple):
    """One line below the YAML block."""

    number: int
    """1-based, in the whole file"""
    text: str
    code: bool
    """inside a fenced block, fences included"""
    quoted: bool
    """inside a fenced block that quotes a record, or in a block quotation"""

    @property
    def row(self) -> bool:
        """Whether it is a line of a table."""
        return not self.code and self.text.startswith("|")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it, up to the next heading of any level."""

    title: str
    level: int
    line: int
    lines: tuple[Line, ...]
    filled: bool
    """it holds text, or a section below it does"""


def front_matter_of(text: str) -> str | None:
    """The YAML block without its fences."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return found.group(1) if found else None


def lines_of(text: str) -> Iterator[Line]:
    """The lines below the YAML block."""
    block = front_matter_of(text)
    start = 0 if block is None else block.count("\n") + 3
    fence, language = "", ""
    for number, line in enumerate(text.split("\n")[start:], start + 1):
        opened = _FENCE.match(line)
        if fence:
            closes = opened is not None and len(opened[1]) >= len(fence) and not opened[2]
            yield Line(number, line, True, language == QUOTING and not closes)
            fence = "" if closes else fence
        else:
            if opened:
                fence, language = opened[1], opened[2]
            yield Line(number, line, opened is not None, line.startswith(">"))


def sections(text: str) -> list[Section]:
    """All sections in order; the text above the first heading belongs to none."""
    heads: list[tuple[str, int, int, list[Line]]] = []
    for line in lines_of(text):
        heading = None if line.code else _HEADING.match(line.text)
        if heading:
            heads.append((heading[2], len(heading[1]), line.number, []))
        elif heads:
            heads[-1][3].append(line)
    found: list[Section] = []
    for title, level, number, lines in reversed(heads):
        holds = any(line.text.strip() for line in lines)
        following = found[-1] if found else None
        below = following is not None and following.level > level and following.filled
        found.append(Section(title=title, level=level, line=number, lines=tuple(lines), filled=holds or below))
    return found[::-1]


def tables(section: Section) -> list[list[Line]]:
    """The tables of a section, each as its lines."""
    found: list[list[Line]] = []
    last = 0
    for line in section.lines:
        if line.row:
            if not found or line.number != last + 1:
                found.append([])
            found[-1].append(line)
            last = line.number
    return found


def cells(row: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in _CELL.split(row)[1:-1]]


def anchors(text: str) -> set[str]:
    """What the headings are called in links, as the Hub calls them."""
    return {re.sub(r"[^\w\- ]", "", section.title.lower()).replace(" ", "-") for section in sections(text)}
