"""Define the facts that the card states about a build.

Everything that can be counted is counted, so the card cannot disagree with the data beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
class ReadingFacts:
    """How much of one language was read. A signature is stale if its text was edited since; it counts nowhere else."""

    texts: int
    by_people: int
    """texts that at least one person read"""
    by_models: int
    faults: int
    """texts in which somebody found a fault and which nobody edited since"""
    stale: int
    """signatures"""


@dataclass(frozen=True, kw_only=True)
class ReaderFacts:
    """Who signed, and how many texts of which the signature still holds."""

    name: str
    kind: str
    """person or model"""
    texts: int


@dataclass(frozen=True, kw_only=True)
class AgreementFacts:
    """How far two readers agree about the texts that both of them read."""

    first: str
    second: str
    texts: int
    share: float
    """of the texts on which their verdicts are the same, 0 to 1"""
    kappa: float | None
    """Cohen's; `None` if both gave one verdict throughout, where it says nothing"""


@dataclass(frozen=True, kw_only=True)
class SampleFacts:
    """What one reader found in texts drawn at random and read blind."""

    seed: int
    size: int
    reader: str
    kind: str
    """person or model"""
    date: str
    faults: int
    low: float
    high: float
    """the 95% interval of the share of faults, 0 to 1"""


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
    readings: Mapping[str, ReadingFacts] = field(default_factory=dict)
    """by language; empty if nobody signed anything"""
    readers: Sequence[ReaderFacts] = ()
    """the one with the most texts first"""
    agreements: Sequence[AgreementFacts] = ()
    samples: Sequence[SampleFacts] = ()

    @property
    def read_by_nobody(self) -> list[str]:
        """Languages none of whose texts a person has signed, so no native speaker either."""
        return [one for one in self.languages if one not in self.readings or not self.readings[one].by_people]

    @property
    def written_by_models(self) -> list[str]:
        """Authors that say they are language models."""
        return [name for name in self.generators if "model" in name.casefold()]

    @property
    def splits(self) -> Mapping[str, int]:
        """Rows of the default config by split."""
        return self.configs[0].rows

    @property
    def tokens(self) -> int:
        """GPT-2 tokens of all rows."""
        return sum(part.total for part in self.lengths)
