"""What goes wrong before a model is asked."""

from __future__ import annotations

from bonsai.builder.schema import BonsaiError


class AskingError(BonsaiError, ValueError):
    """A question that is none, or that no model can be asked."""
