"""A comparison as one HTML page, and the page for a person who is to judge without knowing who said what.

A page is one file without a script, and its content security policy lets nothing in: an answer cannot bring code along.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bonsai.recipes.evaluation.comparing.changes import Changes
from bonsai.recipes.evaluation.comparing.heat import heat_map
from bonsai.recipes.evaluation.comparing.identity import short_names
from bonsai.recipes.evaluation.comparing.measures import MEASURES, answer_scores
from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.comparing.ranking import Ranked
from bonsai.recipes.evaluation.comparing.results import Results
from bonsai.recipes.evaluation.comparing.votes import Hidden
from bonsai.recipes.inference.conversation import Answer

PAGE = "compare.html"
BLIND = "blind.html"


class Remark(NamedTuple):
    """What a reader should see at once about an answer."""

    english: str
    japanese: str
    bad: bool = True


@dataclass(frozen=True, kw_only=True)
class _Sample:
    answer: Answer
    remarks: Sequence[Remark]


@dataclass(frozen=True, kw_only=True)
class _Side:
    place: int
    name: str
    stability: float | None
    samples: Sequence[_Sample]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    listed: Listed
    sides: Sequence[_Side]


@dataclass(frozen=True, kw_only=True)
class _Group:
    name: str
    questions: Sequence[_Asked]


def page(results: Results, *, changes: Changes | None = None, ranked: Sequence[Ranked] = (), votes: int = 0) -> str:
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
        heat=heat_map(results.matrix, names),
        changes=changes,
        ranked=ranked,
        votes=votes,
        groups=_groups(results, names),
    )


def blind_page(questions: Sequence[Hidden], folder: str) -> str:
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


def remarks(listed: Listed, answer: Answer) -> Iterator[Remark]:
    """What there is to say of an answer."""
    scores = answer_scores(listed, answer)
    if scores.get("language") == 0:
        yield Remark("not in its language", "言語が違う")
    if scores["foreign"]:
        yield Remark(f"foreign letters {scores['foreign']:.0%}", f"他言語の文字 {scores['foreign']:.0%}")
    if scores["mojibake"]:
        yield Remark("mojibake", "文字化け")
    if scores["loop"] or answer.loops:
        yield Remark("repeats itself", "繰り返し")
    if answer.stopped_by == "length":
        yield Remark("cut off", "途中で打ち切り")
    if answer.passes == 2:
        yield Remark("Reasoning in a second pass", "Reasoningは2回目", bad=False)
    if answer.retried_because:
        yield Remark("retried", "やり直し", bad=False)


def _groups(results: Results, names: dict[str, str]) -> list[_Group]:
    found: dict[str, list[_Asked]] = {}
    for listed in results.comparison.questions:
        sides = [_side(results, place, model, name, listed) for place, (model, name) in enumerate(names.items())]
        found.setdefault(listed.group, []).append(_Asked(listed=listed, sides=sides))
    return [_Group(name=name, questions=questions) for name, questions in found.items()]


def _side(results: Results, place: int, model: str, name: str, listed: Listed) -> _Side:
    return _Side(
        place=place,
        name=name,
        stability=results.scores[model].get("stability", {}).get(listed.id),
        samples=[
            _Sample(answer=answer, remarks=list(remarks(listed, answer)))
            for answer in results.comparison.of(model, listed.id)
        ],
    )


def _rendered(template: str, **facts: Any) -> str:
    style = files("bonsai.recipes.evaluation").joinpath("page.css").read_text(encoding="utf-8") + asset("compare.css")
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
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {
        "shown": shown,
        "cosine": lambda value: "–" if value is None else f"{value:.2f}",
        "percent": lambda share: f"{100 * share:.0f} %",
    }
    return found


def asset(name: str) -> str:
    """A file that lies beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
