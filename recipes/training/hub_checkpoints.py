"""Save checkpoints to the Hub, and resume from there on another machine.

A private repo beside the adapter's holds the newest two, each in its folder, each pushed as one commit together with
the removal of older ones. A folder is believed only with its manifest, and only if it holds nothing else and its state
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
"""a pickle of all settings, which resuming does not read and which may hold a path or a token"""
_STATE = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth"})
_PREFIX = "checkpoint-"
_ASIDE = re.compile(r"step\d+-\d{8}-\d{6}")


def checkpoints_repo(adapter_repo: str) -> str:
    """Where the checkpoints of an adapter lie."""
    return f"{adapter_repo}-checkpoints"


def push_checkpoint(api: HfApi, checkpoint: Path, repo_id: str, *, patience: RetryPolicy = DEFAULT_RETRY) -> str:
    """Put a sealed checkpoint into a private repo, and keep the one before it; nothing happens if it is there.

    Returns:
        The commit that holds it.

    Raises:
        RecipeError: the checkpoint is not sealed, or the repo is public.
        PushError: the Hub failed for too long; the repo is as it was.
    """
    with _sealed_copy(checkpoint) as folder:
        return _push(api, folder, repo_id, patience)


def _push(api: HfApi, folder: Path, repo_id: str, patience: RetryPolicy) -> str:
    files = {f"{folder.name}/{name}": path for name, path in folder_files(folder).items()}

    def land() -> tuple[str, bool]:
        api.create_repo(repo_id, private=True, exist_ok=True)
        info = api.repo_info(repo_id)
        if not info.private:
            raise RecipeError(f"{repo_id} is public; a checkpoint is not for readers: make it private, or delete it")
        there = list_files(api, repo_id, "model", str(info.sha))
        held = {name: entry for name, entry in there.items() if name.startswith(f"{folder.name}/")}
        old = _steps_to_delete(_steps(there), _step(folder.name))
        change = diff_files(files, held)
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

    commit, tidied = patience.run(land, state=lambda: f"{repo_id} holds the checkpoints it held; training goes on")
    if tidied:  # what no commit names any more no longer counts against the owner's space
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
    """Download the newest whole checkpoint into ``into``, beside what lies there; None: the Hub has none.

    Args:
        tell: told of each newer one that is not whole.

    Raises:
        RecipeError: a checkpoint holds state that would run code when it is loaded.
        PushError: the Hub failed for too long.
    """

    def fetch() -> ResumableCheckpoint | None:
        if not api.repo_exists(repo_id):
            return None
        head = str(api.repo_info(repo_id).sha)
        there = list_files(api, repo_id, "model", head)
        for step in sorted(_steps(there), reverse=True):
            if f"{_PREFIX}{step}/{MANIFEST}" in there and (found := _fetch(api, repo_id, head, step, into)):
                return found
            tell(f"{_PREFIX}{step} in {repo_id} is not whole; looking at the one before")
        return None

    return patience.run(fetch, state=lambda: f"nothing was fetched from {repo_id}; try again")


def _fetch(api: HfApi, repo_id: str, head: str, step: int, into: Path) -> ResumableCheckpoint | None:
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=into) as folder:
        api.snapshot_download(repo_id, revision=head, allow_patterns=f"{_PREFIX}{step}/*", local_dir=folder)
        found = find_latest_valid_checkpoint(Path(folder))
        if found is None or not _only_manifest_files(found.path):
            return None
        check_no_pickled_code(found.path)
        place = into / found.path.name
        shutil.rmtree(place, ignore_errors=True)
        os.replace(found.path, place)
    return ResumableCheckpoint(path=place, step=step, progress=found.progress, damaged=())


def check_no_pickled_code(checkpoint: Path, *, unread: Iterable[str] = ()) -> None:
    """Load every state as tensors and plain values only.

    Args:
        unread: names of files that nobody loads.

    Raises:
        RecipeError: that is not all it holds.
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


@contextmanager
def _sealed_copy(checkpoint: Path) -> Iterator[Path]:
    """A sealed copy without what stays at home; its files are links, so that it outlives the tidying of the disk."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        progress, names = RunProgress(**manifest["progress"]), list(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{checkpoint}: not a sealed checkpoint; push one that training has saved") from error
    with tempfile.TemporaryDirectory(prefix=".pushing-", dir=checkpoint.parent) as parent:
        folder = Path(parent) / checkpoint.name
        for name in names:
            if name not in NOT_UPLOADED:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(checkpoint / name, folder / name)
                except OSError:  # a disk without links
                    shutil.copyfile(checkpoint / name, folder / name)
        write_manifest(folder, progress)
        yield folder


def _only_manifest_files(checkpoint: Path) -> bool:
    """Files beyond the manifest would be loaded unseen."""
    named = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    here = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()}
    return here == {MANIFEST, *named}


def _steps_to_delete(steps: set[int], newest: int) -> list[int]:
    """What goes: all but the newest in time and those just before it; a higher step is an earlier, abandoned run's."""
    before = sorted((step for step in steps if step < newest), reverse=True)
    return sorted(steps - {newest, *before[: SAVE_TOTAL_LIMIT - 1]})


def _steps(paths: Iterable[str]) -> set[int]:
    folders = (path.partition("/")[0] for path in paths if "/" in path)
    return {_step(name) for name in folders if name.startswith(_PREFIX) and name.removeprefix(_PREFIX).isdecimal()}


def _step(name: str) -> int:
    return int(name.removeprefix(_PREFIX))


def branch_aside(api: HfApi, repo_id: str) -> str | None:
    """Keep what an earlier run left in the repo on a branch, ``step<N>-<date>-<time>``; None: it left nothing.

    Branches of that kind beyond ``KEPT_ASIDE`` go, the oldest first.
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
    """Pushes each checkpoint beside the training; comes after the callback that seals it.

    A Hub that fails is told and not waited for. One that is slower than the checkpoints gets the newest.

    Args:
        keep_aside: first keep an earlier run's checkpoints on a branch: this run was begun anew.
    """

    def __init__(self, api: HfApi, repo_id: str, console: Console, *, keep_aside: bool = False) -> None:
        self._api, self._repo_id, self._console = api, repo_id, console
        self._keep_aside = keep_aside
        self._pushing: threading.Thread | None = None
        self._waiting: Path | None = None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Push, now or once the push before is done."""
        self._waiting = Path(str(args.output_dir)) / f"{_PREFIX}{state.global_step}"
        if self._pushing is None or not self._pushing.is_alive():
            self._pushing = threading.Thread(target=self._push_waiting, daemon=True)
            self._pushing.start()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wait for the last push: a run that was asked to stop may be about to lose its disk."""
        if self._pushing is not None:
            self._pushing.join()
        self._push_waiting()  # one that came while the thread was ending

    def _push_waiting(self) -> None:
        while (checkpoint := self._waiting) is not None:
            self._waiting = None
            try:
                if self._keep_aside and (branch := branch_aside(self._api, self._repo_id)):
                    self._console.print(
                        f"{self._repo_id} held an earlier run's checkpoints; they are kept on its branch {branch}: to "
                        f"go on from them, `hf download {self._repo_id} --revision {branch} --local-dir "
                        f"{checkpoint.parent}`, then train with --resume",
                        markup=False,
                        soft_wrap=True,
                    )
                self._keep_aside = False
                push_checkpoint(self._api, checkpoint, self._repo_id)
            except (HubError, RecipeError, OSError) as error:
                self._console.print(Text(f"{checkpoint.name} is on this disk only: {error}"))
