"""All that is worked out from a comparison, and the files it is handed over in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bonsai.recipes.evaluation.comparing.agreement import Likeness
from bonsai.recipes.evaluation.comparing.changes import Changes
from bonsai.recipes.evaluation.comparing.measures import (
    Measured,
    Pair,
    Row,
    answer_scores,
    matrix,
    measured,
    scores,
)
from bonsai.recipes.evaluation.comparing.ranking import Ranked
from bonsai.recipes.evaluation.comparing.record import Comparison
from bonsai.recipes.evaluation.intervals import Difference, Estimate
from bonsai.recipes.evaluation.record import write_whole

MEASURED = "measures.json"
CSV = "answers.csv"
_COLUMNS = (
    *("question", "group", "language", "instruction", "input", "model", "sample", "reasoning", "answer"),
    *("tokens", "seconds", "stopped_by", "passes", "second_pass_because", "retried_because"),
)
_SCORES = ("accepted", "reasoning", "language", "foreign", "mojibake", "repetition", "loop", "length")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class Results:
    """A comparison with its figures."""

    comparison: Comparison
    scores: dict[str, Row]
    """by model"""
    measured: Sequence[Measured]
    matrix: Sequence[Pair]


def results(comparison: Comparison) -> Results:
    """Work it all out."""
    likeness = Likeness(comparison)
    rows = {side.name: scores(comparison, side.name, likeness) for side in comparison.models}
    return Results(
        comparison=comparison,
        scores=rows,
        measured=[measured(comparison, side, rows[side.name]) for side in comparison.models],
        matrix=matrix(comparison, likeness),
    )


def write_results(
    found: Results, folder: Path, *, changes: Changes | None = None, ranked: Sequence[Ranked] = ()
) -> None:
    """Write the answers as CSV and the figures as JSON, each whole or not at all."""
    told = {
        "measures": [_named(one) for one in found.measured],
        "likeness": [_named(pair) for pair in found.matrix],
        "by_question": found.scores,
        "changes": None
        if changes is None
        else {
            "earlier": changes.earlier,
            "measures": [{**_named(one), "verdict": one.verdict} for one in changes.changes],
            "answers": [_named(one) for one in changes.drifts],
        },
        "ranking": [_named(one) for one in ranked],
    }
    write_whole(folder / MEASURED, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    # a byte order mark, without which spreadsheets take Japanese for something else
    write_whole(folder / CSV, "\ufeff" + answers_csv(found.comparison))


def answers_csv(comparison: Comparison) -> str:
    """A line an answer."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*_COLUMNS, *(f"score_{name}" for name in _SCORES)])
    listed = {one.id: one for one in comparison.questions}
    for one in comparison.answers:
        asked, answer = listed[one.question], one.answer
        question = asked.question
        cells = (
            *(asked.id, asked.group, answer.language, question.instruction, question.input, one.model, one.sample),
            *(answer.reasoning, answer.answer, answer.tokens, f"{answer.seconds:.3f}", answer.stopped_by),
            *(answer.passes, *(why and why.en for why in (answer.second_pass_because, answer.retried_because))),
        )
        figures = answer_scores(asked, answer)
        lines.writerow([*map(_cell, cells), *(figures.get(name, "") for name in _SCORES)])
    return file.getvalue()


def _cell(value: object) -> object:
    """What a spreadsheet shows and does not run (owasp.org/www-community/attacks/CSV_Injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _named(one: object) -> dict[str, object]:
    """A dataclass whose estimates tell their parts by name."""
    return {name: _plain(value) for name, value in vars(one).items()}


def _plain(value: object) -> object:
    if isinstance(value, Estimate | Difference):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value
