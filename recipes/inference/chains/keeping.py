"""Chains on disk, one JSON file each, whole after every step: what was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from bonsai.builder.schema import BonsaiError
from bonsai.recipes.inference.chains.deepening import Deepening, opened
from bonsai.recipes.inference.conversation import Chain, Question


class KeepingError(BonsaiError, ValueError):
    """A kept chain that cannot be read."""


class Keeping:
    """A folder of chains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, chain: Chain) -> Path:
        """Where a chain is kept."""
        return self.folder / f"{chain.id}.json"

    def write(self, chain: Chain) -> None:
        """Keep a chain; whoever reads the file meets the chain as it was before, or as it is now.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self.folder, prefix=f".{chain.id}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(chain.model_dump_json(indent=1) + "\n")
            os.chmod(draft, 0o644)
            os.replace(draft, self.path(chain))
        except BaseException:
            os.unlink(draft)
            raise

    def taken_up(self, chain: Chain) -> Chain:
        """The chain as it is kept, to be led at least as deep as before; if it isn't kept, itself.

        Raises:
            KeepingError: its file is damaged.
        """
        path = self.path(chain)
        if not path.exists():
            return chain
        try:
            kept = Chain.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise KeepingError(
                f"{path}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}; move it away to begin anew. "
                "壊れています。別の場所へ移してください。"
            ) from error
        return kept.model_copy(update={"depth": max(kept.depth, chain.depth)})


def begun(question: Question, *, model: str, depth: int, settings: Deepening) -> Chain:
    """A new chain, named after all that decides its course: the same call finds what it left behind.

    The depth is no part of the name, so a finished chain can be led deeper.
    """
    told = {"question": question.model_dump(mode="json"), "model": model, "settings": asdict(settings)}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
    return opened(question, id=f"chain-{digest.hexdigest()[:12]}", depth=depth)
