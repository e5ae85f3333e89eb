"""Check where each group comes from: without source, licence and generator it can't be published under MIT.

Example:
    >>> [issue.message for issue in license_issues("CC BY 4.0")]
    ["license 'CC BY 4.0'"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bonsai.builder.checks.base import Finding, Issue
from bonsai.builder.records import SourcedGroup

LICENSE = "MIT"
"""SPDX identifier, the one string that a filter looks for"""

_KNOWN_SOURCE = re.compile(
    r"(?:authored|書き下ろし|原创)(?:$|[,、，（( ])"
    r"|contributed (?:by its author )?under MIT"
    r"|derived from (?:[a-z_]+-\d{4,}\b|a public-domain text: \S)"
)
_NOT_OURS = re.compile(
    r"alpaca|dolly|sharegpt|oasst|flan|ultrachat|wizardlm|belle\b|chatgpt|gpt-?4|wikipedia|quora|reddit"
    r"|stack ?(?:overflow|exchange)|mmlu|jmmlu|gsm8k|arc\b|hellaswag|truthfulqa|jglue|c-?eval|cmmlu|textbook|https?://"
    r"|ウィキペディア|ネット|教科書|引用|転載|百科|网络|教材|转载|知乎",
    re.IGNORECASE,
)
_STUB = re.compile(
    r"\W*(?:unknown|none|n/?a|nil|null|todo|tbd|fixme|later|somebody|llm|ai|model|(?:a )?(?:large )?language model|bot"
    r"|chatbot|不明|未定|なし|無し|無|生成ai|言語モデル|未知|待定|待补|无|没有|语言模型)?\W*"
    r"|.*(?:あとで|後で書|稍后|to be (?:filled|added|named)).*",
    re.IGNORECASE,
)


def check_provenance(groups: Sequence[SourcedGroup]) -> list[Finding]:
    """Check source, licence and generator of every group."""
    findings: list[Finding] = []
    for located in groups:
        group = located.group
        for field, issues in (
            ("source", source_issues(group.source)),
            ("license", license_issues(group.license)),
            ("generator", generator_issues(group.generator)),
        ):
            findings += [issue.to_finding("provenance", located, field) for issue in issues]
    return findings


def license_issues(license_id: str) -> Iterator[Issue]:
    """Yield an error for anything but the string ``MIT``."""
    if license_id != LICENSE:
        yield Issue.error(
            f"license {license_id!r}",
            "the dataset is published under MIT: write 'MIT' where it is so, and leave out what may not be passed on",
        )


def source_issues(source: str) -> Iterator[Issue]:
    """Yield an error for a source that is unknown, or known not to be ours to publish."""
    if match := _NOT_OURS.search(source):
        yield Issue.error(
            f"source {source!r}", f"'{match.group()}' isn't ours to publish under MIT: write the text anew"
        )
    elif not _KNOWN_SOURCE.match(source) or _STUB.fullmatch(source.partition("under MIT:")[2] or "a name"):
        yield Issue.error(
            f"source {source!r}",
            "write 'authored', 'contributed under MIT: <by whom, from what>', 'derived from <id of a group>' or "
            "'derived from a public-domain text: <which>'",
        )


def generator_issues(generator: str) -> Iterator[Issue]:
    """Yield an error for a generator that names nobody."""
    if _STUB.fullmatch(generator):
        yield Issue.error(
            f"generator {generator!r}",
            "name who or what wrote the text: the model, in brackets or by its own name, or 'human: …'",
        )
