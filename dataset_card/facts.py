"""Define the facts that the card states about a build.

Everything that can be counted is counted, so the card cannot disagree with the data beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LENGTH_BIN = 25
"""tokens per bar of a length histogram"""


@dataclass(frozen=True, kw_only=True)
class ConfigFacts:
    """One config, with its number of rows by split."""

    name: str
    description: str
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ExampleFacts:
    """One row shown in the card."""

    id: str
    language: str
    category: str
    instruction: str
    input: str
    reasoning: str
    output: str
    as_trained: str
    """the row as in the config ``messages``, both turns in one text"""


@dataclass(frozen=True, kw_only=True)
class LengthFacts:
    """The lengths of one language's rows, question and answer together, in tokens."""

    language: str
    median: int
    p90: int
    """nine rows in ten are no longer"""
    longest: int
    total: int
    histogram: Sequence[int]
    """rows by length, `LENGTH_BIN` tokens a bin"""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Everything that the card states about one build."""

    repo_id: str
    version: str
    groups: int
    rows: int
    derived_rows: int
    """translation rows made from the questions of other groups; counted in ``rows``"""
    improved_reasoning: int
    """groups that keep their earlier Reasoning beside the improved one"""
    groups_with: Mapping[str, int]
    """groups by what they have: Chinese, an earlier input, a skill they teach, a chain of questions they belong to"""
    languages: Sequence[str]
    configs: Sequence[ConfigFacts]
    category_language: Mapping[str, Mapping[str, int]]
    """rows by category and language"""
    topics: Mapping[str, int]
    """groups by topic, the commonest first"""
    lengths: Sequence[LengthFacts]
    """one a language"""
    smollm2_lengths: Sequence[LengthFacts]
    """the same in SmolLM2's tokens"""
    probe_kinds: Mapping[str, int]
    """probes by kind"""
    examples: Sequence[ExampleFacts]
    generators: Mapping[str, int]
    """groups by the name of their author"""
    metadata: Mapping[str, Any]
    """`configs` and `dataset_info`, as `datasets` writes them"""

    @property
    def splits(self) -> Mapping[str, int]:
        """Rows of the default config by split."""
        return self.configs[0].rows

    @property
    def tokens(self) -> int:
        """GPT-2 tokens of all rows."""
        return sum(part.total for part in self.lengths)
