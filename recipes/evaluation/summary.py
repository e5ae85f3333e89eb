"""From scored answers to lines with intervals: by category and language, by category, by language, and over all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bonsai.recipes.evaluation.intervals import Estimate, mean_interval, paired_difference
from bonsai.recipes.evaluation.metrics import METRICS
from bonsai.recipes.evaluation.record import AnsweredItem, CorpusLine, Line
from bonsai.recipes.evaluation.translation import CorpusScore, corpus_scores, paired_p_values

ALL = "all"


def lines(items: Sequence[AnsweredItem]) -> Iterator[Line]:
    """Every score that at least one question of a group has."""
    for (origin, category, spoken), group in _groups(items).items():
        for metric in METRICS:
            pairs = [_pair(one, metric) for one in group]
            known = [pair for pair in pairs if pair is not None]
            if not known:
                continue
            befores = [before for before, _ in known]
            afters = [after for _, after in known if after is not None]
            yield Line(
                origin=origin,
                category=category,
                spoken=spoken,
                metric=metric,
                answers=len(known),
                before=mean_interval(befores),
                after=mean_interval(afters) if afters else None,
                difference=paired_difference(befores, afters) if afters else None,
            )


def corpus_lines(items: Sequence[AnsweredItem]) -> Iterator[CorpusLine]:
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
            yield CorpusLine(
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


def _estimate(score: CorpusScore) -> Estimate:
    return Estimate(score.value, score.low, score.high)
