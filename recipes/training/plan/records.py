"""The records a recipe selects, in tokens of its base model as nearly as they can be counted without a download."""

from __future__ import annotations

from bonsai.builder.tokens import Vocabulary, token_counts
from bonsai.recipes.training.data import TrainingRows
from bonsai.recipes.training.plan.packing import Length

END_MARK = 1


def lengths(rows: TrainingRows, vocabulary: Vocabulary) -> list[Length]:
    """The lengths of the training records, in their order."""
    prompts, completions = list(rows.train["prompt"]), list(rows.train["completion"])
    before = token_counts(prompts, vocabulary)
    # together: the last token of a prompt and the first of its completion may be one
    whole = token_counts([prompt + rest for prompt, rest in zip(prompts, completions, strict=True)], vocabulary)
    return [Length(first, both - first + END_MARK) for first, both in zip(before, whole, strict=True)]
