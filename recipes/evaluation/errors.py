"""What can go wrong with an evaluation, told to the person at the keyboard."""

from __future__ import annotations

from bonsai.builder.schema import BonsaiError


class EvaluationError(BonsaiError, ValueError):
    """Nothing to evaluate, nothing to compare with, or two results that cannot be compared."""
