"""Load what is said in Japanese and English: labels of the summaries and the demo, and reasons that answers keep."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from bonsai.builder.assets import load_table
from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import LocalizedText

UILanguage = Literal["ja", "en"]


class PerspectiveLabels(NamedTuple):
    """The name of a perspective, and why the next question was asked from there."""

    name: str
    because: str
    """a sentence"""


class Labels:
    """The labels of one language: an attribute for each key of its table, with ``{}`` for a number or a name.

    Those declared here are not plain text; the tests compare the keys of both languages with the names in the code.
    """

    html: UILanguage
    """the language, as the page's ``lang``"""
    perspectives: dict[str, dict[str, str]]
    languages: dict[str, str]
    passes_choices: dict[str, str]
    settings_choices: dict[str, str]
    examples: list[str]

    def __init__(self, html: UILanguage, table: dict[str, Any]) -> None:
        self.__dict__.update(table, html=html)

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"labels.{self.html}.toml has no {name!r}")

    def perspective(self, key: str | None) -> PerspectiveLabels:
        """Return the labels of a perspective; an unknown one is called by its key, the opening question has none."""
        if key is None:
            return PerspectiveLabels(self.question, "")
        return PerspectiveLabels(**self.perspectives.get(key, {"name": key, "because": key}))


_REASONS = load_table(__package__, "reasons.toml")


def reason(key: str, **values: LocalizedText | str) -> LocalizedText:
    """Return a reason of ``reasons.toml`` in both languages, with its blanks filled."""

    def fill(language: UILanguage) -> str:
        found = {name: value if isinstance(value, str) else value.text(language) for name, value in values.items()}
        return str(_REASONS[key][language]).format(**found)

    return LocalizedText(en=fill("en"), ja=fill("ja"))


def _load(language: UILanguage) -> tuple[Labels, Labels]:
    tables = load_table(__package__, f"labels.{language}.toml")
    return Labels(language, tables["summary"]), Labels(language, tables["demo"])


SUMMARY_JA, DEMO_JA = _load("ja")
SUMMARY_EN, DEMO_EN = _load("en")


def load_labels(language: Language) -> Labels:
    """Return the summary labels: Japanese for a Japanese chain, English for any other."""
    return SUMMARY_JA if language is Language.JA else SUMMARY_EN


def demo_labels(language: str) -> Labels:
    """Return the demo's labels: Japanese unless English is asked for."""
    return DEMO_EN if language == "en" else DEMO_JA
