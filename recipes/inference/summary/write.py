"""A summary on disk: one Markdown file a chain, one JSON file and one page for all; each file whole or not there."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bonsai.recipes.inference.conversation import Chain
from bonsai.recipes.inference.summary.content import Summary, summarise
from bonsai.recipes.inference.summary.markdown import markdown
from bonsai.recipes.inference.summary.page import page

PAGE, JSON = "summary.html", "summary.json"


class Written(NamedTuple):
    """Where the summary lies."""

    page: Path
    json: Path
    markdown: tuple[Path, ...]
    """in the order of the chains"""


def write(chains: Sequence[Chain], folder: Path, summaries: Mapping[str, Summary] | None = None) -> Written:
    """Write the summary of these chains into ``folder``, which is made if need be; earlier files are replaced.

    A reader never meets half a file, so this may be called after each step.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = {chain.id: (summaries or {}).get(chain.id) or summarise(chain) for chain in chains}
    texts = []
    for name, chain in zip(_names(chains), chains, strict=True):
        texts.append(folder / f"{name}.md")
        _replace(texts[-1], markdown(chain, told[chain.id]))
    _replace(folder / JSON, as_json(chains, told))
    _replace(folder / PAGE, page(chains, told))
    return Written(page=folder / PAGE, json=folder / JSON, markdown=tuple(texts))


def as_json(chains: Sequence[Chain], summaries: Mapping[str, Summary] | None = None) -> str:
    """``{"chains": [{"summary": …, "chain": …}]}``, the records as they are."""
    entries = [
        {
            "summary": ((summaries or {}).get(chain.id) or summarise(chain)).model_dump(mode="json"),
            "chain": chain.model_dump(mode="json"),
        }
        for chain in chains
    ]
    return json.dumps({"chains": entries}, ensure_ascii=False, indent=1) + "\n"


def _names(chains: Sequence[Chain]) -> list[str]:
    """A file name a chain, whatever its id: letters, digits and hyphens, and a number where two would be one."""
    names: list[str] = []
    for place, chain in enumerate(chains, 1):
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", chain.id).strip("-")[:60] or f"chain-{place}"
        taken = plain.lower() in {name.lower() for name in names} | {"summary"}
        names.append(f"{plain}-{place}" if taken else plain)
    return names


def _replace(path: Path, text: str) -> None:
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))  # a model may leave half a surrogate pair
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
