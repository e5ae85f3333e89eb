"""Two evaluations compared: what got better, what got worse, beyond what chance explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bonsai.recipes.evaluation.errors import EvaluationError
from bonsai.recipes.evaluation.intervals import Difference, paired_difference
from bonsai.recipes.evaluation.metrics import FORM, HEADLINE, METRICS, Metric
from bonsai.recipes.evaluation.record import FOLDER, NAME, Answer, AnsweredItem, Evaluation, read_evaluation
from bonsai.recipes.evaluation.summary import ALL

CHANCE = 0.05
Verdict = Literal["better", "worse", "unchanged"]
WORST_FIRST: dict[Verdict, int] = {"worse": 0, "better": 1, "unchanged": 2}


def judged(difference: Difference, metric: Metric) -> Verdict:
    """Beyond chance: the interval leaves out zero, and the paired test agrees, which few questions never let it."""
    if difference.p >= CHANCE or difference.low <= 0 <= difference.high:
        return "unchanged"
    return "better" if (difference.low > 0) == (metric.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One score of one group of questions in two evaluations."""

    origin: str
    category: str
    spoken: str
    metric: str
    questions: int
    then: float
    now: float
    difference: Difference

    @property
    def verdict(self) -> Verdict:
        """Whether it got better or worse, beyond chance."""
        return judged(self.difference, METRICS[self.metric])


def compare(earlier: Evaluation, now: Evaluation) -> list[Change]:
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
        places = [(item.origin, item.category, item.spoken, HEADLINE[item.task])]
        places += [(item.origin, ALL, ALL, metric) for metric in FORM if METRICS[metric].better != "neither"]
        for place in dict.fromkeys(places):
            scores = _last(old).scores.get(place[-1]), _last(new).scores.get(place[-1])
            if scores[0] is not None and scores[1] is not None:
                groups.setdefault(place, []).append((scores[0], scores[1]))
    found = [_change(place, scores) for place, scores in groups.items()]
    return sorted(found, key=lambda change: WORST_FIRST[change.verdict])


def find_evaluation(place: str, repo_id: str) -> Evaluation:
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


def _last(one: AnsweredItem) -> Answer:
    return one.after or one.before


def _change(place: tuple[str, str, str, str], scores: Sequence[tuple[float, float]]) -> Change:
    origin, category, spoken, metric = place
    then, now = [old for old, _ in scores], [new for _, new in scores]
    return Change(
        origin=origin,
        category=category,
        spoken=spoken,
        metric=metric,
        questions=len(scores),
        then=sum(then) / len(then),
        now=sum(now) / len(now),
        difference=paired_difference(then, now),
    )
