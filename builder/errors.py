"""Errors that this project raises on purpose: each text is a sentence with place, cause and remedy.

Adding an error: derive it from `BonsaiError` and from the built-in error a caller would expect (`ValueError` for what
somebody gave us, `RuntimeError` for what failed on the way), name it after what failed, and put what was got and what
to do into the message. `bonsai.cli.main` prints the message and exits with 1; it prints no traceback.
"""

from __future__ import annotations


class BonsaiError(Exception):
    """Base of every error this project raises on purpose; its text is a sentence for the person at the keyboard."""


class RecordError(BonsaiError, ValueError):
    """Faults in the records: one line each, ``path:line: id: what is wrong; what to do``."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class AskingError(BonsaiError, ValueError):
    """A question that is none, or that no model can be asked."""


class EvaluationError(BonsaiError, ValueError):
    """Nothing to evaluate, nothing to compare with, or two results that cannot be compared."""


class EngineError(BonsaiError, RuntimeError):
    """The engine cannot run this model as it stands, or found numbers that are no numbers."""


class DemoError(BonsaiError, ValueError):
    """The demo cannot be served as it was asked for."""


class UserInputError(BonsaiError, ValueError):
    """What a visitor typed cannot be done; the message is for the visitor, in the visitor's language."""
