"""The dataset's release: the build as one commit and a tag."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from bonsai.builder.bonsai import VERSION
from bonsai.builder.schema import BonsaiError
from bonsai.hub.client.push import Pushed, folder_files, push

TAG = f"v{VERSION}"


class ReleaseError(BonsaiError):
    """Something stands in the way of a release; nothing was published."""


def release_dataset(api: HfApi, dataset: Path, repo_id: str, *, may_move_tag: bool) -> Pushed:
    """Publish what lies in ``dataset``.

    Raises:
        ReleaseError: there is no build, or it was built for another namespace.
        PushError: the version is published with other content, or somebody committed meanwhile.
    """
    card = dataset / "README.md"
    if not card.is_file():
        raise ReleaseError(f"{dataset}: no dataset is built here; run `nox -s build` first")
    if not (dataset / "report.json").is_file():
        raise ReleaseError(f"{dataset}: built without the checks; run `nox -s build`, which checks and reports")
    if f'load_dataset("{repo_id}")' not in card.read_text(encoding="utf-8"):
        raise ReleaseError(f"{card}: built for another repo than {repo_id}; run `nox -s build` in this namespace")
    return push(
        api,
        repo_id=repo_id,
        repo_type="dataset",
        files=folder_files(dataset),
        message=f"BONSAI {TAG}",
        tag=TAG,
        may_move_tag=may_move_tag,
    )
