"""An evaluation as the adapter's card has it: the table, the probes, and the Hub's model-index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import EvalResult

from bonsai.model_card.facts import EvaluationFacts, ProbeRow, ScoreRow
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.evaluation.metrics import METRICS
from bonsai.recipes.evaluation.page import form_lines, headlines
from bonsai.recipes.evaluation.record import FOLDER, NAME, Answer, AnsweredItem, Evaluation, Line, read_evaluation
from bonsai.recipes.training.release import WEIGHTS


def eval_results(evaluation: Evaluation, *, dataset_commit: str | None = None) -> list[EvalResult]:
    """The headline scores after training (of the bare model where there is no after), by category and language.

    Args:
        dataset_commit: of the published dataset; by default its tag is named.
    """
    settings = evaluation.settings
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=settings.dataset,
            dataset_name=f"{settings.dataset} {'probes' if line.origin == 'probe' else 'test'}",
            dataset_config="probes" if line.origin == "probe" else "default",
            dataset_split="test",
            dataset_revision=dataset_commit or settings.dataset_revision,
            metric_type=METRICS[line.metric].hub_type or line.metric,
            metric_name=f"{METRICS[line.metric].english} ({line.category}, {line.spoken}, n={line.answers})",
            metric_value=round(_last(line), 4),
        )
        for line in headlines(evaluation)
    ]


def evaluation_of(adapter: Path) -> EvaluationFacts | None:
    """The evaluation beside an adapter; None: it was not evaluated.

    Raises:
        EvaluationError: another version of this project wrote it.
    """
    path = adapter / FOLDER / NAME
    return evaluation_facts(read_evaluation(path)) if path.is_file() else None


def against_evaluation(adapter: Path, name: str) -> Iterator[str]:
    """Why an adapter may not be published: nobody asked it anything, or it was trained again since.

    Raises:
        EvaluationError: another version of this project wrote the evaluation.
    """
    evaluation = evaluation_of(adapter)
    if evaluation is None:
        yield f"it was not evaluated; run `bonsai evaluate {name}`"
    elif evaluation.adapter_sha256 != hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest():
        yield f"the evaluation is of other weights than lie here; run `bonsai evaluate {name}`"


def evaluation_facts(evaluation: Evaluation) -> EvaluationFacts:
    """What the card shows; the results name the dataset's tag until the release knows its commit.

    Raises:
        EvaluationError: only the bare model was evaluated.
    """
    settings = evaluation.settings
    if settings.adapter_sha256 is None:
        raise EvaluationError(
            f"{evaluation.recipe}: only the bare model was evaluated; run `bonsai evaluate` without --base"
        )
    decoder = settings.decoder
    how = "greedy" if decoder.temperature == 0 else f"temperature {decoder.temperature}, top_p {decoder.top_p}"
    penalty = "" if decoder.repetition_penalty == 1 else f", repetition penalty {decoder.repetition_penalty}"
    sample = "" if settings.limit is None else f"; at most {settings.limit} questions of each category and language"
    return EvaluationFacts(
        adapter_sha256=settings.adapter_sha256,
        decoder=f"{how}{penalty}, at most {decoder.max_new_tokens} new tokens, {settings.dtype}{sample}",
        interval=settings.interval_level,
        scores=[_score_row(line) for line in (*headlines(evaluation), *form_lines(evaluation)) if line.after],
        probes=[
            ProbeRow(
                question="\n".join(filter(None, (one.item.instruction, one.item.input))),
                wanted=one.item.accepted[0] if one.item.accepted else "",
                before=one.before.answer,
                after=one.after.answer,
                right_before=_right(one, one.before),
                right_after=_right(one, one.after),
            )
            for one in evaluation.items
            if one.item.origin == "probe" and one.after
        ],
        results=eval_results(evaluation),
    )


def _score_row(line: Line) -> ScoreRow:
    return ScoreRow(
        category=f"{line.category} ({line.origin})",
        language=line.spoken,
        metric=METRICS[line.metric].english,
        questions=line.answers,
        before=line.before.value,
        after=_last(line),
        difference=(line.difference.low, line.difference.high) if line.difference else None,
    )


def _right(one: AnsweredItem, answer: Answer) -> bool | None:
    return answer.scores["accepted"] == 1.0 if one.item.task == "accepted" else None


def _last(line: Line) -> float:
    return (line.after or line.before).value
