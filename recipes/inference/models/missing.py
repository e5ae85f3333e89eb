"""A model that is not there: what it may have been meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from bonsai.hub.client.session import httpx
from bonsai.recipes.inference.generation.engine import GenerationError
from bonsai.recipes.inference.models.offline import reachable
from bonsai.recipes.training.registry import recipe_names

OFFERED = 3
LISTED = 10
NEAR = 0.65
"""least likeness by `difflib`, 0 to 1"""
SEARCHED = 100
"""repos looked at, of the owner and of the Hub's search by turns"""


def missing(name: str, among: Path | Iterable[str], said: str) -> GenerationError:
    """The error, with the nearest names offered.

    Args:
        among: the names there are, or ``out``: then recipes, what lies in ``out/adapters``, and the Hub's models.
        said: what is the matter, in words.
    """
    names = known(name, among) if isinstance(among, Path) else list(among)
    return GenerationError(f"{said}; {_offer(name, names)}")


def known(name: str, out: Path) -> list[str]:
    """Recipes, adapters grown here, and models on the Hub that may have been meant."""
    grown = [config.parent.name for config in sorted((out / "adapters").glob("*/adapter_config.json"))]
    return [*dict.fromkeys([*recipe_names(), *grown, *_on_the_hub(name)])]


def _on_the_hub(name: str) -> list[str]:
    if not reachable():
        return []
    owner, _, own = name.partition("@")[0].rpartition("/")
    api = HfApi()
    try:
        of_owner = [one.id for one in api.list_models(author=owner, limit=SEARCHED)] if owner else []
        return of_owner + [one.id for one in api.list_models(search=own, limit=SEARCHED)]
    except (HfHubHTTPError, httpx.HTTPError):
        return []  # a Hub that cannot be searched only means fewer offers


def _offer(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=OFFERED, cutoff=NEAR)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"there are {', '.join(names[:LISTED])}{more}" if names else "there is nothing like it"
