"""Render a comparison as an HTML page with a heat map.

A page is one file without a script, and its content security policy lets nothing in: an answer cannot bring code along.

They are those of `bonsai compare`, in the one language that the page is read in. A price is not among them: a visitor
is not told what the machine costs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bonsai.recipes.evaluation.comparison.compare import short_names
from bonsai.recipes.evaluation.comparison.record import (
    Comparison,
    ComparisonQuestion,
    ModelRun,
    SampledAnswer,
    SampleRound,
)
from bonsai.recipes.evaluation.comparison.results import MEASURES, ComparisonDiff, Pair, Results, answer_scores, results
from bonsai.recipes.evaluation.comparison.voting import BlindQuestion, RankedModel
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.generation import GenerationSettings
from bonsai.recipes.inference.labels import UILanguage

CELL = 64
MARGIN = 34


@dataclass(frozen=True, kw_only=True)
class Label:
    """Where the number of a model stands, above its column and before its row."""

    across: int
    down: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A square."""

    x: int
    y: int
    value: float | None
    """mean cosine; None: a single sample has nothing to be like"""
    by_chance: float | None
    """of answers to different questions"""
    warmth: float
    """0 to 1"""
    own: bool
    """on the diagonal"""
    title: str


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A square of squares; lengths in the SVG's units."""

    size: int
    cell: int
    labels: Sequence[Label]
    cells: Sequence[Cell]
    """the diagonal last: its border lies on its neighbours"""


def layout_heatmap(pairs: Sequence[Pair], names: Mapping[str, str]) -> HeatMap | None:
    """The picture; None where there is nothing to compare.

    Args:
        names: what a reader calls each model, in the order of the rows.
    """
    if not pairs:
        return None
    known = {frozenset((pair.first, pair.second)): pair for pair in pairs}
    cold = min(figure for pair in pairs for figure in (pair.likeness.value, pair.by_chance) if figure is not None)
    cells = [
        _cell(row, column, known.get(frozenset((first, second))), cold, f"{names[first]} × {names[second]}")
        for row, first in enumerate(names)
        for column, second in enumerate(names)
    ]
    middles = [MARGIN + CELL * place + CELL // 2 for place in range(len(names))]
    return HeatMap(
        size=MARGIN + CELL * len(names) + 2,
        cell=CELL,
        labels=[Label(across=middle, down=middle + 5) for middle in middles],
        cells=sorted(cells, key=lambda cell: cell.own),
    )


def _cell(row: int, column: int, pair: Pair | None, cold: float, names: str) -> Cell:
    value = pair.likeness.value if pair else None
    return Cell(
        x=MARGIN + CELL * column,
        y=MARGIN + CELL * row,
        value=value,
        by_chance=pair.by_chance if pair else None,
        warmth=0.0 if value is None else (value - cold) / max(1 - cold, 1e-9),
        own=row == column,
        title=f"{names}: {value:.2f} ({pair.likeness.low:.2f} … {pair.likeness.high:.2f})" if pair else names,
    )


PAGE = "compare.html"
BLIND = "blind.html"


class AnswerFlag(NamedTuple):
    """What a reader should see at once about an answer."""

    english: str
    japanese: str
    bad: bool = True


@dataclass(frozen=True, kw_only=True)
class _Sample:
    answer: Answer
    remarks: Sequence[AnswerFlag]


@dataclass(frozen=True, kw_only=True)
class _Side:
    place: int
    name: str
    stability: float | None
    samples: Sequence[_Sample]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    listed: ComparisonQuestion
    sides: Sequence[_Side]


@dataclass(frozen=True, kw_only=True)
class _QuestionGroup:
    name: str
    questions: Sequence[_Asked]


def page(
    results: Results, *, changes: ComparisonDiff | None = None, ranked: Sequence[RankedModel] = (), votes: int = 0
) -> str:
    """The page with everything; every text of a model is escaped by jinja2.

    Args:
        votes: how many the ranking is made of.
    """
    comparison = results.comparison
    names = short_names([side.name for side in comparison.models])
    return _rendered(
        "page.html.j2",
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
        groups=_groups(results, names),
    )


def blind_page(questions: Sequence[BlindQuestion], folder: str) -> str:
    """The page without names.

    Args:
        folder: where the votes go, as the reader types it.
    """
    return _rendered("blind.html.j2", questions=questions, folder=folder)


def shown(number: float, measure: str, *, signed: bool = False) -> str:
    """A number as a reader expects it: cosines with two decimals, shares in percent, lengths whole."""
    sign = "+" if signed else ""
    if measure == "stability":
        return f"{number:{sign}.2f}"
    return f"{100 * number:{sign}.0f} %" if MEASURES[measure].top == 1.0 else f"{number:{sign}.0f}"


def answer_flags(listed: ComparisonQuestion, answer: Answer) -> Iterator[AnswerFlag]:
    """What there is to say of an answer."""
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


def _groups(results: Results, names: dict[str, str]) -> list[_QuestionGroup]:
    found: dict[str, list[_Asked]] = {}
    for listed in results.comparison.questions:
        sides = [_side(results, place, model, name, listed) for place, (model, name) in enumerate(names.items())]
        found.setdefault(listed.group, []).append(_Asked(listed=listed, sides=sides))
    return [_QuestionGroup(name=name, questions=questions) for name, questions in found.items()]


def _side(results: Results, place: int, model: str, name: str, listed: ComparisonQuestion) -> _Side:
    return _Side(
        place=place,
        name=name,
        stability=results.scores[model].get("stability", {}).get(listed.id),
        samples=[
            _Sample(answer=answer, remarks=list(answer_flags(listed, answer)))
            for answer in results.comparison.of(model, listed.id)
        ],
    )


def _rendered(template: str, **facts: Any) -> str:
    style = files("bonsai.recipes.evaluation").joinpath("page.css").read_text(encoding="utf-8") + load_asset(
        "compare.css"
    )
    return (
        environment()
        .get_template(template)
        .render(
            **facts,
            style=Markup(style),
            style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
    )


def environment() -> Environment:
    """Where the templates of this folder are found; what they are given is escaped."""
    found = Environment(
        loader=FunctionLoader(load_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "shown": shown,
        "cosine": lambda value: "–" if value is None else f"{value:.2f}",
        "percent": lambda share: f"{100 * share:.0f} %",
    }
    return found


def load_asset(name: str) -> str:
    """A file that lies beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


Answers = Mapping[tuple[int, str], Sequence[Answer]]
"""by the place of the question and the name of the model, a sample each"""


class Timing(NamedTuple):
    """What it took a model to answer all questions together, once."""

    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DemoComparison:
    """Models that were asked the same questions, to the end."""

    questions: Sequence[Question]
    names: Sequence[str]
    """of the models, as the visitor reads them"""
    answers: Answers
    took: Mapping[str, Sequence[Timing]]
    """by model, a sample each"""
    decoder_name: str
    decoder: GenerationSettings


Figures = Callable[[DemoComparison, UILanguage], str]
"""The figures as a piece of HTML in the language of the page."""


LIST = "demo"


def render_figures(compared: DemoComparison, tongue: UILanguage) -> str:
    """The table of measures and the picture of likeness; every name is escaped by jinja2."""
    found = results(_comparison(compared))
    return str(
        environment()
        .get_template("figures.html.j2")
        .render(
            tongue=tongue,
            style=Markup(load_asset("figures.css")),
            names=compared.names,
            several=len(compared.questions) > 1,
            measures=MEASURES,
            measured=found.measured,
            heat=layout_heatmap(found.matrix, {name: name for name in compared.names}),
        )
    )


def _comparison(compared: DemoComparison) -> Comparison:
    ids = [str(place + 1) for place in range(len(compared.questions))]
    return Comparison(
        lists=(LIST,),
        decoder_name=compared.decoder_name,
        decoder=compared.decoder,
        samples=max(map(len, compared.took.values())),
        versions={},
        models=tuple(
            ModelRun(
                name=name,
                rounds=tuple(
                    SampleRound(sample=sample, answers=len(ids), tokens=one.tokens, seconds=one.seconds)
                    for sample, one in enumerate(compared.took[name], 1)
                ),
            )
            for name in compared.names
        ),
        questions=tuple(
            ComparisonQuestion(id=id_, group=LIST, question=question)
            for id_, question in zip(ids, compared.questions, strict=True)
        ),
        answers=tuple(
            SampledAnswer(model=name, question=ids[place], sample=sample, answer=answer)
            for (place, name), answers in compared.answers.items()
            for sample, answer in enumerate(answers, 1)
        ),
    )
