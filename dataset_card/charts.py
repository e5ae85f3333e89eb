"""Draw the charts of the dataset card as SVG.

Their background is opaque, because an image cannot know whether the page around it is light or dark. Their text is
English, because an SVG in a page can only use the fonts of the reader's machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from xml.sax.saxutils import escape

from bonsai.dataset_card.facts import LENGTH_BIN, DatasetFacts, LengthFacts

COLORS: Mapping[str, str] = {"ja": "#2c6e54", "en": "#c08a2d", "zh": "#5a6fb0"}
"""distinct for the colour-blind; white text is legible on the first and third, dark text on the second"""
ON_COLOR: Mapping[str, str] = {"ja": "#fff", "en": "#221a08", "zh": "#fff"}
NAMES: Mapping[str, str] = {"ja": "Japanese", "en": "English", "zh": "Chinese"}

WIDTH = 720
_LEFT = 190
_PLOT = 460
_INK, _FAINT, _PAPER = "#26302b", "#68736c", "#fbfaf6"


def render_charts(facts: DatasetFacts) -> dict[str, str]:
    """Render the SVG files of the dataset folder, by their path in it."""
    return {
        "images/category-language.svg": category_language(facts.category_language),
        "images/length.svg": length(facts.lengths, "GPT-2 tokens (what Phi-2 reads)"),
        "images/length-smollm2.svg": length(facts.smollm2_lengths, "SmolLM2 tokens (what the seedling reads)"),
        "images/topics.svg": topics(facts.topics),
    }


def category_language(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Draw the rows by category, each bar cut by language."""
    scale = _PLOT / max(sum(row.values()) for row in counts.values())
    parts = [_title("Rows by category and language")]
    for left, (language, name) in zip(count(_LEFT, 110), NAMES.items(), strict=False):
        parts += [_bar(left, 52, 14, 14, COLORS[language]), _text(left + 20, 64, name, "small")]
    for top, (category, row) in zip(count(84, 34), counts.items(), strict=False):
        parts.append(_text(_LEFT - 10, top + 17, category.replace("_", " "), anchor="end"))
        end = float(_LEFT)
        for language, rows in row.items():
            width = rows * scale
            parts.append(_bar(end, top, width, 24, COLORS[language]))
            if width > 28:  # room for a number of three digits
                parts.append(_text(end + width / 2, top + 16, str(rows), "small", "middle", ON_COLOR[language]))
            end += width
        parts.append(_text(end + 8, top + 17, str(sum(row.values())), "small", fill=_FAINT))
    return _svg(84 + 34 * len(counts) + 14, "Rows by category and language", parts)


def length(lengths: Sequence[LengthFacts], unit: str) -> str:
    """Draw the lengths of rows, one histogram for each language over the same scale."""
    longest = max(part.longest for part in lengths)
    bins = longest // LENGTH_BIN + 1
    highest = max(max(part.histogram) for part in lengths)
    step = (WIDTH - 80) / bins
    parts = [
        _title(f"Length of a row in {unit}"),
        _text(
            40, 58, f"question and answer together; one bar = {LENGTH_BIN} tokens; line = median", "small", fill=_FAINT
        ),
    ]
    for top, part in zip(count(84, 122), lengths, strict=False):
        summary = f"{NAMES[part.language]}: median {part.median}, nine in ten below {part.p90}, longest {part.longest}"
        parts.append(_text(40, top, summary, fill=_INK))
        floor = top + 88
        for index, rows in enumerate(part.histogram):
            height = 72 * rows / highest
            parts.append(_bar(40 + index * step + 1, floor - height, step - 2, height, COLORS[part.language]))
        at = 40 + part.median / LENGTH_BIN * step
        parts.append(f'<path d="M{at:.1f} {top + 10}V{floor}" stroke="{_INK}" stroke-dasharray="3 3"/>')
        parts.append(f'<path d="M40 {floor}H{WIDTH - 40}" stroke="{_FAINT}"/>')
    floor = 84 + 122 * (len(lengths) - 1) + 88
    for tokens in takewhile(lambda tokens: tokens <= longest, count(0, 100 if longest < 1000 else 200)):
        parts.append(_text(40 + tokens / LENGTH_BIN * step, floor + 16, str(tokens), "small", "middle", _FAINT))
    return _svg(floor + 34, f"Length of a row in {unit} by language", parts)


def topics(counts: Mapping[str, int]) -> str:
    """Draw the groups by topic, the most common first."""
    scale = _PLOT / max(counts.values())
    parts = [_title("Groups by topic")]
    for top, (topic, groups) in zip(count(58, 24), counts.items(), strict=False):
        parts.append(_text(_LEFT - 10, top + 14, topic, "small", "end"))
        parts.append(_bar(_LEFT, top, groups * scale, 18, COLORS["ja"]))
        parts.append(_text(_LEFT + groups * scale + 6, top + 14, str(groups), "small", fill=_FAINT))
    return _svg(58 + 24 * len(counts) + 14, "Groups by topic", parts)


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(label)}" font-family="system-ui, sans-serif">\n'
        f"<style>text{{font-size:15px}}.small{{font-size:12px}}.title{{font-size:18px;font-weight:600}}</style>\n"
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="10" fill="{_PAPER}"/>\n{body}\n</svg>\n'
    )


def _title(text: str) -> str:
    return _text(40, 34, text, "title")


def _bar(left: float, top: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{fill}"/>'


def _text(left: float, top: float, text: str, kind: str = "", anchor: str = "start", fill: str = _INK) -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{left:.1f}" y="{top:.1f}"{css} text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
