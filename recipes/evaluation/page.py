"""The evaluation as one HTML page: what changed, by category and language, and the probes' answers side by side.

The page is one file and its content security policy lets nothing in, so an answer cannot bring code along.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bonsai.recipes.evaluation.metrics import FORM, HEADLINE, METRICS
from bonsai.recipes.evaluation.record import Evaluation, Line
from bonsai.recipes.evaluation.summary import ALL

PAGE = "evaluation.html"


def page(evaluation: Evaluation) -> str:
    """The whole page; every text of a model is escaped by jinja2."""
    style = _asset("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = shown
    lines = headlines(evaluation)
    probes = [one for one in evaluation.items if one.item.origin == "probe"]
    return environment.from_string(_asset("page.html.j2")).render(
        evaluation=evaluation,
        settings=evaluation.settings,
        decoder=asdict(evaluation.settings.decoder),
        metrics=METRICS,
        tests=[line for line in lines if line.origin == "test"],
        probe_lines=[line for line in lines if line.origin == "probe"],
        form=form_lines(evaluation),
        corpus=evaluation.corpus_lines,
        tops={line.metric: _top(line.metric, lines) for line in lines},
        headline=HEADLINE,
        blocks=[
            ("Probes", "プローブ", probes, True),
            ("Test split", "テスト分割", [one for one in evaluation.items if one.item.origin == "test"], False),
        ],
        style=Markup(style),
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


def headlines(evaluation: Evaluation) -> list[Line]:
    """The headline score of each category and language that was asked, test rows first."""
    wanted = {(one.item.origin, one.item.category, HEADLINE[one.item.task]) for one in evaluation.items}
    found = [
        line for line in evaluation.lines if (line.origin, line.category, line.metric) in wanted and line.spoken != ALL
    ]
    return sorted(found, key=lambda line: line.origin != "test")


def form_lines(evaluation: Evaluation) -> list[Line]:
    """The form of all answers: test rows, then probes."""
    return [line for line in evaluation.lines if line.metric in FORM and line.category == ALL and line.spoken == ALL]


def shown(number: float, metric: str, *, signed: bool = False) -> str:
    """A number as a reader expects it: shares in percent, scores and counts with one decimal."""
    share = METRICS[metric].top == 1.0
    return f"{100 * number if share else number:{'+' if signed else ''}.{0 if share else 1}f}{' %' if share else ''}"


def _top(metric: str, lines: Sequence[Line]) -> float:
    """Where a bar ends: the largest value there can be, or the largest there is."""
    top = METRICS[metric].top
    if top is not None:
        return top
    estimates = [each for line in lines if line.metric == metric for each in (line.before, line.after) if each]
    return max(1.0, *(estimate.high for estimate in estimates))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
