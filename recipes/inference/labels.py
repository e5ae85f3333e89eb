"""Load the labels of the summaries and of the demo, in Japanese and English, from ``labels.*.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple

from bonsai.builder.schema import Language

UILanguage = Literal["ja", "en"]


class PerspectiveLabels(NamedTuple):
    """The name of a perspective, and why the next question was asked from there."""

    name: str
    because: str
    """a sentence"""


@dataclass(frozen=True, kw_only=True)
class SummaryLabels:
    """One language's labels of the summaries; ``{}`` is a number or a name."""

    html: UILanguage
    """the language, as the page's ``lang``"""
    title: str
    chains: str
    asked: str
    why_deeper: str
    learnt: str
    still_open: str
    nothing_open: str
    ended: str
    depth_reached: str
    going_on: str
    step: str
    question: str
    reasoning: str
    no_reasoning: str
    answer: str
    no_answer: str
    considered: str
    chosen: str
    passed: str
    refused: str
    nearness: str
    theme: str
    depth: str
    tree: str
    tree_help: str
    close: str
    two_passes: str
    retried: str
    loops: str
    cut_off: str
    tokens: str
    seconds: str
    steps: str
    rule: str
    told_by: str
    untold: str
    quoted: str
    perspectives: dict[str, PerspectiveLabels]

    def perspective(self, key: str | None) -> PerspectiveLabels:
        """Return the labels of a perspective; an unknown one is called by its key, the opening question has none."""
        if key is None:
            return PerspectiveLabels(self.question, "")
        return self.perspectives.get(key, PerspectiveLabels(key, key))


@dataclass(frozen=True, kw_only=True)
class DemoLabels:
    """One language's labels of the demo; ``{}`` is a number or a name."""

    html: UILanguage
    welcome: str
    ask: str
    qtq: str
    compare: str
    browse: str
    question: str
    question_hint: str
    material: str
    material_hint: str
    more: str
    language: str
    languages: dict[str, str]
    persona: str
    persona_hint: str
    passes: str
    passes_choices: dict[str, str]
    model: str
    models: str
    run_ask: str
    run_qtq: str
    run_compare: str
    stop: str
    stopped: str
    waiting: str
    reasoning: str
    answer: str
    no_reasoning: str
    no_answer: str
    two_passes: str
    retried: str
    loops: str
    cut_off: str
    facts: str
    depth: str
    step: str
    opening: str
    looking: str
    summary: str
    summary_to_come: str
    download: str
    questions: str
    questions_hint: str
    samples: str
    samples_hint: str
    settings: str
    settings_choices: dict[str, str]
    category: str
    every_category: str
    shown_languages: str
    search: str
    search_hint: str
    earlier: str
    later: str
    found: str
    nothing_found: str
    output: str
    material_field: str
    provenance: str
    too_long: str
    too_many: str
    empty: str
    choose_one: str
    broken: str
    examples: tuple[str, ...]


def _load(language: UILanguage) -> tuple[SummaryLabels, DemoLabels]:
    tables = tomllib.loads(files(__package__).joinpath(f"labels.{language}.toml").read_text(encoding="utf-8"))
    summary, demo = tables["summary"], tables["demo"]
    summary["perspectives"] = {key: PerspectiveLabels(**labels) for key, labels in summary["perspectives"].items()}
    demo["examples"] = tuple(demo["examples"])
    return SummaryLabels(html=language, **summary), DemoLabels(html=language, **demo)


SUMMARY_JA, DEMO_JA = _load("ja")
SUMMARY_EN, DEMO_EN = _load("en")


def load_labels(language: Language) -> SummaryLabels:
    """Return the summary labels: Japanese for a Japanese chain, English for any other."""
    return SUMMARY_JA if language is Language.JA else SUMMARY_EN


def demo_labels(language: str) -> DemoLabels:
    """Return the demo's labels: Japanese unless English is asked for."""
    return DEMO_EN if language == "en" else DEMO_JA
