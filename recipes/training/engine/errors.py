"""What the engine raises."""

from __future__ import annotations

from bonsai.builder.schema import BonsaiError


class EngineError(BonsaiError, RuntimeError):
    """The engine cannot run this model as it stands, or found numbers that are no numbers."""
