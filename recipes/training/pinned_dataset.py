"""Find the dataset in the version that a recipe pins: the build on this machine if it is that one, else the Hub's.

A published adapter can so be trained again, to the same bytes, when the dataset has moved on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from bonsai.hub import target
from bonsai.hub.http_client import httpx
from bonsai.hub.retry import describe_error
from bonsai.recipes.training.recipe import Recipe, RecipeError

_FILES = ("*.parquet", "report.json")
"""what training, evaluation and the diagnosis of a run read"""
_SECONDS = 10.0
"""in which a Hub has to answer"""


class PinnedDataset(NamedTuple):
    """A folder with the Parquet files of the pinned version, and the repo it is a release of."""

    folder: Path
    repo_id: str


def find_dataset(recipe: Recipe, build: Path) -> PinnedDataset:
    """Return the dataset in the version that ``recipe`` pins, fetched into the Hub's cache if it isn't built here.

    Args:
        build: the folder of the build, `out/dataset`.

    Raises:
        RecipeError: another version or none is built here, and no Hub in reach has the pinned one.
    """
    # 1. The build of this machine.
    pinned, built = recipe.dataset_revision, built_version(build)
    own = target.with_namespace(recipe.dataset)
    if built == pinned:
        return PinnedDataset(build, own)

    # 2. A Hub's release: of one's own namespace, which may have a dataset of its own, else of the recipe's.
    reasons = []
    for endpoint in _endpoints(build.parent / "hub"):
        for repo_id in dict.fromkeys((own, recipe.dataset)):
            try:
                folder = Path(
                    snapshot_download(
                        repo_id,
                        repo_type="dataset",
                        revision=pinned,
                        allow_patterns=list(_FILES),
                        endpoint=endpoint,
                        # the token is that of one Hub, and another would refuse it
                        token=None if endpoint == constants.ENDPOINT else False,
                        etag_timeout=_SECONDS,
                    )
                )
            except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
                reasons.append(f"{endpoint} ({describe_error(error)})")
                continue
            if all(list((folder / "default").glob(f"{split}-*.parquet")) for split in ("train", "validation")):
                return PinnedDataset(folder, repo_id)
            reasons.append(f"{endpoint} (incomplete in the cache)")

    here = f"{build}: no dataset is built here; run `nox -s build` first" if built is None else f"{build} is {built}"
    raise RecipeError(
        f"{recipe.repo_id} is pinned to dataset {pinned}, but {here}, and {own} {pinned} can't be fetched from "
        f"{' or '.join(dict.fromkeys(reasons))}; check out the records of that version and build them, or raise "
        "dataset_revision in the recipe"
    )


def built_version(build: Path) -> str | None:
    """Return the version of the dataset in ``build`` as a tag, such as ``v0.1.0``; None: there is no build."""
    try:
        return f"v{json.loads((build / 'croissant.json').read_text(encoding='utf-8'))['version']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _endpoints(root: Path) -> Iterator[str]:
    """Yield the addresses of the Hubs that may have a release, while it is asked.

    Args:
        root: where the Hub of this machine keeps its repositories.
    """
    current = constants.ENDPOINT
    yield current
    if (outer := target.outer_endpoint()) != current:
        yield outer
    # Somebody without a token has published to the Hub of this machine, which serves only while a command uses it.
    elif root.is_dir():
        with contextlib.ExitStack() as stack:
            yield stack.enter_context(target.local_hub(root)).endpoint
