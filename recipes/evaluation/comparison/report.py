"""Render a comparison as HTML pages: all figures and answers, the blind page for voting, and the demo's table.

A page is one file, and its content security policy allows no script and no request, so an answer cannot smuggle in
code. jinja2 escapes every text of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from bonsai.builder.assets import html_environment, load_text, render_page
from bonsai.recipes.evaluation.comparison.compare import short_names
from bonsai.recipes.evaluation.comparison.record import Comparison, ComparisonQuestion
from bonsai.recipes.evaluation.comparison.results import MEASURES, ComparisonDiff, Pair, Results, answer_scores, results
from bonsai.recipes.evaluation.comparison.voting import BlindQuestion, RankedModel
from bonsai.recipes.inference.conversation import Answer
from bonsai.recipes.inference.labels import UILanguage

PAGE = "compare.html"
BLIND = "blind.html"
CELL = 64
"""side of a square of the heat map, in the SVG's units"""
MARGIN = 34
"""room above and beside the squares, for the models' numbers"""


class HeatCell(NamedTuple):
    """A square of the heat map."""

    x: int
    y: int
    value: float | None
    """mean cosine; `None`: a single sample has nothing to be similar to"""
    by_chance: float | None
    """of answers to different questions"""
    warmth: float
    """0 to 1"""
    own: bool
    """on the diagonal"""
    title: str


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """The similarity of models as squares; lengths in the SVG's units."""

    size: int
    cell: int
    middles: Sequence[int]
    """of the columns from the left, and of the rows from above"""
    cells: Sequence[HeatCell]
    """the diagonal last: its border overlaps its neighbours"""


class AnswerFlag(NamedTuple):
    """What a reader should see at once about an answer."""

    english: str
    japanese: str
    bad: bool = True


def page(
    results: Results, *, changes: ComparisonDiff | None = None, ranked: Sequence[RankedModel] = (), votes: int = 0
) -> str:
    """Render the page with all figures and answers.

    Args:
        votes: how many the ranking is made of.
    """
    comparison = results.comparison
    names = short_names([run.name for run in comparison.models])
    groups: dict[str, list[dict[str, Any]]] = {}
    for listed in comparison.questions:
        sides = [
            {
                "place": index,
                "name": name,
                "stability": results.scores[model].get("stability", {}).get(listed.id),
                "samples": [
                    {"answer": answer, "remarks": list(answer_flags(listed, answer))}
                    for answer in comparison.of(model, listed.id)
                ],
            }
            for index, (model, name) in enumerate(names.items())
        ]
        groups.setdefault(listed.group, []).append({"listed": listed, "sides": sides})
    return render_page(
        html_environment(__package__, **FILTERS).get_template("page.html.j2"),
        style=page_style(),
        title=" · ".join(names.values()),
        comparison=comparison,
        decoder=asdict(comparison.decoder),
        names=names,
        measures=MEASURES,
        measured=results.measured,
        heat=layout_heatmap(results.matrix, names),
        changes=changes,
        ranked=ranked,
        votes=votes,
        groups=[{"name": name, "questions": questions} for name, questions in groups.items()],
    )


def blind_page(questions: Sequence[BlindQuestion], folder: str) -> str:
    """Render the page for voting, without the models' names.

    Args:
        folder: where the votes go, as the reader types it.
    """
    template = html_environment(__package__, **FILTERS).get_template("blind.html.j2")
    return render_page(template, style=page_style(), questions=questions, folder=folder)


def page_style() -> str:
    """Join the style of all evaluation pages with the comparisons' own."""
    return load_text("bonsai.recipes.evaluation", "page.css") + load_text(__package__, "compare.css")


def render_figures(comparison: Comparison, language: UILanguage) -> str:
    """Render the measures and the heat map of a demo's comparison as a piece of HTML.

    The prices of `bonsai compare` are left out: a visitor is not told what the machine costs.
    """
    found = results(comparison)
    names = {run.name: run.name for run in comparison.models}
    template = html_environment(__package__, **FILTERS).get_template("figures.html.j2")
    return template.render(
        tongue=language,
        style=Markup(load_text(__package__, "figures.css")),
        names=list(names),
        several=len(comparison.questions) > 1,
        measures=MEASURES,
        measured=found.measured,
        heat=layout_heatmap(found.matrix, names),
    )


def layout_heatmap(pairs: Sequence[Pair], names: Mapping[str, str]) -> HeatMap | None:
    """Lay out the heat map; `None` if there is nothing to compare.

    Args:
        names: what a reader calls each model, in the order of the rows.
    """
    if not pairs:
        return None
    by_models = {frozenset((pair.first, pair.second)): pair for pair in pairs}
    # the coldest value is what the scale begins at, by chance or not
    cold = min(value for pair in pairs for value in (pair.likeness.value, pair.by_chance) if value is not None)
    cells = []
    for row, first in enumerate(names):
        for column, second in enumerate(names):
            pair = by_models.get(frozenset((first, second)))
            title, warmth = f"{names[first]} × {names[second]}", 0.0
            if pair:
                value, low, high = pair.likeness
                title += f": {value:.2f} ({low:.2f} … {high:.2f})"
                warmth = (value - cold) / max(1 - cold, 1e-9)
            cells.append(
                HeatCell(
                    x=MARGIN + CELL * column,
                    y=MARGIN + CELL * row,
                    value=pair.likeness.value if pair else None,
                    by_chance=pair.by_chance if pair else None,
                    warmth=warmth,
                    own=row == column,
                    title=title,
                )
            )
    return HeatMap(
        size=MARGIN + CELL * len(names) + 2,
        cell=CELL,
        middles=[MARGIN + CELL * index + CELL // 2 for index in range(len(names))],
        cells=sorted(cells, key=lambda cell: cell.own),
    )


def answer_flags(listed: ComparisonQuestion, answer: Answer) -> Iterator[AnswerFlag]:
    """Yield what a reader should know about an answer before reading it."""
    scores = answer_scores(listed, answer)
    if scores.get("language") == 0:
        yield AnswerFlag("not in its language", "言語が違う")
    if scores["foreign"]:
        yield AnswerFlag(f"foreign letters {scores['foreign']:.0%}", f"他言語の文字 {scores['foreign']:.0%}")
    if scores["mojibake"]:
        yield AnswerFlag("mojibake", "文字化け")
    if scores["loop"] or answer.loops:
        yield AnswerFlag("repeats itself", "繰り返し")
    if answer.stopped_by == "length":
        yield AnswerFlag("cut off", "途中で打ち切り")
    if answer.passes == 2:
        yield AnswerFlag("Reasoning in a second pass", "Reasoningは2回目", bad=False)
    if answer.retried_because:
        yield AnswerFlag("retried", "やり直し", bad=False)


def shown(number: float, measure: str, *, signed: bool = False) -> str:
    """Format a score as a reader expects it: cosines with two decimals, shares in percent, lengths as integers."""
    sign = "+" if signed else ""
    if measure == "stability":
        return f"{number:{sign}.2f}"
    return f"{100 * number:{sign}.0f} %" if MEASURES[measure].top == 1.0 else f"{number:{sign}.0f}"


FILTERS: dict[str, Callable[..., str]] = {
    "shown": shown,
    "cosine": lambda value: "–" if value is None else f"{value:.2f}",
    "percent": lambda share: f"{100 * share:.0f} %",
}
"""of the templates"""
