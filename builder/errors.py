"""Define the errors that this project raises on purpose: one hierarchy below `BonsaiError`.

Each message is a sentence for the person at the keyboard that names the place, the cause and the remedy, as in

    records/open_qa.jsonl:7: open_qa-0007: 'ja.output' is empty; write it, or move the group to drafts

`bonsai.cli.main` prints the message without a traceback and exits with 1. Only the `hub` package, which knows nothing
of the rest, has a base class of its own.

Adding an error: derive it from `BonsaiError` and from the built-in error that a caller would expect (`ValueError` for
bad input, `RuntimeError` for a failure on the way, `OSError` for disks), name it after what failed, and say in its
docstring what was left untouched. Define it here if several modules raise it, otherwise in the module that raises it.
This module imports nothing when it runs, so that code without pydantic, such as the training engine, can import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class BonsaiError(Exception):
    """Base of the errors that this project raises on purpose; catch it to print a message instead of a traceback."""


class RecordError(BonsaiError, ValueError):
    """Faults in records or in a file to import, all at once.

    Args:
        faults: one line each: ``path:line: id: cause; remedy``.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class DiskFullError(BonsaiError, OSError):
    """The disk is full; the previous files are untouched."""


class FolderInUseError(BonsaiError, RuntimeError):
    """Another process writes into the folder; nothing was touched."""


class ReleaseError(BonsaiError):
    """A dataset or an adapter is not fit to be released; nothing was published."""


class AskingError(BonsaiError, ValueError):
    """The question is invalid, or no model can answer it."""


class EvaluationError(BonsaiError, ValueError):
    """There is nothing to evaluate or to compare with, or two results are not comparable."""


class EngineError(BonsaiError, RuntimeError):
    """The training engine does not support the model, or training produced non-finite numbers."""


class DemoError(BonsaiError, ValueError):
    """The demo cannot be served with these options."""


class UserInputError(BonsaiError, ValueError):
    """A visitor's input is invalid; the message is for the visitor and in the visitor's language."""


def describe_first_fault(error: ValidationError) -> str:
    """Return field and message of the first fault that pydantic found, such as ``'losses.0.step': Field required``."""
    fault = error.errors(include_url=False)[0]
    return f"'{'.'.join(map(str, fault['loc'])) or 'file'}': {fault['msg']}"
