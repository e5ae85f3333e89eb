"""Render the README.md that the Hub shows for an adapter.

Every number comes from the run's own record; the template has none. A section without data is left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from bonsai.model_card.facts import AdapterFacts, LossRow
from bonsai.model_card.metadata import QUESTION, footprint, front_matter

CELL = 160
"""characters of an answer that a table shows; the evaluation's own file has the whole answers"""
TABLE_ROWS = 12
"""the loss table shows about this many steps; training/loss.csv has them all"""
NEW_TOKENS = 256
NGRAM_SIZES = {"en": 12}
"""no_repeat_ngram_size for adapters of one language. It must be more tokens than the beginnings of the two markers,
which are 3 of SmolLM2's and 8 bytes, or the response's is barred; with 8 the seedling looped in 0 of 20 answers."""
LONG_NGRAM = 24
"""and for all others: a token of Japanese may be a third of a character, and a short n-gram a name in the question"""

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&$~]")
_PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STAMP = "\n<!-- Rendered from the run's record; SHA-256 of what stands above: {} -->\n"
"""the last line, invisible to readers; it tells an edited card from an old one"""


def render(facts: AdapterFacts) -> str:
    """Render the whole README.md: YAML front matter, then Markdown in English with a Japanese summary."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters.update(cell=cell, fenced=fenced, inline=inline, value=value)
    template = environment.from_string(files(__package__).joinpath("README.md.j2").read_text(encoding="utf-8"))
    # probes without a right answer are shown, not counted
    judged = [probe for probe in (facts.evaluation.probes if facts.evaluation else ()) if probe.right_after is not None]
    body = template.render(
        facts=facts,
        losses=downsample_losses(facts.losses, facts.evaluations),
        footprint=footprint(facts.device, facts.seconds),
        answers={
            "judged": len(judged),
            "before": sum(bool(probe.right_before) for probe in judged),
            "after": sum(bool(probe.right_after) for probe in judged),
        },
        question=QUESTION,
        settings=", ".join(f"{name}={value!r}" for name, value in generation(facts.languages).items()),
        new_tokens=NEW_TOKENS,
    )
    text = f"---\n{front_matter(facts)}---\n\n{body.strip()}\n"
    return text + _STAMP.format(_sha256(text))


def is_edited(card: str) -> bool:
    """Check whether a card differs from what `render` once gave, by its stamp."""
    head, tail = map(re.escape, _STAMP.split("{}"))
    found = re.fullmatch(f"(.*){head}([0-9a-f]+){tail}", card, re.DOTALL)
    return found is None or _sha256(found[1]) != found[2]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def downsample_losses(losses: Sequence[LossRow], evaluations: Mapping[int, float] | None = None) -> list[LossRow]:
    """Pick the first step, the last, steps evenly between, and every step with a validation loss."""
    if len(losses) <= TABLE_ROWS:
        return list(losses)
    picked = {round(i * (len(losses) - 1) / (TABLE_ROWS - 1)) for i in range(TABLE_ROWS)}
    picked |= {number for number, row in enumerate(losses) if row.step in (evaluations or {})}
    return [losses[i] for i in sorted(picked)]


def python_snippets(card: str) -> list[str]:
    """Find every Python block of a card, in order: PEFT, pipeline, merging."""
    return _PYTHON_BLOCK.findall(card)


# Filters of the template.


def inline(text: str) -> str:
    """Escape a text for one line of Markdown or a table cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def cell(text: str) -> str:
    """Format an answer as a table cell, truncated to `CELL` characters."""
    line = " ".join(text.split())
    return inline(line if len(line) <= CELL else line[: CELL - 1] + "…")


def fenced(text: str) -> str:
    """Fence a text as a code block, with a fence longer than any inside it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def value(setting: Any) -> str:
    """Format a setting's value as a table cell."""
    if isinstance(setting, bool):
        return "yes" if setting else "no"
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    return inline(str(setting))


def generation(languages: Sequence[str]) -> dict[str, Any]:
    """Choose the settings of the snippets, and of the generation_config.json saved beside an adapter.

    In transformers, vLLM and llama.cpp a repetition penalty counts the prompt, its markers included, and so suppresses
    the form that the adapter has learnt; 1.0 is written out, because a base may bring another. Barred n-grams prevent
    the loops that the penalty was meant against. Asked 20 English questions greedily, the seedling gave Reasoning and
    response to 19 and looped in 9 without either, to 5 and 0 with a penalty of 1.15, and to 19 and 3 with n-grams of 12
    barred (benchmarks/card_settings.py).

    Args:
        languages: of the adapter's answers.
    """
    size = NGRAM_SIZES.get(languages[0], LONG_NGRAM) if len(languages) == 1 else LONG_NGRAM
    return {"max_new_tokens": NEW_TOKENS, "do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": size}
