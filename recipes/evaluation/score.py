"""All scores of one answer."""

from __future__ import annotations

from bonsai.recipes.evaluation.form import foreign_share, is_garbled, loops, repeated_ngrams, right_language
from bonsai.recipes.evaluation.items import Item
from bonsai.recipes.evaluation.single_answer import accepted, exact_match, f1
from bonsai.recipes.evaluation.tasks import deepens, distinct_ideas, is_tautology, keeps_constraints, label_match
from bonsai.recipes.evaluation.translation import chrf
from bonsai.recipes.inference.answer_parts import parts
from bonsai.recipes.inference.generation.engine import Generation

Scores = dict[str, float]
"""by the names in `bonsai.recipes.evaluation.metrics`; a score that does not apply is absent"""


def scores(item: Item, generation: Generation) -> Scores:
    """The scores of the task, then those of the form."""
    answer = parts(generation.text).answer
    found = {**_task_scores(item, answer), **_form_scores(item, generation)}
    return {name: score for name, score in found.items() if score is not None}


def _task_scores(item: Item, answer: str) -> dict[str, float | None]:
    match item.task:
        case "single_answer":
            return {"f1": f1(answer, item.reference), "exact_match": exact_match(answer, item.reference)}
        case "accepted":
            return {"accepted": accepted(answer, item.accepted)}
        case "classification":
            return {
                "label": label_match(answer, item.reference, item.instruction),
                "exact_match": exact_match(answer, item.reference),
                "f1": f1(answer, item.reference),
            }
        case "translation":
            return {"chrf": chrf(answer, item.reference)}
        case "creative":
            return {"constraints": keeps_constraints(answer, item.instruction, item.language)}
        case "brainstorming":
            return {"ideas": float(distinct_ideas(answer))}
        case "deepening":
            return {"deepens": deepens(answer, item.input), "tautology": is_tautology(answer, item.input)}
        case "free":
            return {}


def _form_scores(item: Item, generation: Generation) -> dict[str, float | None]:
    reasoning, answer = parts(generation.text)
    known = item.instruction + item.input + item.reference
    return {
        "reasoning": float(bool(reasoning and answer)),
        "language": right_language(answer, item.language, item.reference),
        "foreign": foreign_share(answer, item.language, known),
        "mojibake": is_garbled(generation.text),
        "repetition": repeated_ngrams(generation.text),
        "loop": loops(answer, refrain=item.task == "creative"),
        "eos": float(generation.stopped_by_eos),
        "length": float(len(answer)),
    }
