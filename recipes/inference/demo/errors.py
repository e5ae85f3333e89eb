"""What goes wrong around the demo."""

from __future__ import annotations

from bonsai.builder.schema import BonsaiError


class DemoError(BonsaiError, ValueError):
    """The demo cannot be served as it was asked for."""


class VisitorError(BonsaiError, ValueError):
    """What a visitor typed cannot be done; the message is for the visitor, in the visitor's language."""
