"""Check a rendered model card: sections, placeholders, code blocks and links.

The numbers are held against the facts: the card is rendered anew and the two are compared, tables cell by cell, and in
running text every number must be one that the rendering has in the same section. So a person may rewrite a sentence,
but no figure drifts from the run's record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import yaml
from huggingface_hub import ModelCard

from bonsai.model_card.card import render
from bonsai.model_card.facts import AdapterFacts
from bonsai.model_card.metadata import as_mapping

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
_FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
_CELL = re.compile(r"(?<!\\)\|")
QUOTING = "text"
"""the language of a fenced block that quotes a record or a model"""


class CardLine(NamedTuple):
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
    lines: tuple[CardLine, ...]
    filled: bool
    """it holds text, or a section below it does"""


def extract_front_matter(text: str) -> str | None:
    """The YAML block without its fences."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return found.group(1) if found else None


def parse_lines(text: str) -> Iterator[CardLine]:
    """The lines below the YAML block."""
    block = extract_front_matter(text)
    start = 0 if block is None else block.count("\n") + 3
    fence, language = "", ""
    for number, line in enumerate(text.split("\n")[start:], start + 1):
        opened = _FENCE.match(line)
        if fence:
            closes = opened is not None and len(opened[1]) >= len(fence) and not opened[2]
            yield CardLine(number, line, True, language == QUOTING and not closes)
            fence = "" if closes else fence
        else:
            if opened:
                fence, language = opened[1], opened[2]
            yield CardLine(number, line, opened is not None, line.startswith(">"))


def sections(text: str) -> list[Section]:
    """All sections in order; the text above the first heading belongs to none."""
    heads: list[tuple[str, int, int, list[CardLine]]] = []
    for line in parse_lines(text):
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


def tables(section: Section) -> list[list[CardLine]]:
    """The tables of a section, each as its lines."""
    found: list[list[CardLine]] = []
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


REQUIRED = (
    "license",
    "language",
    "library_name",
    "pipeline_tag",
    "base_model",
    "base_model_relation",
    "datasets",
    "metrics",
    "tags",
    "model-index",
)
LICENCE_SECTION = "Licence"
HUB = "https://huggingface.co/"

_PLACEHOLDER = re.compile(
    r"More Information Needed|\bTODO\b|\bFIXME\b|\bTBD\b|\{\{|\}\}|\{%|\bNone\b|\bnan\b|\bundefined\b|\blorem ipsum\b",
    re.IGNORECASE,
)
_LINK = re.compile(r"\]\(\s*<?([^)>\s]+)[^)]*\)")
_ADDRESS = re.compile(r"(?<!\()\bhttps?://[^\s)>`\"'\]]+")
_LOCAL = re.compile(
    r"(?<![\w.:/~-])(?:~|/(?:home|root|tmp|work|workspace|content|Users|mnt|opt|var|private|kaggle))/[\w./~-]+"
    r"|\b[A-Z]:\\[\w\\]+|\bfile://\S+|\b127\.0\.0\.1\b"
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?(?!\w)", re.ASCII)


class LintIssue(NamedTuple):
    """One fault, with the line of the card it is in (1-based; of the whole file)."""

    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.line}: {self.what}"


def lint_card(text: str, facts: AdapterFacts) -> list[LintIssue]:
    """Every complaint about this card, in the order of its lines; none: it may be published."""
    found = [
        *_metadata(text, facts),
        *_placeholders(text),
        *_empty_sections(text),
        *_licence(text, facts),
        *_links(text),
        *_local_paths(text),
        *_numbers(text, render(facts)),
    ]
    return sorted(set(found))


def _metadata(text: str, facts: AdapterFacts) -> Iterator[LintIssue]:
    block = extract_front_matter(text)
    if block is None:
        yield LintIssue(1, "the YAML block is missing; begin the file with --- and end the block with ---")
        return
    try:
        card = ModelCard(text)
    except (ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        yield LintIssue(1, f"the YAML block can't be read by huggingface_hub ({' '.join(str(error).split())})")
        return
    written = as_mapping(card.data)
    for name in REQUIRED:
        if not written.get(name):
            yield LintIssue(1, f"'{name}' is missing from the YAML block; the Hub finds and shows the adapter by it")
    wanted = as_mapping(ModelCard(render(facts)).data)
    for name in sorted(set(wanted) | set(written)):
        if name in written and written[name] != wanted.get(name):
            yield LintIssue(1, f"'{name}' in the YAML block differs from the run's record; render the card again")


def _placeholders(text: str) -> Iterator[LintIssue]:
    for line in parse_lines(text):
        if line.row:  # a cell may quote a model, which may say None; a cell that is nothing else is ours
            found = next(filter(None, map(_PLACEHOLDER.fullmatch, cells(line.text))), None)
        else:
            found = None if line.quoted else _PLACEHOLDER.search(line.text)
        if found:
            yield LintIssue(line.number, f"{found.group()!r} is a placeholder; write what is known or leave it out")


def _empty_sections(text: str) -> Iterator[LintIssue]:
    for section in sections(text):
        if not section.filled:
            yield LintIssue(section.line, f"the section {section.title!r} is empty; fill it or leave it out")


def _licence(text: str, facts: AdapterFacts) -> Iterator[LintIssue]:
    section = next((one for one in sections(text) if one.title == LICENCE_SECTION), None)
    if section is None:
        yield LintIssue(1, f"the section {LICENCE_SECTION!r} is missing; say under which licence the adapter stands")
    elif not any(re.search(rf"adapter: {re.escape(facts.licence)}\b", line.text) for line in section.lines):
        yield LintIssue(
            section.line, f"the text does not name {facts.licence}, the licence of the YAML block and the base model"
        )


def _links(text: str) -> Iterator[LintIssue]:
    there = anchors(text)
    for line in parse_lines(text):
        if line.code or line.quoted:
            continue
        for target in [*_LINK.findall(line.text), *_ADDRESS.findall(line.text)]:
            if target.startswith("#"):
                if target[1:] not in there:
                    yield LintIssue(line.number, f"no heading is called {target}; correct the link")
            elif re.match(r"[a-z][a-z0-9+.-]*:", target) and not target.startswith(HUB):
                yield LintIssue(
                    line.number, f"{target} leads away from the Hub; link to {HUB} or to a file of the repo"
                )
            elif target.startswith("/"):
                yield LintIssue(line.number, f"{target} leads nowhere on the Hub; link relative to the repo")


def _local_paths(text: str) -> Iterator[LintIssue]:
    for line in parse_lines(text):
        found = _LOCAL.search(line.text)
        if found:
            yield LintIssue(line.number, f"{found.group()} is a place on one machine; leave it out")


def _numbers(text: str, rendered: str) -> Iterator[LintIssue]:
    wanted = {section.title: section for section in sections(rendered)}
    for section in sections(text):
        true = wanted.get(section.title)
        if true is None:
            yield from (
                LintIssue(line.number, f"{number} is in a section that the run's record knows nothing of")
                for line in section.lines
                for number in _NUMBER.findall(line.text)
                if not line.code
            )
            continue
        yield from _tables(section, true)
        known = {number for line in true.lines if not line.row for number in _NUMBER.findall(line.text)}
        for line in section.lines:
            for number in () if line.row else _NUMBER.findall(line.text):
                if number not in known:
                    yield LintIssue(line.number, f"{number} is not in the run's record; render the card again")


def _tables(section: Section, true: Section) -> Iterator[LintIssue]:
    ours, theirs = tables(section), tables(true)
    if len(ours) != len(theirs):
        yield LintIssue(section.line, f"{section.title!r} has {len(ours)} tables; the run's record gives {len(theirs)}")
    for table, wanted in zip(ours, theirs, strict=False):
        if len(table) != len(wanted):
            yield LintIssue(table[0].number, f"the table has {len(table)} lines; the run's record gives {len(wanted)}")
        yield from _rows(table, wanted)


def _rows(table: list[CardLine], wanted: list[CardLine]) -> Iterator[LintIssue]:
    names = cells(table[0].text)
    by_name: Mapping[int, str] = dict(enumerate(names))
    for line, other in zip(table, wanted, strict=False):
        for column, (cell, right) in enumerate(zip(cells(line.text), cells(other.text), strict=False)):
            if cell != right:
                where = by_name.get(column) or f"column {column + 1}"
                yield LintIssue(line.number, f"{where}: {cell or 'nothing'!r}, but the run's record says {right!r}")
