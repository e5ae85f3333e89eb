"""Save checkpoints to the Hub because Trainer's `hub_strategy="checkpoint"` seals nothing and resumes from pickles.

A private repo beside the adapter's holds the newest two, each in its folder. Each is pushed as one commit together with
the removal of older ones. A folder is used only with its manifest, only if it holds nothing else, and only if its state
loads without running code.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from rich.console import Console
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import safe_globals

from bonsai.hub.errors import HubError
from bonsai.hub.repo_files import diff_files, folder_files, list_files
from bonsai.hub.retry import DEFAULT_RETRY, RetryPolicy, TransientError, is_stale_parent
from bonsai.recipes.training.checkpoints import (
    KEPT_ASIDE,
    MANIFEST,
    SAVE_TOTAL_LIMIT,
    ResumableCheckpoint,
    RunProgress,
    find_latest_valid_checkpoint,
    write_manifest,
)
from bonsai.recipes.training.recipe import RecipeError

NOT_UPLOADED = frozenset({"training_args.bin"})
"""a pickle of all settings: resuming does not read it, and it may hold a path or a token"""
_STATE = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth"})
_PREFIX = "checkpoint-"
_ASIDE = re.compile(r"step\d+-\d{8}-\d{6}")


def checkpoints_repo(adapter_repo: str) -> str:
    """Name the repo for an adapter's checkpoints."""
    return f"{adapter_repo}-checkpoints"


def push_checkpoint(api: HfApi, checkpoint: Path, repo_id: str, *, patience: RetryPolicy = DEFAULT_RETRY) -> str:
    """Push a sealed checkpoint to a private repo, and keep the one before it; a no-op if it is there already.

    Returns:
        The commit that holds it.

    Raises:
        RecipeError: the checkpoint is not sealed, or the repo is public.
        PushError: the Hub failed for too long; the repo is as it was.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        progress, names = RunProgress(**manifest["progress"]), list(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{checkpoint}: not a sealed checkpoint; push one that training has saved") from error
    with tempfile.TemporaryDirectory(prefix=".pushing-", dir=checkpoint.parent) as parent:
        # 1. Seal a copy without the files that are not uploaded. Hard links outlive the removal of the original, which
        #    training may do while this uploads.
        folder = Path(parent) / checkpoint.name
        for name in names:
            if name not in NOT_UPLOADED:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(checkpoint / name, folder / name)
                except OSError:  # a file system without links
                    shutil.copyfile(checkpoint / name, folder / name)
        write_manifest(folder, progress)
        files = {f"{folder.name}/{name}": path for name, path in folder_files(folder).items()}
        newest = int(folder.name.removeprefix(_PREFIX))

        def commit_files() -> tuple[str, bool]:
            api.create_repo(repo_id, private=True, exist_ok=True)
            info = api.repo_info(repo_id)
            if not info.private:
                raise RecipeError(
                    f"{repo_id} is public; a checkpoint is not for readers: make it private, or delete it"
                )
            remote = list_files(api, repo_id, "model", str(info.sha))
            # The newest in time stays, with those just before it; a higher step is from an earlier, abandoned run.
            steps = _steps(remote)
            before = sorted((step for step in steps if step < newest), reverse=True)[: SAVE_TOTAL_LIMIT - 1]
            old = sorted(steps - {newest, *before})
            change = diff_files(files, {name: at for name, at in remote.items() if name.startswith(f"{folder.name}/")})
            if not change and not old:
                return str(info.sha), False
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=files[name]) for name in change.written),
                *(CommitOperationDelete(path_in_repo=name) for name in change.removed),
                *(CommitOperationDelete(path_in_repo=f"{_PREFIX}{step}/", is_folder=True) for step in old),
            ]
            try:
                made = api.create_commit(repo_id, operations, commit_message=folder.name, parent_commit=info.sha)
            except Exception as error:
                if is_stale_parent(error):
                    raise TransientError(f"{repo_id}: another run pushes its checkpoints here too") from error
                raise
            return str(made.oid), bool(old)

        # 2. Add it and remove the old ones in one commit.
        keeps = f"{repo_id} still holds its earlier checkpoints; training continues"
        commit, removed = patience.run(commit_files, state=lambda: keeps)
        # 3. Squash the history: files that no commit names any more do not count against the owner's storage.
        if removed:
            patience.run(lambda: api.super_squash_history(repo_id), state=lambda: f"{repo_id}: {folder.name} is there")
            commit = str(api.repo_info(repo_id).sha)
    return commit


def download_latest_checkpoint(
    api: HfApi,
    repo_id: str,
    into: Path,
    *,
    tell: Callable[[str], None] = lambda _: None,
    patience: RetryPolicy = DEFAULT_RETRY,
) -> ResumableCheckpoint | None:
    """Download the newest complete checkpoint into ``into``; None: the Hub has none.

    Args:
        tell: gets a message about each newer checkpoint that is incomplete.

    Raises:
        RecipeError: a checkpoint holds state that would run code when it is loaded.
        PushError: the Hub failed for too long.
    """

    def fetch() -> ResumableCheckpoint | None:
        if not api.repo_exists(repo_id):
            return None
        head = str(api.repo_info(repo_id).sha)
        remote = list_files(api, repo_id, "model", head)
        for step in sorted(_steps(remote), reverse=True):
            name = f"{_PREFIX}{step}"
            incomplete = f"{name} in {repo_id} is incomplete; looking at the one before"
            if f"{name}/{MANIFEST}" not in remote:
                tell(incomplete)
                continue
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=into) as folder:
                # 1. Fetch it beside its final location, and compare every file with the manifest. A file that the
                #    manifest does not name would be loaded unchecked.
                api.snapshot_download(repo_id, revision=head, allow_patterns=f"{name}/*", local_dir=folder)
                found = find_latest_valid_checkpoint(Path(folder))
                if found is None or not _holds_only_manifest_files(found.path):
                    tell(incomplete)
                    continue
                # 2. Refuse what could run code, then move it into place.
                check_no_pickled_code(found.path)
                shutil.rmtree(into / name, ignore_errors=True)
                os.replace(found.path, into / name)
                return replace(found, path=into / name)
        return None

    return patience.run(fetch, state=lambda: f"nothing was fetched from {repo_id}; try again")


def check_no_pickled_code(checkpoint: Path, *, unread: Iterable[str] = ()) -> None:
    """Load every state file as tensors and plain values, which runs no code.

    Args:
        unread: names of files that are never loaded.

    Raises:
        RecipeError: a file holds anything else.
    """
    for path in sorted(checkpoint.rglob("*")):
        if path.suffix in _STATE and path.name not in unread:
            try:
                with safe_globals():  # type: ignore[no-untyped-call]
                    torch.load(path, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
                raise RecipeError(
                    f"{path.name} of {checkpoint.name} does not load as plain state, and could run code; "
                    "do not resume from it, and find out who wrote it"
                ) from error


def branch_aside(api: HfApi, repo_id: str) -> str | None:
    """Keep an earlier run's checkpoints on a branch ``step<N>-<date>-<time>``; None: the repo holds none.

    At most ``KEPT_ASIDE`` such branches are kept; the oldest are deleted.
    """
    if not api.repo_exists(repo_id):
        return None
    head = str(api.repo_info(repo_id).sha)
    steps = _steps(list_files(api, repo_id, "model", head))
    if not steps:
        return None
    name = f"step{max(steps)}-{time.strftime('%Y%m%d-%H%M%S')}"
    api.create_branch(repo_id, branch=name, revision=head, exist_ok=True)
    names = [branch.name for branch in api.list_repo_refs(repo_id).branches if _ASIDE.fullmatch(branch.name)]
    for old in sorted(names, key=lambda name: name.partition("-")[2], reverse=True)[KEPT_ASIDE:]:
        api.delete_branch(repo_id, branch=old)
    return name


class HubCheckpointCallback(TrainerCallback):
    """Push each checkpoint in a thread, while training continues; add it after the callback that seals checkpoints.

    A failing Hub is reported and does not stop training. If checkpoints come faster than they upload, only the newest
    waiting one is pushed.

    Args:
        keep_aside: first keep an earlier run's checkpoints on a branch, because this run starts from step 0.
    """

    def __init__(self, api: HfApi, repo_id: str, console: Console, *, keep_aside: bool = False) -> None:
        self._api, self._repo_id, self._console = api, repo_id, console
        self._keep_aside = keep_aside
        self._pushing: threading.Thread | None = None
        self._waiting: Path | None = None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Push now, or as soon as the running push is done."""
        self._waiting = Path(str(args.output_dir)) / f"{_PREFIX}{state.global_step}"
        if self._pushing is None or not self._pushing.is_alive():
            self._pushing = threading.Thread(target=self._push_waiting, daemon=True)
            self._pushing.start()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wait for the last push: an interrupted run may be about to lose its disk."""
        if self._pushing is not None:
            self._pushing.join()
        self._push_waiting()  # a checkpoint that came while the thread was ending

    def _push_waiting(self) -> None:
        while (checkpoint := self._waiting) is not None:
            self._waiting = None
            try:
                if self._keep_aside and (branch := branch_aside(self._api, self._repo_id)):
                    self._console.print(
                        f"{self._repo_id} held an earlier run's checkpoints; they are kept on its branch {branch}: to "
                        f"resume from them, `hf download {self._repo_id} --revision {branch} --local-dir "
                        f"{checkpoint.parent}`, then train with --resume",
                        markup=False,
                        soft_wrap=True,
                    )
                self._keep_aside = False
                push_checkpoint(self._api, checkpoint, self._repo_id)
            except (HubError, RecipeError, OSError) as error:
                self._console.print(Text(f"{checkpoint.name} is on this disk only: {error}"))


def _steps(paths: Iterable[str]) -> set[int]:
    """Find the steps of all checkpoint folders among a repo's files: ``checkpoint-12/optimizer.pt`` -> 12."""
    folders = {path.partition("/")[0] for path in paths if "/" in path and path.startswith(_PREFIX)}
    return {int(step) for name in folders if (step := name.removeprefix(_PREFIX)).isdecimal()}


def _holds_only_manifest_files(checkpoint: Path) -> bool:
    named = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    files = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()}
    return files == {MANIFEST, *named}
