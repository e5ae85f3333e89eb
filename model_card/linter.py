"""Check a model card before it is published: metadata, placeholders, sections, links and numbers.

The numbers are checked against the facts: the card is rendered anew and compared, tables cell by cell, and in running
text every number must be one that the rendering has in the same section. So a person may rewrite a sentence, but no
figure drifts from the run's record:

    >>> [str(issue) for issue in lint_card(render(facts).replace("1,234,567", "1,234,568"), facts)]
    ["233: column 2: '1,234,568', but the run's record says '1,234,567'"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import yaml
from huggingface_hub import ModelCard

from bonsai.model_card.card import render
from bonsai.model_card.facts import AdapterFacts
from bonsai.model_card.metadata import as_mapping

REQUIRED = (
    *("license", "language", "library_name", "pipeline_tag", "base_model", "base_model_relation"),
    *("datasets", "metrics", "tags", "model-index"),
)
"""fields of the YAML block by which the Hub finds and shows an adapter"""
LICENSE_SECTION = "Licence"
HUB = "https://huggingface.co/"
QUOTING = "text"
"""the language of a fenced block that quotes a record or a model"""

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
_FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
_CELL = re.compile(r"(?<!\\)\|")
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
    """One fault, with its line in the card (1-based, of the whole file)."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.line}: {self.message}"


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

    @property
    def cells(self) -> list[str]:
        """The cells of a table's line."""
        return [cell.strip() for cell in _CELL.split(self.text)[1:-1]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and the lines below it, up to the next heading of any level."""

    title: str
    level: int
    line: int
    lines: tuple[CardLine, ...]
    filled: bool
    """it has text, or a section below it does"""

    @property
    def tables(self) -> list[list[CardLine]]:
        """Its tables, each as its lines."""
        found: list[list[CardLine]] = []
        last = 0
        for line in self.lines:
            if line.row:
                if not found or line.number != last + 1:
                    found.append([])
                found[-1].append(line)
                last = line.number
        return found


def lint_card(text: str, facts: AdapterFacts) -> list[LintIssue]:
    """Find everything that keeps a card from being published, in the order of its lines."""
    rendered = render(facts)
    return sorted(
        {
            *metadata_issues(text, rendered),
            *section_issues(text, facts),
            *line_issues(text),
            *number_issues(text, rendered),
        }
    )


def metadata_issues(text: str, rendered: str) -> Iterator[LintIssue]:
    """Check that huggingface_hub can read the YAML block, and that it says what the facts say."""
    if extract_front_matter(text) is None:
        yield LintIssue(1, "the YAML block is missing; begin the file with --- and end the block with ---")
        return
    try:
        card = ModelCard(text)
    except (ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        yield LintIssue(1, f"the YAML block can't be read by huggingface_hub ({' '.join(str(error).split())})")
        return
    written, wanted = as_mapping(card.data), as_mapping(ModelCard(rendered).data)
    for name in REQUIRED:
        if not written.get(name):
            yield LintIssue(1, f"'{name}' is missing from the YAML block; the Hub finds and shows the adapter by it")
    for name in sorted(written):
        if written[name] != wanted.get(name):
            yield LintIssue(1, f"'{name}' in the YAML block differs from the run's record; render the card again")


def section_issues(text: str, facts: AdapterFacts) -> Iterator[LintIssue]:
    """Check that no section is empty, and that one names the licence."""
    found = sections(text)
    for section in found:
        if not section.filled:
            yield LintIssue(section.line, f"the section {section.title!r} is empty; fill it or leave it out")
    licence = next((one for one in found if one.title == LICENSE_SECTION), None)
    if licence is None:
        yield LintIssue(1, f"the section {LICENSE_SECTION!r} is missing; name the licence of the adapter in it")
    elif not any(re.search(rf"adapter: {re.escape(facts.license)}\b", line.text) for line in licence.lines):
        yield LintIssue(
            licence.line, f"the text does not name {facts.license}, the licence of the YAML block and the base model"
        )


def line_issues(text: str) -> Iterator[LintIssue]:
    """Find placeholders, links that do not work on the Hub, and paths of one machine."""
    # the Hub derives a heading's anchor like this
    anchors = {re.sub(r"[^\w\- ]", "", one.title.lower()).replace(" ", "-") for one in sections(text)}
    for line in parse_lines(text):
        if line.row:  # a cell may quote a model, which may say None; a cell of nothing else is ours
            placeholder = next(filter(None, map(_PLACEHOLDER.fullmatch, line.cells)), None)
        else:
            placeholder = None if line.quoted else _PLACEHOLDER.search(line.text)
        if placeholder:
            yield LintIssue(
                line.number, f"{placeholder.group()!r} is a placeholder; write what is known or leave it out"
            )
        if local := _LOCAL.search(line.text):
            yield LintIssue(line.number, f"{local.group()} is a place on one machine; leave it out")
        if line.code or line.quoted:
            continue
        for target in [*_LINK.findall(line.text), *_ADDRESS.findall(line.text)]:
            if target.startswith("#"):
                if target[1:] not in anchors:
                    yield LintIssue(line.number, f"no heading is called {target}; correct the link")
            elif re.match(r"[a-z][a-z0-9+.-]*:", target) and not target.startswith(HUB):
                yield LintIssue(
                    line.number, f"{target} leads away from the Hub; link to {HUB} or to a file of the repo"
                )
            elif target.startswith("/"):
                yield LintIssue(line.number, f"{target} leads nowhere on the Hub; link relative to the repo")


def number_issues(text: str, rendered: str) -> Iterator[LintIssue]:
    """Compare the numbers of each section with those of the same section in a fresh rendering."""
    by_title = {section.title: section for section in sections(rendered)}
    for section in sections(text):
        # 1. The facts know nothing of a section that the template does not have, so it may state no number.
        wanted = by_title.get(section.title)
        if wanted is None:
            for line in section.lines:
                for number in () if line.code else _NUMBER.findall(line.text):
                    yield LintIssue(line.number, f"{number} is in a section that the run's record knows nothing of")
            continue
        # 2. Tables must be equal cell by cell.
        ours, theirs = section.tables, wanted.tables
        if len(ours) != len(theirs):
            yield LintIssue(
                section.line, f"{section.title!r} has {len(ours)} tables; the run's record gives {len(theirs)}"
            )
        for table, other in zip(ours, theirs, strict=False):
            if len(table) != len(other):
                yield LintIssue(
                    table[0].number, f"the table has {len(table)} lines; the run's record gives {len(other)}"
                )
            names = dict(enumerate(table[0].cells))
            for line, right in zip(table, other, strict=False):
                for column, (cell, value) in enumerate(zip(line.cells, right.cells, strict=False)):
                    if cell != value:
                        name = names.get(column) or f"column {column + 1}"
                        message = f"{name}: {cell or 'nothing'!r}, but the run's record says {value!r}"
                        yield LintIssue(line.number, message)
        # 3. Running text may use the rendering's numbers, in any order.
        known = {number for line in wanted.lines if not line.row for number in _NUMBER.findall(line.text)}
        for line in section.lines:
            for number in () if line.row else _NUMBER.findall(line.text):
                if number not in known:
                    yield LintIssue(line.number, f"{number} is not in the run's record; render the card again")


def extract_front_matter(text: str) -> str | None:
    """Return the YAML block without its fences; `None` if there is none."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return found.group(1) if found else None


def parse_lines(text: str) -> Iterator[CardLine]:
    """Parse the lines below the YAML block, and mark fenced blocks and quotations."""
    block = extract_front_matter(text)
    start = 0 if block is None else block.count("\n") + 3
    fence, language = "", ""
    for number, line in enumerate(text.split("\n")[start:], start + 1):
        match = _FENCE.match(line)
        if fence:
            closes = match is not None and len(match[1]) >= len(fence) and not match[2]
            yield CardLine(number, line, True, language == QUOTING and not closes)
            fence = "" if closes else fence
        else:
            if match:
                fence, language = match[1], match[2]
            yield CardLine(number, line, match is not None, line.startswith(">"))


def sections(text: str) -> list[Section]:
    """Cut a card into its sections, in order; text above the first heading belongs to none."""
    heads: list[tuple[str, int, int, list[CardLine]]] = []
    for line in parse_lines(text):
        heading = None if line.code else _HEADING.match(line.text)
        if heading:
            heads.append((heading[2], len(heading[1]), line.number, []))
        elif heads:
            heads[-1][3].append(line)
    found: list[Section] = []
    for title, level, number, lines in reversed(heads):  # from the end: a section is filled if the next one below it is
        has_text = any(line.text.strip() for line in lines)
        below = bool(found) and found[-1].level > level and found[-1].filled
        found.append(Section(title=title, level=level, line=number, lines=tuple(lines), filled=has_text or below))
    return found[::-1]
