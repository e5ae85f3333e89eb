"""Two comparisons of the same models: what got better, what got worse, whose answers are no longer what they were."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bonsai.recipes.evaluation.against import WORST_FIRST, Verdict, judged
from bonsai.recipes.evaluation.comparing.agreement import Likeness
from bonsai.recipes.evaluation.comparing.measures import MEASURES, scores
from bonsai.recipes.evaluation.comparing.questions import Listed
from bonsai.recipes.evaluation.comparing.record import Comparison
from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.evaluation.intervals import Difference, Estimate, mean_interval, paired_difference


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure of one model, then and now, over the questions that were asked both times."""

    model: str
    measure: str
    questions: int
    then: float
    now: float
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        """Whether it got better or worse, beyond chance."""
        return judged(self.difference, MEASURES[self.measure])


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How alike a model answers then and now, sample by sample: with the same seed the same model says the same."""

    model: str
    likeness: Estimate
    question: str
    """the id of the one whose answers changed most"""
    least: float
    """likeness of the answers to it"""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is different from an earlier comparison."""

    earlier: str
    """where it lies"""
    changes: tuple[Change, ...]
    """the worst first"""
    drifts: tuple[Drift, ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        """Regressions beyond chance."""
        return tuple(change for change in self.changes if change.verdict == "worse")


def changes(earlier: Comparison, now: Comparison, *, place: str) -> Changes:
    """Each measure that has a better and a worse, of each model that was compared both times.

    Args:
        place: where the earlier one lies, for the reader.

    Raises:
        EvaluationError: the two were decoded differently, or share no model or no question.
    """
    theirs, ours = asdict(earlier.decoder), asdict(now.decoder)
    if different := [key for key in ours if ours[key] != theirs[key]]:
        told = ", ".join(f"{key} {theirs[key]} and {ours[key]}" for key in different)
        raise EvaluationError(f"{place} was decoded differently ({told}); compare again in the same way")
    models = [side.name for side in now.models if any(earlier.answered(side.name)) and any(now.answered(side.name))]
    asked = {one.question for one in earlier.questions}
    shared = [one for one in now.questions if one.question in asked]
    if not models or not shared:
        what = "model" if not models else "question"
        raise EvaluationError(f"{place} has no {what} in common with this comparison; name one that was made like it")
    likeness = Likeness(earlier, now)
    found: list[Change] = []
    drifts: list[Drift] = []
    for model in models:
        found += _changes(earlier, now, model, shared, likeness)
        drifts += _drift(earlier, now, model, shared, likeness)
    worst_first = sorted(found, key=lambda change: WORST_FIRST[change.verdict])
    return Changes(earlier=place, changes=tuple(worst_first), drifts=tuple(drifts))


def _changes(
    earlier: Comparison, now: Comparison, model: str, shared: list[Listed], likeness: Likeness
) -> list[Change]:
    ids = _earlier_ids(earlier)
    theirs, ours = scores(earlier, model, likeness), scores(now, model, likeness)
    found = []
    for name, metric in MEASURES.items():
        then, after = theirs.get(name, {}), ours.get(name, {})
        pairs = [(then[old], after[one.id]) for one in shared if (old := ids[one.question]) in then and one.id in after]
        if metric.better == "neither" or not pairs:
            continue
        before, current = [old for old, _ in pairs], [new for _, new in pairs]
        found.append(
            Change(
                model=model,
                measure=name,
                questions=len(pairs),
                then=sum(before) / len(before),
                now=sum(current) / len(current),
                difference=paired_difference(before, current),
            )
        )
    return found


def _drift(earlier: Comparison, now: Comparison, model: str, shared: list[Listed], likeness: Likeness) -> list[Drift]:
    ids = _earlier_ids(earlier)
    found = {
        one.id: cosine
        for one in shared
        if (cosine := likeness.one_by_one(earlier.of(model, ids[one.question]), now.of(model, one.id))) is not None
    }
    if not found:
        return []
    most = min(found, key=lambda name: found[name])
    return [Drift(model=model, likeness=mean_interval(list(found.values())), question=most, least=found[most])]


def _earlier_ids(earlier: Comparison) -> dict[object, str]:
    return {one.question: one.id for one in earlier.questions}
