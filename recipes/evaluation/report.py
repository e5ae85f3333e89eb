"""Render an evaluation as an HTML page and as model-card results.

The page is one file, and its content security policy allows no script and no request, so an answer cannot smuggle in
code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import EvalResult

from bonsai.builder.assets import html_environment, load_text, render_page
from bonsai.builder.errors import EvaluationError
from bonsai.model_card.facts import EvaluationFacts, ProbeRow, ScoreRow
from bonsai.recipes.evaluation.metrics import FORM_METRICS, METRICS, PRIMARY_METRIC
from bonsai.recipes.evaluation.results import ALL, FOLDER, NAME, Evaluation, ItemScore, read_evaluation
from bonsai.recipes.training.run_record import weights_sha256

PAGE = "evaluation.html"


def page(evaluation: Evaluation) -> str:
    """Render the whole page; jinja2 escapes every text of a model."""
    lines = headlines(evaluation)
    # a bar ends at the largest possible value, or at the largest one on the page
    tops = {line.metric: METRICS[line.metric].top for line in lines}
    for metric in [metric for metric, top in tops.items() if top is None]:
        estimates = [each for line in lines if line.metric == metric for each in (line.before, line.after) if each]
        tops[metric] = max(1.0, *(estimate.high for estimate in estimates))
    items = {origin: [one for one in evaluation.items if one.item.origin == origin] for origin in ("probe", "test")}
    return render_page(
        html_environment(__package__, shown=shown).get_template("page.html.j2"),
        style=load_text(__package__, "page.css"),
        evaluation=evaluation,
        settings=evaluation.settings,
        decoder=asdict(evaluation.settings.decoder),
        metrics=METRICS,
        tests=[line for line in lines if line.origin == "test"],
        probe_lines=[line for line in lines if line.origin == "probe"],
        form=form_lines(evaluation),
        corpus=evaluation.corpus_lines,
        tops=tops,
        headline=PRIMARY_METRIC,
        blocks=[
            ("Probes", "プローブ", items["probe"], True),
            ("Test split", "テスト分割", items["test"], False),
        ],
    )


def headlines(evaluation: Evaluation) -> list[ItemScore]:
    """Select the primary metric of each category and language, test rows first."""
    primary = {(one.item.origin, one.item.category, PRIMARY_METRIC[one.item.task]) for one in evaluation.items}
    found = [
        line for line in evaluation.lines if (line.origin, line.category, line.metric) in primary and line.spoken != ALL
    ]
    return sorted(found, key=lambda line: line.origin != "test")


def form_lines(evaluation: Evaluation) -> list[ItemScore]:
    """Select the form metrics over all answers: test rows, then probes."""
    return [
        line for line in evaluation.lines if line.metric in FORM_METRICS and line.category == ALL and line.spoken == ALL
    ]


def shown(number: float, metric: str, *, signed: bool = False) -> str:
    """Format a score as a reader expects it: shares in percent, scores and counts with one decimal."""
    share = METRICS[metric].top == 1.0
    return f"{100 * number if share else number:{'+' if signed else ''}.{0 if share else 1}f}{' %' if share else ''}"


def eval_results(evaluation: Evaluation) -> list[EvalResult]:
    """Build the Hub's results: the primary metrics after training, or of the bare model, by category and language."""
    settings = evaluation.settings
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=settings.dataset,
            dataset_name=f"{settings.dataset} {'probes' if line.origin == 'probe' else 'test'}",
            dataset_config="probes" if line.origin == "probe" else "default",
            dataset_split="test",
            dataset_revision=settings.dataset_revision,
            metric_type=METRICS[line.metric].hub_type or line.metric,
            metric_name=f"{METRICS[line.metric].english} ({line.category}, {line.spoken}, n={line.answers})",
            metric_value=round((line.after or line.before).value, 4),
        )
        for line in headlines(evaluation)
    ]


def card_evaluation(adapter: Path) -> EvaluationFacts | None:
    """Read the evaluation beside an adapter for its card; `None` if it was not evaluated.

    Raises:
        EvaluationError: another version of this project wrote it.
    """
    path = adapter / FOLDER / NAME
    return evaluation_facts(read_evaluation(path)) if path.is_file() else None


def publish_blockers(adapter: Path, name: str) -> Iterator[str]:
    """Yield why an adapter may not be published: it was never evaluated, or was trained again since.

    Raises:
        EvaluationError: another version of this project wrote the evaluation.
    """
    evaluation = card_evaluation(adapter)
    if evaluation is None:
        yield f"it was not evaluated; run `bonsai evaluate {name}`"
    elif evaluation.adapter_sha256 != weights_sha256(adapter):
        yield f"the evaluation is of other weights than these; run `bonsai evaluate {name}`"


def evaluation_facts(evaluation: Evaluation) -> EvaluationFacts:
    """Collect what the card shows; the results give the dataset's tag until the release knows its commit.

    Raises:
        EvaluationError: only the bare model was evaluated.
    """
    settings = evaluation.settings
    if settings.adapter_sha256 is None:
        raise EvaluationError(
            f"{evaluation.recipe}: only the bare model was evaluated; run `bonsai evaluate` without --base"
        )

    # 1. Put the generation settings into words.
    decoder = settings.decoder
    method = "greedy" if decoder.temperature == 0 else f"temperature {decoder.temperature}, top_p {decoder.top_p}"
    penalty = "" if decoder.repetition_penalty == 1 else f", repetition penalty {decoder.repetition_penalty}"
    sample = "" if settings.limit is None else f"; at most {settings.limit} questions of each category and language"

    # 2. Collect a row for each score, then one for each probe.
    return EvaluationFacts(
        adapter_sha256=settings.adapter_sha256,
        generation_settings=f"{method}{penalty}, at most {decoder.max_new_tokens} new tokens, {settings.dtype}{sample}",
        interval=settings.interval_level,
        scores=[
            ScoreRow(
                category=f"{line.category} ({line.origin})",
                language=line.spoken,
                metric=METRICS[line.metric].english,
                questions=line.answers,
                before=line.before.value,
                after=line.after.value,
                difference=(line.difference.low, line.difference.high) if line.difference else None,
            )
            for line in (*headlines(evaluation), *form_lines(evaluation))
            if line.after
        ],
        probes=[
            ProbeRow(
                question="\n".join(
                    filter(None, (*itertools.chain(*one.item.history), one.item.instruction, one.item.input))
                ),
                wanted=one.item.accepted[0] if one.item.accepted else "",
                before=one.before.answer,
                after=one.after.answer,
                right_before=one.before.scores["accepted"] == 1.0 if one.item.task == "accepted" else None,
                right_after=one.after.scores["accepted"] == 1.0 if one.item.task == "accepted" else None,
            )
            for one in evaluation.items
            if one.item.origin == "probe" and one.after
        ],
        results=eval_results(evaluation),
    )
