"""Renders the README.md that the Hub shows for an adapter.

Every number comes from the run's own record; the template holds none. A section without data is left out as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from bonsai.model_card import snippets
from bonsai.model_card.facts import AdapterFacts, DiagnosisFacts, EvaluationFacts, LossRow, Price, RecordLine, Setting
from bonsai.model_card.footprint import footprint
from bonsai.model_card.markdown import cell, fenced, inline, value
from bonsai.model_card.metadata import front_matter

__all__ = [
    "AdapterFacts",
    "DiagnosisFacts",
    "EvaluationFacts",
    "LossRow",
    "Price",
    "RecordLine",
    "Setting",
    "front_matter",
    "is_edited",
    "render",
    "thinned",
]

TABLE_ROWS = 12
"""the loss table shows about this many steps; training/loss.csv has them all"""
_STAMP = "\n<!-- Rendered from the run's record; SHA-256 of what stands above: {} -->\n"
"""the last line, which no reader sees; by it an edited card is told from an old one"""


def render(facts: AdapterFacts) -> str:
    """The whole README.md: YAML front matter, then Markdown in English with a Japanese summary."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters.update(cell=cell, fenced=fenced, inline=inline, value=value)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    body = template.render(
        facts=facts,
        losses=thinned(facts.losses, facts.evaluations),
        footprint=footprint(facts.device, facts.seconds),
        answers=_answers(facts),
        snippets=snippets,
    )
    text = f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"
    return text + _STAMP.format(_sha256(text))


def is_edited(card: str) -> bool:
    """Whether a card is not, to the letter, what `render` once gave."""
    head, tail = map(re.escape, _STAMP.split("{}"))
    found = re.fullmatch(f"(.*){head}([0-9a-f]+){tail}", card, re.DOTALL)
    return found is None or _sha256(found[1]) != found[2]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def thinned(losses: Sequence[LossRow], evaluations: Mapping[int, float] | None = None) -> list[LossRow]:
    """First, last, and steps evenly between, with every step after which the validation loss was taken."""
    if len(losses) <= TABLE_ROWS:
        return list(losses)
    picked = {round(i * (len(losses) - 1) / (TABLE_ROWS - 1)) for i in range(TABLE_ROWS)}
    picked |= {number for number, row in enumerate(losses) if row.step in (evaluations or {})}
    return [losses[i] for i in sorted(picked)]


def _answers(facts: AdapterFacts) -> Mapping[str, int]:
    """How many of the probes with a right answer were answered rightly."""
    judged = [p for p in (facts.evaluation.probes if facts.evaluation else ()) if p.right_after is not None]
    return {
        "judged": len(judged),
        "before": sum(bool(probe.right_before) for probe in judged),
        "after": sum(bool(probe.right_after) for probe in judged),
    }
