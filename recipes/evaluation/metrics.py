"""What is measured: names, which way is better, and how a reader calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of an answer."""

    name: str
    better: Literal["higher", "lower", "neither"]
    english: str
    japanese: str
    top: float | None = 1.0
    """the largest value there can be; None: there is none"""
    hub_type: str | None = None
    """how the Hub's card calls it; None: by its own name"""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="f1", better="higher", english="F1", japanese="F1", hub_type="f1"),
        Metric(name="exact_match", better="higher", english="exact match", japanese="完全一致", hub_type="exact_match"),
        Metric(name="accepted", better="higher", english="right answer inside", japanese="正答を含む"),
        Metric(name="label", better="higher", english="label right", japanese="ラベル一致", hub_type="accuracy"),
        Metric(name="chrf", better="higher", english="chrF", japanese="chrF", top=100.0, hub_type="chrf"),
        Metric(name="ideas", better="higher", english="distinct ideas", japanese="異なる案の数", top=None),
        Metric(name="constraints", better="higher", english="constraints kept", japanese="条件を守る"),
        Metric(name="deepens", better="higher", english="question goes deeper", japanese="質問が深まる"),
        Metric(name="tautology", better="lower", english="question goes in a circle", japanese="質問が堂々巡り"),
        Metric(name="reasoning", better="higher", english="Reasoning present", japanese="Reasoningあり"),
        Metric(name="language", better="higher", english="right language", japanese="言語が正しい"),
        Metric(name="foreign", better="lower", english="foreign letters", japanese="他言語の文字"),
        Metric(name="mojibake", better="lower", english="mojibake", japanese="文字化け"),
        Metric(name="repetition", better="lower", english="repeated 4-grams", japanese="4-gramの繰り返し"),
        Metric(name="loop", better="lower", english="repeats itself", japanese="繰り返しあり"),
        Metric(name="eos", better="higher", english="ends by itself", japanese="自分で終わる"),
        Metric(name="length", better="neither", english="length (characters)", japanese="長さ（文字）", top=None),
    )
}

HEADLINE = {
    "single_answer": "f1",
    "accepted": "accepted",
    "classification": "label",
    "translation": "chrf",
    "creative": "constraints",
    "brainstorming": "ideas",
    "deepening": "deepens",
    "free": "loop",
}
"""the one score that stands for a task"""

FORM = ("reasoning", "language", "foreign", "mojibake", "repetition", "loop", "eos", "length")
"""scores that every answer gets"""
